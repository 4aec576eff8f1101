"""Of what the sides of a patch must be multiples. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from sfrbench.errors import InputError

#: Four halvings along each axis.
MULTIPLES = (16, 16, 16)


def no_multiple(sides: Sequence[int], multiples: Sequence[int] = MULTIPLES) -> str:
    """'a side that is no multiple of 16', or of its own number along each axis; empty: all sides are."""
    if not any(side % by for side, by in zip(sides, multiples, strict=True)):
        return ""
    of = multiples[0] if len(set(multiples)) == 1 else f"its own in {list(multiples)}"
    return f"a side that is no multiple of {of}"


def nearest(sides: Sequence[int], multiples: Sequence[int] = MULTIPLES, least: int = 1) -> list[int]:
    """The nearest patch that fits and leaves ``least`` voxels, 1 or 2, at the bottleneck; of two as near, the
    larger."""
    fitting = [max(by, (side + by // 2) // by * by) for side, by in zip(sides, multiples, strict=True)]
    if prod(fitting) < least * prod(multiples):
        longest = max(range(len(fitting)), key=lambda axis: sides[axis] / multiples[axis])
        fitting[longest] *= least
    return fitting


def misfit(sides: Sequence[int], multiples: Sequence[int], least: int) -> str:
    """What is wrong with a patch, with the nearest that is right; empty: nothing."""
    what = no_multiple(sides, multiples)
    if not what and prod(sides) < least * prod(multiples):
        what = "one voxel left where the network is deepest, over which its norm has no variance"
    return f"has {what}; nearest that fits: {nearest(sides, multiples, least)}" if what else ""


def check_sides(network: str, sides: Sequence[int], multiples: Sequence[int] = MULTIPLES) -> None:
    """Raises ``InputError`` where a side is no multiple of what the network shrinks it by."""
    if fault := no_multiple(sides, multiples):
        raise InputError(
            f"{network} cannot take a patch of {list(sides)} voxels: {fault}",
            where="dataset.patch",
            hint=f"nearest that fits: {nearest(sides, multiples)}",
        )
