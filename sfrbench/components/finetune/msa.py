"""Bottleneck adapters in the image encoder, mask decoder trained in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import VIT, Finetune

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Sam, Tuned
    from sfrbench.components.foundation.segmenter import SamSegmenter


class Msa(Finetune):
    """Medical SAM Adapter in 2D: two adapters a block, the encoder itself and the prompt encoder frozen.

    One adapter follows the attention, with a skip; one stands beside the MLP, without a skip, times
    ``mlp_scale``. Adapters stay in the model at inference. Sources: Wu et al. 2025 (Medical SAM Adapter) and
    KidsWithTokens/Medical-SAM-Adapter; its code has GELU, its text ReLU. Left out: the third adapter of its
    3D mode (attention along depth), which a stitched canvas does not need, and click prompts. On TinyViT the
    adapters go into the transformer blocks, as in that repository; the convolutional stage has none.

    That repository cuts windows before a block's first norm, segment-anything after it: ``window_padding``.
    """

    later_fields: ClassVar[Mapping[str, Any]] = {**Finetune.later_fields, "window_padding": "sam"}

    encoders: ClassVar[tuple[str, ...]] = (VIT, "a TinyViT")

    ratio: float = Field(0.25, gt=0, le=1, description="width of the bottleneck, as a share of the block's")
    activation: Literal["gelu", "relu"] = Field("gelu", description="'relu' is the text's")
    mlp_scale: float = Field(0.5, gt=0, le=10, description="factor of the adapter beside the MLP")
    zero_start: bool = Field(
        False, description="true: adapters begin as the identity, so the first forward is the pretrained one"
    )

    window_padding: Literal["sam", "msa"] = Field(
        "sam",
        description="windows at the border filled up with zeros after the norm (segment-anything) or before "
        "it (the code of Medical SAM Adapter); TinyViT always does the latter",
    )

    def cost(self, sam: Sam, canvases: int) -> Tuned | None:
        from sfrbench.components.costs import tuned

        return tuned.bottlenecks(sam, self.ratio)

    def attach(self, model: SamSegmenter) -> None:
        """Insert adapters, initialised as torch does unless ``zero_start``; needs transformer blocks."""
        from sfrbench.components.finetune import _adapter

        model.requires_grad_(False)
        _adapter.attach(
            model.image_encoder,
            ratio=self.ratio,
            activation=self.activation,
            mlp_scale=self.mlp_scale,
            zero=self.zero_start,
        )
        if self.window_padding == "msa":
            _adapter.pad_before_norm(model.image_encoder)
        for name, value in model.image_encoder.named_parameters():
            if "_adapter." in name:
                value.requires_grad_(True)
        model.mask_decoder.requires_grad_(True)
