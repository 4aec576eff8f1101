"""A fine-tuning: which layers of SAM train."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import Field

from sfrbench.components.base import Finetune
from sfrbench.errors import InputError

if TYPE_CHECKING:
    from sfrbench.components.foundation.segmenter import SamSegmenter


class NewPart(Finetune):
    """The parameters whose names fit one of ``layers`` train, the others stay as they are (ours).

    By default the norms of the image encoder and all of the mask decoder. Names are those of
    ``model.named_parameters()``: they begin with image_encoder, prompt_encoder or mask_decoder. Length,
    batch, loss and optimiser are fields of ``Finetune``. A method that puts layers in gives ``attach`` and
    ``merge``, as ``sfrbench/components/finetune/lora.py``; ``cost`` there is what ``plan`` forecasts by.
    """

    #: Raise it when the behaviour changes: results are kept under it.
    # version: ClassVar[int] = 2

    layers: tuple[str, ...] = Field(
        ("image_encoder.*norm*", "mask_decoder.*"),
        min_length=1,
        description="names of the parameters that train, with * for any text",
    )

    def attach(self, model: SamSegmenter) -> None:
        """Set which parameters train. Raises ``InputError`` where one of ``layers`` names none."""
        unused = set(self.layers)
        for name, value in model.named_parameters():
            fitting = {layer for layer in self.layers if fnmatchcase(name, layer)}
            value.requires_grad_(bool(fitting))
            unused -= fitting
        if unused:
            tops = sorted({name.rpartition(".")[0] for name, _ in model.named_parameters()})
            what = f"no parameter of this SAM is called {' or '.join(sorted(unused))}"
            raise InputError(what, where="finetune.layers", hint=f"its layers: {', '.join(tops[:12])} ...")
