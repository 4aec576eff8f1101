"""Of what the sides of a patch must be multiples. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from sfrbench.errors import InputError

#: Four halvings along each axis.
MULTIPLES = (16, 16, 16)


def no_multiple(sides: Sequence[int], multiples: Sequence[int] = MULTIPLES) -> str:
    """'a side that is no multiple of 16', or of its own number along each axis; empty: all sides are."""
    if not any(side % by for side, by in zip(sides, multiples, strict=True)):
        return ""
    of = multiples[0] if len(set(multiples)) == 1 else f"its own in {list(multiples)}"
    return f"a side that is no multiple of {of}"


def nearest(sides: Sequence[int], multiples: Sequence[int] = MULTIPLES) -> list[int]:
    """The nearest patch that fits; of two as near, the larger."""
    return [max(by, (side + by // 2) // by * by) for side, by in zip(sides, multiples, strict=True)]


def check_sides(network: str, sides: Sequence[int], multiples: Sequence[int] = MULTIPLES) -> None:
    """Raises ``InputError`` where a side is no multiple of what the network shrinks it by."""
    if fault := no_multiple(sides, multiples):
        raise InputError(
            f"{network} cannot take a patch of {list(sides)} voxels: {fault}",
            where="dataset.patch",
            hint=f"nearest that fits: {nearest(sides, multiples)}",
        )
