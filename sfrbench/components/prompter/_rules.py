"""Where the next click lies, by the rules of released code.

What each does where nothing is missed or wrong stands in ``PERFECT``: its authors ask for no click then, or
their code makes one that means little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sfrbench.components.base_prompts import Click, Scene, Voxel
from sfrbench.components.prompter._depths import Depths, Spacing, depths
from sfrbench.components.prompter._names import ON_A_SLICE, Rule

if TYPE_CHECKING:
    from sfrbench.components.base_prompts import Mask


@dataclass(frozen=True)
class View:
    """What a rule sees: the volume, or a slice of it as (X, Y, 1)."""

    truth: Mask
    prediction: Mask
    spacing: Spacing
    flat: bool
    rng: np.random.Generator
    clicked: tuple[Voxel, ...] = ()  # before, and within what it sees

    @cached_property
    def missed(self) -> Mask:
        """Voxels of the object alone."""
        return self.truth & ~self.prediction

    @cached_property
    def wrong(self) -> Mask:
        """Voxels of the prediction alone."""
        return self.prediction & ~self.truth

    def drawn(self, mask: Mask) -> Voxel:
        """Any voxel of a mask that is not empty."""
        found = np.flatnonzero(mask)
        x, y, z = np.unravel_index(found[self.rng.integers(found.size)], mask.shape)
        return int(x), int(y), int(z)

    def depths(self, mask: Mask) -> Depths:
        return depths(mask, self.spacing, self.flat)


def next_click(scene: Scene, rule: Rule, in_mm: bool, stops: bool) -> Click | None:
    """The click that a rule makes after the rounds so far; none where it has nothing to say, or where
    nothing is missed or wrong and it ``stops`` then."""
    amiss = scene.truth != scene.prediction
    found = amiss.any()
    if stops and not found:
        return None
    spacing = scene.spacing if in_mm else (1.0, 1.0, 1.0)
    clicked = tuple(click.at for said in scene.said for click in said.clicks) if rule == "ritm" else ()
    choose = (CLICKS if found else PERFECT)[rule]
    if rule not in ON_A_SLICE:
        return choose(View(scene.truth, scene.prediction, spacing, False, scene.rng))
    number = _slice_of(scene.truth if rule == "first_random" or not found else amiss, clicked)
    if number is None:
        return None
    here = slice(number, number + 1)
    truth, prediction = scene.truth[:, :, here], scene.prediction[:, :, here]
    before = tuple((x, y, 0) for x, y, z in clicked if z == number)
    click = choose(View(truth, prediction, spacing, True, scene.rng, before))
    return None if click is None else Click((click.at[0], click.at[1], number), click.inside)


def _slice_of(mask: Mask, clicked: tuple[Voxel, ...]) -> int | None:
    """The first slice of those with the most voxels of a mask, and one that was not clicked; none: there is
    no such slice."""
    areas = mask.sum(axis=(0, 1))
    left = areas.copy()
    for voxel in set(clicked):
        left[voxel[2]] -= int(mask[voxel])
    areas[left <= 0] = 0
    return int(areas.argmax()) if areas.any() else None


def _any(view: View) -> Click:
    """Any voxel that is missed or wrong."""
    at = view.drawn(view.missed | view.wrong)
    return Click(at, bool(view.truth[at]))


def _balanced(view: View) -> Click:
    """A coin for missed or wrong, where there are both; then any of these."""
    inside = bool(view.missed.any())
    if inside and view.wrong.any():
        inside = view.rng.random() > 0.5
    return Click(view.drawn(view.missed if inside else view.wrong), inside)


def _deeper(view: View) -> tuple[Depths, bool]:
    """The depths of the missed or of the wrong voxels, whichever are deeper without those clicked before; the
    wrong ones, where both are as deep. And whether they are of the object."""
    missed, wrong = (view.depths(mask).without(view.clicked) for mask in (view.missed, view.wrong))
    inside = missed.greatest > wrong.greatest
    return missed if inside else wrong, inside


def _core(view: View) -> Click:
    """Any voxel deeper than half the greatest depth."""
    deeper, inside = _deeper(view)
    core = np.flatnonzero(deeper.values > deeper.greatest / 2)
    return Click(deeper.at(int(core[view.rng.integers(core.size)])), inside)


def _deepest(view: View) -> Click:
    """The deepest voxel, the first of several in scan order."""
    deeper, inside = _deeper(view)
    return Click(deeper.at(int(deeper.values.argmax())), inside)


def _of_object(view: View) -> Click | None:
    """Any voxel of the object."""
    return Click(view.drawn(view.truth), True) if view.truth.any() else None


def _of_background(view: View) -> Click | None:
    """Any voxel of the background, negative."""
    return None if view.truth.all() else Click(view.drawn(~view.truth), False)


def _first_of_background(view: View) -> Click | None:
    """The first voxel of the background in scan order, negative. The released code takes the first pixel of
    the image, whatever is there."""
    if view.truth.all():
        return None
    x, y, z = np.unravel_index(int((~view.truth).argmax()), view.truth.shape)
    return Click((int(x), int(y), int(z)), False)


def _anywhere(view: View) -> Click:
    """Any voxel, said to be background even where it is not."""
    x, y, z = (int(view.rng.integers(side)) for side in view.truth.shape)
    return Click((x, y, z), False)


def _middle(view: View) -> Click:
    """The middle of the volume, said to be background even where it is not."""
    x, y, z = (side // 2 for side in view.truth.shape)
    return Click((x, y, z), False)


#: Where something is missed or wrong in what the rule sees.
CLICKS: Mapping[Rule, Callable[[View], Click | None]] = {
    "random": _any,
    "random_balanced": _balanced,
    "ritm3d": _core,
    "ritm": _deepest,
    "center": _deepest,
    "uniform": _any,
    "first_random": _of_object,
}
#: Where nothing is: what the released code makes. SAM-Med3D's of today for its rules; of 2024 it fails there.
PERFECT: Mapping[Rule, Callable[[View], Click | None]] = {
    "random": _of_object,
    "random_balanced": _anywhere,
    "ritm3d": _middle,
    "ritm": _first_of_background,
    "center": _first_of_background,
    "uniform": _of_background,
    "first_random": _of_object,
}
