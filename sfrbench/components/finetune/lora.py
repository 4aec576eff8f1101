"""LoRA in the image encoder's attention, prompt encoder and mask decoder trained in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from sfrbench.components.base import Finetune

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Sam, Tuned
    from sfrbench.components.foundation.segmenter import SamSegmenter


class Lora(Finetune):
    """Low-rank adapters on q and v of every block, k untouched, the rest of the encoder frozen.

    Sources: Hu et al. 2022 for LoRA, SAMed (Zhang and Liu 2023) for where it goes, SFR's released code
    for the recipe (AdamW 1e-3, weight decay 0.1, poly 0.9, 6000 steps of 2 canvases).
    """

    rank: int = Field(4, ge=1, le=256, description="rank of the adapters")

    def cost(self, sam: Sam, canvases: int) -> Tuned | None:
        from sfrbench.components.costs import tuned

        return tuned.lora(sam, self.rank)

    def attach(self, model: SamSegmenter) -> None:
        """Insert adapters (A from torch's global RNG, B zero: the first forward does not change)."""
        from sfrbench.components.finetune import _lora

        model.requires_grad_(False)
        _lora.attach(model.image_encoder, self.rank)
        model.prompt_encoder.requires_grad_(True)
        model.mask_decoder.requires_grad_(True)

    def merge(self, model: SamSegmenter) -> None:
        """Fold the adapters into the frozen weights and restore the encoder's own parameter names."""
        from sfrbench.components.finetune import _lora

        _lora.merge(model.image_encoder)
