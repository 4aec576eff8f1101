"""Fine-tuning without adapters: some parts of the model train, the others stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field, field_validator, model_validator

from sfrbench.components.base import Finetune

if TYPE_CHECKING:
    from sfrbench.components.costs.parts import Sam, Tuned
    from sfrbench.components.foundation.segmenter import SamSegmenter

Part = Literal["image_encoder", "prompt_encoder", "mask_decoder", "head"]
#: The part "head": what turns the decoder's features into K maps. SAM's IoU head reads no gradient here.
HEAD = ("mask_tokens", "output_hypernetworks_mlps")


class Parts(Finetune):
    """The named parts train in full.

    Sources of the shipped cards: MedSAM (Ma et al. 2024; bowang-lab/MedSAM) trains the mask decoder in its
    v0.1 and image encoder and mask decoder later. MedSAM has box prompts and a sigmoid loss; here, as in
    SFR's comparison, there are no prompts, K mask tokens, and the loss of every other strategy (eq. 5).
    """

    parts: tuple[Part, ...] = Field(("mask_decoder",), min_length=1, description="the parts that train")
    views: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="fixed augmented views of each labelled case, encoded once (5 MB each at canvas 1024; of "
        "SAM 2 88 MB, without high_res 4); none: new crops at every step. Needs an image encoder that does "
        "not train",
    )

    @field_validator("parts")
    @classmethod
    def _in_one_order(cls, value: tuple[Part, ...]) -> tuple[Part, ...]:
        """The same parts in another order are the same settings, and so the same key."""
        if {"head", "mask_decoder"} <= set(value):
            raise ValueError("'head' is a part of 'mask_decoder': keep one of the two")
        return tuple(part for part in get_args(Part) if part in value)

    @model_validator(mode="after")
    def _views_need_a_frozen_encoder(self) -> Parts:
        if self.views is not None and "image_encoder" in self.parts:
            raise ValueError("views: stored embeddings would be stale, since the image encoder trains")
        return self

    @property
    def fixed_views(self) -> int | None:
        return self.views

    def cost(self, sam: Sam, canvases: int) -> Tuned | None:
        from sfrbench.components.costs import tuned

        return tuned.parts(sam, self.parts, views=self.views is not None)

    def attach(self, model: SamSegmenter) -> None:
        """Set which parameters train; the model itself does not change."""
        model.requires_grad_(False)
        for part in self.parts:
            if part == "head":
                for name in HEAD:
                    model.mask_decoder.get_submodule(name).requires_grad_(True)
            else:
                model.get_submodule(part).requires_grad_(True)
