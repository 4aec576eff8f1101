"""Classes that are never found. A mean over classes hides them: 37.7 may be 0 and 75.5.

A class is dead in a seed where every case that has it is missed: predicted empty, or with a Dice below
``LEAST``. All tables and captions with a mean over classes tell it by what stands here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

LEAST = 0.5  # percent
_RULE = f"Dice below {LEAST:g} % or predicted empty in every case"
#: What the star in the columns of single classes means.
STAR = f"*: never found in one seed at least ({_RULE})."


@dataclass(frozen=True)
class Dead:
    """A class of a line that is dead in ``seeds``, of ``of``; ``cases`` have it there."""

    cls: str
    seeds: tuple[int, ...]
    of: int
    cases: int

    @property
    def text(self) -> str:
        """``Anterior 0 in 20 of 20 cases, 2 of 3 seeds``."""
        seeds = f", {len(self.seeds)} of {self.of} seeds" if self.of > 1 else ""
        return f"{self.cls} 0 in {self.cases} of {self.cases} cases{seeds}"


def find(
    frame: pd.DataFrame, seeds: Collection[int] | None = None, cases: Collection[str] | None = None
) -> tuple[Dead, ...]:
    """The dead classes of one line's rows of the tidy frame (of some seeds and cases), in its order."""
    if seeds is not None:
        frame = frame[frame["seed"].isin(seeds)]
    if cases is not None:
        frame = frame[frame["case"].isin(cases)]
    there = frame[~frame["empty_gt"].astype(bool)]
    low = (there["metric"] == "dice") & (there["value"] < LEAST)
    missed = there["empty_pred"].astype(bool) | low
    if not missed.any():
        return ()
    of_case: dict[tuple[str, int], dict[str, bool]] = {}  # class and seed; case and whether it is missed
    columns = (there["class"], there["seed"], there["case"], missed)
    for cls, seed, case, lost in zip(*columns, strict=True):
        cases_ = of_case.setdefault((str(cls), int(seed)), {})
        cases_[str(case)] = cases_.get(str(case), False) or bool(lost)
    dead: dict[str, dict[int, int]] = {}  # class; seed and its cases
    for (cls, seed), all_missed in of_case.items():
        if all(all_missed.values()):
            dead.setdefault(cls, {})[seed] = len(all_missed)
    of = int(frame["seed"].nunique())
    return tuple(Dead(cls, tuple(sorted(own)), of, max(own.values())) for cls, own in dead.items())


def note(dead: Sequence[Dead], what: str = "") -> str:
    """What a note says of them, empty for none; ``what`` names the one of several lines that they are of."""
    if not dead:
        return ""
    head = f"{what}: " if what else ""
    return f"{head}never found ({_RULE}): {'; '.join(one.text for one in dead)}"


def sentence(lines: Iterable[tuple[str, Sequence[Dead]]]) -> tuple[str, ...]:
    """The note of a figure on named lines; empty if no class of any is dead."""
    told = [f"{name}: {'; '.join(one.text for one in dead)}" for name, dead in lines if dead]
    return (f"Never found ({_RULE}): {'. '.join(told)}.",) if told else ()
