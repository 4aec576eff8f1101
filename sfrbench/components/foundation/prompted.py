"""What a foundation that takes prompts gives the stage ``interact``: a model, a volume, an object in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sfrbench.components.base_prompts import Box, Form, Said
from sfrbench.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Shown:
    """A prepared volume as a model gets it."""

    image: NDArray[np.float32]  # (X, Y, Z), z-scored
    range: tuple[float, float]  # 0.5 and 99.5 percentiles of it
    spacing: tuple[float, float, float]  # mm along x, y, z
    scratch: Path  # an empty folder for what does not fit into memory; it is gone after the case


def forms_of(said: Said) -> frozenset[Form]:
    """What was said; a box on one slice is a ``slice_box``, whatever it is around."""
    boxes: set[Form] = {"slice_box" if box.low[2] == box.high[2] else "box" for box in said.boxes}
    clicks: set[Form] = {"click"} if said.clicks else set()
    return frozenset(boxes | clicks | ({"absent"} if said.absent else set()))


def understood(said: Said, takes: frozenset[Form]) -> None:
    """Raises ``InputError`` where a round has a prompt that a model does not take.

    A box around an object of one slice is one on that slice, so a model that takes boxes takes that, too.
    """
    strange = forms_of(said) - takes - ({"slice_box"} if "box" in takes else set())
    if strange:
        told, known = (", ".join(sorted(forms)) for forms in (strange, takes))
        raise InputError(f"prompts that this model does not understand: {told}; it takes {known}")


class PromptedObject(Protocol):
    """One object of a volume. It remembers what it was told and what it answered."""

    def segment(self, said: Sequence[Said]) -> NDArray[np.float32]:
        """Logits (X, Y, Z) after all that was said, the newest round last; above 0 is the object.

        Called once for each round, with one round more each time. Voxels that the model does not look at hold
        a negative number. Raises ``InputError`` where a form of prompt is not taken (``understood``).
        """


class PromptedVolume(Protocol):
    """A volume before the model. What does not depend on the object is computed once for all of them."""

    def an_object(self, extent: Box | None) -> PromptedObject:
        """A new object; ``extent`` is the box around its truth, where ``Foundation.given_extent``."""


class PromptedModel(Protocol):
    """A model that segments from prompts."""

    def to(self, device: str) -> PromptedModel:
        """The model on a device."""

    def open(self, shown: Shown) -> PromptedVolume:
        """A volume before the model."""
