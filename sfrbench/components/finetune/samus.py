"""SAMUS: a finer token grid and a convolutional branch beside the frozen ViT."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from sfrbench.components.base import VIT, Finetune
from sfrbench.components.finetune.parts import HEAD

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Sam, Tuned
    from sfrbench.components.foundation.segmenter import SamSegmenter


class Samus(Finetune):
    """Patches of the pretrained size at half their stride, and a parallel CNN that global blocks attend to.

    Trains the adapters (after the patch embedding; in each global block cross-attention, a bottleneck beside
    the MLP, and a convolution of the CNN's maps), the CNN, a convolution over the position table, and the
    relative position tables of the global blocks. Sources: Lin et al. 2024 (SAMUS) and xianlin7/SAMUS, which
    freezes prompt encoder and mask decoder, having clicks and one mask. Here, as in SFR's comparison, there
    are no clicks and K new mask tokens, so the head (mask tokens and their MLPs) trains as well. Left out:
    the weight 2 of the foreground in its cross-entropy. Defined for segment-anything's ViT encoders.
    """

    encoders: ClassVar[tuple[str, ...]] = (VIT,)

    train_decoder: bool = Field(False, description="the whole mask decoder trains, not its head alone")

    def cost(self, sam: Sam, canvases: int) -> Tuned | None:
        from sfrbench.components.costs import tuned

        return tuned.samus(sam, decoder=self.train_decoder)

    def attach(self, model: SamSegmenter) -> None:
        """Rebuild the image encoder around its pretrained parts; new layers draw from torch's global RNG."""
        from sfrbench.components.finetune import _samus

        model.requires_grad_(False)
        _samus.attach(model)
        for name in HEAD:
            model.mask_decoder.get_submodule(name).requires_grad_(True)
        if self.train_decoder:
            model.mask_decoder.requires_grad_(True)
