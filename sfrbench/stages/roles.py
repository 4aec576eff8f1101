"""What the nodes of a cell are called: a role is a stage, or a stage in a round, or what is scored.

Roles are written and read here alone.
"""

from __future__ import annotations

#: The score of what the cell predicts, and of its first pseudo-labels.
RESULT, PSEUDO = "evaluate", "evaluate_pseudo"
_SCORED = "evaluate_"


def in_round(stage: str, number: int) -> str:
    """The role of a stage in a round of SFR+ or of self-training, such as ``select_1``."""
    return f"{stage}_{number}"


def scored(role: str) -> str:
    """The role of the scores of the labels that another role's node makes."""
    return _SCORED + role


def round_of(role: str) -> tuple[str, int] | None:
    """Stage and round number of a role such as ``select_2``, or of the scores of such a role; None for
    others."""
    stage, _, number = role.removeprefix(_SCORED).rpartition("_")
    return (stage, int(number)) if stage and number.isdigit() else None
