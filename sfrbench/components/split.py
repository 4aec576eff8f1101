"""Who of the training and test lists plays which part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sfrbench.errors import InputError


@dataclass(frozen=True)
class Split:
    """Who plays which part. Labels of ``unlabelled`` are for evaluation only."""

    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def split_cases(
    train: Sequence[str],
    test: Sequence[str],
    *,
    without_label: Collection[str] = (),
    labeled: int,
    choice: int = 0,
    unlabeled: int | None = None,
    val: int = 0,
    max_test: int | None = None,
) -> Split:
    """Split the lists, in their order: the pool is ``train`` without its last ``val`` cases.

    Run ``choice`` of ``labeled`` consecutive pool cases is labelled (wrapping round the end); run 0 is the
    published convention, the first n of the list. ``unlabeled`` and ``max_test`` are upper bounds. Cases
    ``without_label`` stand behind the pool: they are unlabelled and nothing else.
    """
    bare = [case for case in train if case in without_label]
    known = [case for case in train if case not in without_label] if bare else list(train)
    named = f"{len(known)} training cases" + (f" with a label ({len(bare)} more have none)" if bare else "")
    if val >= len(known):
        what = f"val: {val} validation cases leave nothing of {named}"
        raise InputError(what, hint="lower dataset.val")
    pool = known[: len(known) - val]
    if not 1 <= labeled <= len(pool):
        raise InputError(
            f"labeled: {labeled} labelled cases asked for, the training pool has {len(pool)}",
            hint=f"there are {named}, {val} of them for validation; lower dataset.labeled or val",
        )
    labelled = [pool[(choice * labeled + i) % len(pool)] for i in range(labeled)]
    rest = [*(case for case in pool if case not in set(labelled)), *bare]
    return Split(
        labelled=tuple(labelled),
        unlabelled=tuple(rest if unlabeled is None else rest[:unlabeled]),
        val=tuple(known[len(known) - val :]),
        test=tuple(test if max_test is None else test[:max_test]),
    )
