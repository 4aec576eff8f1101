"""What a round of SFR+ makes of the stored confidences: which cases or crops are confident."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sfrbench.components.base import Selector, Settings
from sfrbench.engine.context import StageContext
from sfrbench.maths.sampling import Patch, Volume
from sfrbench.stages.select.run import SCALE
from sfrbench.store.store import Artefact


@dataclass(frozen=True)
class Selection:
    """Confidences of all unlabelled cases, and the threshold that the selector sets among them."""

    selector: Selector
    artefact: Artefact
    confidence: dict[str, float]
    threshold: float
    _maps: dict[tuple[str, str], Volume] = field(default_factory=dict)

    @classmethod
    def of(cls, ctx: StageContext[Settings]) -> Selection | None:
        """The selection of a round, noted in the record; None for a first training."""
        if "select" not in ctx.inputs:
            return None
        selector, artefact = ctx.component("selector", Selector), ctx.inputs["select"]
        with artefact.path("confidence.csv").open(encoding="utf-8", newline="") as stream:
            confidence = {row["case"]: float(row[selector.over]) for row in csv.DictReader(stream)}
        selection = cls(selector, artefact, confidence, selector.threshold(list(confidence.values())))
        ctx.notes["selection"] = {
            "threshold": selection.threshold
            if np.isfinite(selection.threshold)
            else str(selection.threshold),
            "confident": selection.confident,
            "unlabelled": len(confidence),
        }
        return selection

    @property
    def confident(self) -> list[str]:
        """The confident cases, in list order."""
        return [case for case, value in self.confidence.items() if value >= self.threshold]

    def outcome(self) -> dict[str, Any]:
        """What a training sees of the round's selection: equal where two selections lead to the same."""
        files = self.artefact.record["files"]
        if self._by_crop:
            seen = {name: entry["sha256"] for name, entry in files.items()}
            return {
                "both": self.selector.both,
                "threshold": self.threshold,
                "over": self.selector.over,
                "maps": seen,
            }
        labels = {case: files[f"labels/{case}.npy"]["sha256"] for case in self.confident}
        return {"both": self.selector.both, "confident": labels, "of": list(self.confidence)}

    @property
    def labelled_by_sam(self) -> list[str]:
        """The cases whose labels by SAM a re-training may read, in list order."""
        if self.selector.both or self._by_crop:
            return list(self.confidence)
        return [case for case, value in self.confidence.items() if value < self.threshold]

    @property
    def left(self) -> list[str] | None:
        """What a labelling sees of the round's selection: the cases to label; None: all, as without one."""
        cases = self.labelled_by_sam
        return None if len(cases) == len(self.confidence) else cases

    @property
    def candidates(self) -> list[str]:
        """Cases whose crops may update SAM: with ``unit`` crop all, since each crop is judged on its own."""
        return list(self.confidence) if self._by_crop else self.confident

    @property
    def _by_crop(self) -> bool:
        return self.selector.unit == "crop" and bool(np.isfinite(self.threshold))

    def is_confident(self, patch: Patch) -> bool:
        """Whether the crop, or the case that it is from, reaches the threshold."""
        if not self._by_crop:
            return self.confidence[patch.case] >= self.threshold
        certainty = patch.view.take(self.map("certainty", patch.case)).astype(np.float64) / SCALE
        seen = patch.inside
        if self.selector.over == "foreground":
            seen = seen & (patch.view.take_labels(self.map("labels", patch.case)) > 0)
        return bool(seen.any() and certainty[seen].mean() >= self.threshold)

    def is_labelled_by_sam(self, patch: Patch) -> bool:
        """Whether L_pl is taken on the crop."""
        return self.selector.both or not self.is_confident(patch)

    def map(self, kind: str, case: str) -> Volume:
        """A stored map (X, Y, Z) of a case, 'labels' or 'certainty'; opened once."""
        if (kind, case) not in self._maps:
            self._maps[kind, case] = np.load(self.artefact.path(f"{kind}/{case}.npy"), mmap_mode="r")
        return self._maps[kind, case]
