"""What scores are of: the names in the column ``subset`` of the tidy frame, written and read here alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sfrbench.stages import roles

TEST, VAL, UNLABELLED = "test", "val", "unlabelled"
_LABELS = re.compile(rf"{UNLABELLED} round (\d+)")


def labels_of_round(number: int) -> str:
    """The pseudo-labels that round ``number`` made; 0: the first ones."""
    return f"{UNLABELLED} round {number}" if number else UNLABELLED


def before_round(number: int) -> str:
    """The segmenter's labels of unlabelled cases that round ``number`` of SFR+ chooses from."""
    return f"round {number}"


def rounds_among(names: Iterable[str]) -> dict[int, str]:
    """The rounds whose pseudo-labels are among the subsets, by number."""
    found = {int(told[1]): name for name in names if (told := _LABELS.fullmatch(name))}
    return dict(sorted(found.items()))


def subset_of_role(role: str, score: str) -> str:
    """What an evaluate node of a cell scores; ``score`` is the cell's own choice, 'test' or 'val'."""
    if role in (roles.RESULT, roles.PSEUDO):
        return score if role == roles.RESULT else UNLABELLED
    stage, number = roles.round_of(role) or ("", 0)
    return labels_of_round(number) if stage == "pseudolabel" else before_round(number)
