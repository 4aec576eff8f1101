"""What a user said of an object, as prompts on slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sfrbench.components.base_prompts import Box, Click, Said


@dataclass(frozen=True)
class OnSlice:
    """The prompts on one slice. Without any the slice is said to lack the object."""

    box: Box | None = None
    clicks: tuple[Click, ...] = ()

    @property
    def places(self) -> list[tuple[int, int]]:
        """Voxels (x, y): the corners of the box first, as the model wants it, then the clicks."""
        corners = [] if self.box is None else [self.box.low[:2], self.box.high[:2]]
        return [*corners, *(click.at[:2] for click in self.clicks)]

    @property
    def labels(self) -> list[int]:
        """What each place is: 2 and 3 the corners of a box, 1 within the object, 0 not."""
        return [*([] if self.box is None else [2, 3]), *(int(click.inside) for click in self.clicks)]

    @property
    def only_denies(self) -> bool:
        """Whether it says where the object is not, and no more."""
        return 0 in self.labels and not any(self.labels)


def by_slice(said: Sequence[Said]) -> Mapping[int, OnSlice]:
    """All that was said, in ascending order of slices. Clicks add up; of two boxes on a slice the later one
    holds; a click or a box on a slice takes back that the object is not there.

    A box of the whole object stands on its middle slice (MedSAM2's key slice) and restricts nothing.
    """
    found: dict[int, OnSlice] = {}
    for one in said:
        for box in one.boxes:
            found[box.middle] = OnSlice(box, found.get(box.middle, OnSlice()).clicks)
        for click in one.clicks:
            held = found.get(click.at[2], OnSlice())
            found[click.at[2]] = OnSlice(held.box, (*held.clicks, click))
        for index in one.absent:
            found.setdefault(index, OnSlice())
    return dict(sorted(found.items()))
