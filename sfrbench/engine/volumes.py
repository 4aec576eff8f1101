"""Prepared volumes: memory-mapped images, labels behind a gate, the split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.split import Split, split_cases
from sfrbench.errors import DataError, LeakError, did_you_mean, few

if TYPE_CHECKING:
    from sfrbench.components.base import Dataset
    from sfrbench.store.store import Artefact

#: The purposes for which labels of test cases may be opened; more may follow a colon ("evaluate: picture").
#: ``INTERACT`` is the simulated user, who looks at the truth to place prompts.
EVALUATE, INTERACT = "evaluate", "interact"
OPENS_TEST = (EVALUATE, INTERACT)


@dataclass(frozen=True)
class CaseInfo:
    """What the index holds of one case."""

    shape: tuple[int, int, int]  # voxels of the prepared grid
    spacing: tuple[float, float, float]  # mm along x, y, z of the prepared grid
    affine: list[list[float]] | None  # 4x4 of the prepared grid; none where the source has none
    range: tuple[float, float]  # 0.5 and 99.5 percentiles of the stored image
    source: Mapping[str, Any] = field(default_factory=dict)  # raw geometry, see ``geometry.restore``


def case_info(entry: Mapping[str, Any]) -> CaseInfo:
    """What ``prepare`` writes of one case, typed."""
    x, y, z = entry["shape"]
    sx, sy, sz = entry["spacing"]
    low, high = entry["range"]
    return CaseInfo((x, y, z), (sx, sy, sz), entry["affine"], (low, high), entry["source"])


class LabelView:
    """The label maps of the granted cases, and of no others. Each map is uint8 (X, Y, Z), read-only."""

    def __init__(self, volumes: Volumes, ids: Iterable[str], purpose: str) -> None:
        self._volumes = volumes
        self.ids = frozenset(ids)
        self.purpose = purpose
        self.opened: set[str] = set()

    def __getitem__(self, case: str) -> NDArray[np.uint8]:
        if case not in self.ids:
            raise LeakError(
                f"the label of this case was not granted for '{self.purpose}'",
                where=f"case {case}",
                hint=f"granted: {len(self.ids)} cases; a stage may read only the labels that its task allows",
            )
        self.opened.add(case)
        return self._volumes._array("labels", case)

    def __contains__(self, case: object) -> bool:
        return case in self.ids

    def __len__(self) -> int:
        return len(self.ids)


class Volumes:
    """A ``prepare`` artefact. Files are opened once per case and stay memory-mapped."""

    def __init__(self, artefact: Artefact) -> None:
        self._artefact = artefact
        index = json.loads(artefact.path("index.json").read_text(encoding="utf-8"))
        self.dataset: str = index["dataset"]
        self.classes: tuple[str, ...] = tuple(index["classes"])
        self.train: list[str] = list(index["train"])
        self.test: list[str] = list(index["test"])
        self._cases: dict[str, Any] = index["cases"]
        #: Training cases without a label: there is none to read, whatever it is for.
        self.without_label = frozenset(
            case for case, entry in self._cases.items() if not entry.get("labelled", True)
        )
        self._open: dict[tuple[str, str], NDArray[Any]] = {}

    def case(self, case: str) -> CaseInfo:
        """Shape, spacing, affine, intensity range and raw geometry of one case."""
        return case_info(self._entry(case))

    def image(self, case: str) -> NDArray[np.float32]:
        """The z-scored image, float32 (X, Y, Z), a read-only memory map."""
        return self._array("images", case)

    def labels(self, ids: Iterable[str], purpose: str) -> LabelView:
        """A view of the labels of ``ids``.

        Raises ``LeakError`` for test cases unless the purpose, up to a colon, is one of ``OPENS_TEST``, and
        ``DataError`` for a case of ``without_label``.
        """
        granted = list(ids)
        for case in granted:
            self._entry(case)
            if case in self.without_label:
                what = f"this case has no label, and '{purpose}' asks for it"
                raise DataError(what, where=f"case {case}", hint="ask for those of the other cases only")
        if purpose.partition(":")[0] not in OPENS_TEST:
            held_out = set(self.test)
            leaked = [case for case in granted if case in held_out]
            if leaked:
                raise LeakError(
                    f"only {' and '.join(OPENS_TEST)} open labels of test cases, not '{purpose}'",
                    where=f"case {leaked[0]}",
                    hint=f"{len(leaked)} of {len(granted)} cases asked for belong to the test list",
                )
        return LabelView(self, granted, purpose)

    def split(self, **fields: Any) -> Split:
        """``split_cases`` of these volumes; ``fields`` as there."""
        return split_cases(self.train, self.test, without_label=self.without_label, **fields)

    def _entry(self, case: str) -> Any:
        if case not in self._cases:
            hint = did_you_mean(case, self._cases) if len(self._cases) <= 12 else "index.json lists the cases"
            what = f"the prepared dataset '{self.dataset}' has no such case"
            raise DataError(what, where=f"case {case}", hint=hint)
        return self._cases[case]

    def _array(self, folder: str, case: str) -> NDArray[Any]:
        key = (folder, case)
        if key not in self._open:
            self._entry(case)
            path = self._artefact.path(f"{folder}/{case}.npy")
            self._open[key] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._open[key]


def check_foreground(
    label_of: Callable[[str], NDArray[Any]],
    cases: Sequence[str],
    *,
    where: str = "",
    hint: str = "bring their labels, or label others (dataset.labeled, dataset.choice)",
) -> None:
    """Raises ``DataError`` where none of the ``cases`` has a foreground voxel: there is no class to learn."""
    if not any(label_of(case).any() for case in cases):
        what = f"none of the {len(cases)} labelled training cases has a foreground voxel: {few(cases)}"
        raise DataError(what, where=where, hint=hint)


def split_of(data: Dataset, volumes: Volumes) -> Split:
    """The split that the fields of a dataset give."""
    return volumes.split(
        labeled=data.labeled,
        choice=data.choice,
        unlabeled=data.unlabeled,
        val=data.val,
        max_test=data.max_test,
    )


def harden(probs: NDArray[Any], classes: int) -> NDArray[np.uint8]:
    """Foreground probabilities (K - 1, X, Y, Z) to the most probable of K classes, uint8 (X, Y, Z).

    Background has one minus their sum; of equally probable classes the lowest wins."""
    if probs.ndim != 4 or probs.shape[0] != classes - 1:
        raise DataError(f"the probabilities {list(probs.shape)} lack the {classes - 1} foreground channels")
    best = 1 - probs.sum(axis=0, dtype=np.float32)
    if not np.isfinite(best).all():
        raise DataError("the probabilities hold values that are not finite")
    labels = np.zeros(best.shape, dtype=np.uint8)
    for label, channel in enumerate(probs, start=1):
        wins = channel > best
        labels[wins] = label
        best[wins] = channel[wins]
    return labels
