"""Which cell of a plan a user means: by id, by title, or by arm, values of axes and seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from sfrbench.errors import InputError, did_you_mean
from sfrbench.plan.build import Cell, Plan

_SHOWN = 20  # cells in a message
_TITLE = re.compile(r"(?P<point>.*?)(?:\s+seed\s+(?P<seed>\d+))?")


def find_cell(plan: Plan, name: str, seed: int | None = None) -> Cell:
    """The one cell that ``name`` means: an id, a title such as ``sfr_mt stitch.scale=4 seed 0``, or a part of
    one that no other cell has. Raises ``InputError`` with the nearest names, or with all cells that fit.
    """
    wanted = " ".join(name.split())
    cells = [cell for cell in plan.cells if wanted in (cell.id, cell.title, cell.point)]
    if not cells:
        told = _TITLE.fullmatch(wanted)
        assert told is not None  # every part of the pattern may be empty
        cells = _by_words(plan, told["point"].split())
        seed = int(told["seed"]) if told["seed"] and seed is None else seed
    if seed is not None:
        cells = _narrow(cells, f"seed {seed}", str(seed), lambda cell: str(cell.seed))
    if len(cells) > 1:
        listed = "".join(f"\n    {cell.id}  {cell.title}" for cell in cells[:_SHOWN])
        more = f"\n    and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
        raise InputError(
            f"'{name}' fits {len(cells)} cells", hint=f"name one, by id or in full:{listed}{more}"
        )
    return cells[0]


def _by_words(plan: Plan, words: Sequence[str]) -> list[Cell]:
    """Cells of the arm that the first word names, at the values (PATH=VALUE) that the others give."""
    arm = words[0] if words else ""
    cells = [cell for cell in plan.cells if cell.arm == arm]
    if not cells:
        reasons = {entry.reason for entry in plan.excluded if entry.arm == arm}
        left_out = f"the arm is left out: {'; '.join(sorted(reasons))}. " if reasons else ""
        hint = left_out + did_you_mean(arm, {cell.arm for cell in plan.cells})
        raise InputError(f"no cell of '{plan.spec.name}' is called '{arm}'", hint=hint)
    for word in words[1:]:
        path, _, value = word.partition("=")
        if path not in cells[0].axes:
            known = did_you_mean(path, cells[0].axes) or "this experiment has no axes"
            raise InputError(f"'{word}': write AXIS=VALUE", hint=known)
        cells = _narrow(cells, word, value, partial(_value, path))
    return cells


def _value(path: str, cell: Cell) -> str:
    return str(cell.axes[path])


def _narrow(cells: Sequence[Cell], what: str, value: str, text: Callable[[Cell], str]) -> list[Cell]:
    fitting = [cell for cell in cells if text(cell).lower() == value.lower()]
    if not fitting:
        known = ", ".join(dict.fromkeys(text(cell) for cell in cells))
        raise InputError(f"no cell of '{cells[0].arm}' has {what}", hint=f"there are {known}")
    return fitting
