"""What a user says to a model that segments from prompts, and the kind of component that plays this user.

Places are voxels (x, y, z) of the prepared volume; a slice is a plane of its last axis. Nothing here imports
torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.core import Component

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

Voxel = tuple[int, int, int]
#: What can be said: a click; a box around the whole object; a box on one slice; that a slice has no object.
Form = Literal["click", "box", "slice_box", "absent"]


@dataclass(frozen=True)
class Click:
    """A voxel, and whether the object is there (positive) or is not (negative)."""

    at: Voxel
    inside: bool


@dataclass(frozen=True)
class Box:
    """The first and the last voxel along x, y and z, both within. On a single slice both have the same z."""

    low: Voxel
    high: Voxel

    @classmethod
    def around(cls, mask: Mask) -> Box:
        """The tight box around a mask (X, Y, Z). Raises ``ValueError`` where it is empty."""
        from sfrbench.maths.boxes import box_of

        found = box_of(mask)
        if found is None:
            raise ValueError("there is no voxel to put a box around")
        x, y, z = found
        return cls((x.start, y.start, z.start), (x.stop - 1, y.stop - 1, z.stop - 1))

    @property
    def middle(self) -> int:
        """The slice in its middle, the lower one of two."""
        return (self.low[2] + self.high[2]) // 2


@dataclass(frozen=True)
class Said:
    """What a user says of one object in one round. Nothing at all: there is nothing more to say."""

    clicks: tuple[Click, ...] = ()
    boxes: tuple[Box, ...] = ()  # of the whole object, or of one slice each
    absent: tuple[int, ...] = ()  # slices that are said to lack the object
    #: First and last slice that are to be segmented; the others stay empty. None: all.
    span: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """How many prompts these are."""
        return len(self.clicks) + len(self.boxes) + len(self.absent)

    def told(self) -> dict[str, Any]:
        """In JSON types; what is empty is left out."""
        said: dict[str, Any] = {}
        if self.clicks:
            said["clicks"] = [[*click.at, int(click.inside)] for click in self.clicks]
        if self.boxes:
            said["boxes"] = [[*box.low, *box.high] for box in self.boxes]
        if self.absent:
            said["absent"] = list(self.absent)
        if self.span is not None:
            said["span"] = list(self.span)
        return said

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Said:
        """The reverse of ``told``."""
        span = told.get("span")
        return cls(
            tuple(Click((x, y, z), bool(inside)) for x, y, z, inside in told.get("clicks", ())),
            tuple(Box((x, y, z), (u, v, w)) for x, y, z, u, v, w in told.get("boxes", ())),
            tuple(told.get("absent", ())),
            None if span is None else (span[0], span[1]),
        )


@dataclass(frozen=True)
class Scene:
    """What the simulated user sees of one object of one case before a round."""

    truth: Mask  # (X, Y, Z), this object as the user knows it
    prediction: Mask  # (X, Y, Z), the model's after the rounds so far; empty before the first
    labelled: tuple[int, int]  # first and last slice that hold any object of the case
    rng: np.random.Generator  # of case, object, round and the cell's seed
    said: Sequence[Said] = ()  # the rounds so far
    spacing: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0))  # mm


class Prompter(Component):
    """The simulated user: it sees the truth of the case, says where the object is, and corrects the model.

    One run asks it for ``rounds`` rounds and keeps the map after each; ``count`` and ``scored`` say which of
    them are scored, so that 2, 5 and 10 clicks are one run whose first clicks are the same.
    """

    kind: ClassVar[str] = "prompter"
    #: Fields that only ``evaluate`` reads.
    evaluate_fields: ClassVar[frozenset[str]] = frozenset({"count", "scored"})

    count: int | None = Field(
        None, ge=1, le=1000, description="rounds after which the map is scored; none: after all of them"
    )
    scored: Literal["last", "best"] = Field(
        "last",
        description="'last': the map after 'count' rounds; 'best': of these rounds the one of the highest "
        "Dice, case by case and class by class, as only the truth can tell (SAM-Med3D's script of 2024)",
    )

    @property
    def rounds(self) -> int:
        """How many rounds are simulated."""
        return 1

    @property
    def after(self) -> int:
        """The round whose map is scored."""
        return self.rounds if self.count is None else self.count

    @property
    def forms(self) -> frozenset[Form]:
        """What it may say."""
        raise NotImplementedError

    @property
    def random(self) -> bool:
        """Whether it draws; if not, all seeds are one run."""
        return True

    @property
    def from_guess(self) -> bool:
        """Whether it takes the prediction of the cell's own segmenter for the truth, and never sees that."""
        return False

    @property
    def shows(self) -> str:
        """What its prompts tell of the truth beyond their places; empty: nothing."""
        return ""

    def say(self, scene: Scene) -> Said:
        """The next round's prompts. Nothing, where nothing is left to say."""
        raise NotImplementedError

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        if self.after <= self.rounds:
            return []
        what = f"the map after round {self.count} is to be scored (count), and it has {self.rounds}"
        number = " (its number of clicks)" if "number" in type(self).model_fields else ""
        arm = "; an arm that an axis prompter.count does not concern has without: [prompter.count]"
        return [f"{what}{number}{arm}"]
