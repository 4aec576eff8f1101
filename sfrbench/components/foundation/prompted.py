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

#: The logit of a voxel that a slice model did not look at, or where it judges that there is no object.
UNSEEN = -1024.0


@dataclass(frozen=True)
class Shown:
    """A prepared volume as a model gets it."""

    image: NDArray[np.float32]  # (X, Y, Z), z-scored
    range: tuple[float, float]  # 0.5 and 99.5 percentiles of it
    spacing: tuple[float, float, float]  # mm along x, y, z
    scratch: Path  # an empty folder for what does not fit into memory; it is gone after the case

    def grey(self, z: int) -> NDArray[np.float32]:
        """A slice (X, Y) as a picture of 8 bits: whole grey levels from 0 to 255 over ``range``."""
        import numpy as np

        low, high = self.range
        levels: NDArray[np.float32] = np.clip((self.image[:, :, z] - low) / max(high - low, 1e-6), 0, 1) * 255
        return np.rint(levels)


def forms_of(said: Said) -> frozenset[Form]:
    """What was said; a box on one slice is a ``slice_box``, whatever it is around."""
    boxes: set[Form] = {"slice_box" if box.low[2] == box.high[2] else "box" for box in said.boxes}
    clicks: set[Form] = {"click"} if said.clicks else set()
    return frozenset(boxes | clicks | ({"absent"} if said.absent else set()))


def beyond(said: Said, forms: frozenset[Form]) -> list[Form]:
    """What was said and is none of ``forms``. A box around an object of one slice is one on that slice, so
    that one may be said, too, where a box may."""
    return sorted(forms_of(said) - forms - ({"slice_box"} if "box" in forms else set()))


def span_of(said: Sequence[Said], slices: int) -> tuple[int, int]:
    """First and last slice that are to be segmented, by the newest word on it; all, where there is none."""
    told = next((one.span for one in reversed(said) if one.span is not None), (0, slices - 1))
    return max(told[0], 0), min(told[1], slices - 1)


def understood(said: Said, takes: frozenset[Form]) -> None:
    """Raises ``InputError`` where a round has a prompt that a model does not take."""
    strange = beyond(said, takes)
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
