"""external: label maps of test or validation cases that another tool made, brought to the prepared grid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfrbench.components.base import Dataset
from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset._given_labels import as_prepared, class_numbers, on_raw_grid, read_given
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import Kept, case_by_case
from sfrbench.engine.volumes import CaseInfo, Volumes
from sfrbench.errors import DataError, Problem, few
from sfrbench.stages.external.files import find, fingerprint
from sfrbench.stages.external.recipe import ExternalSettings


def run(ctx: StageContext[ExternalSettings]) -> None:
    """Input ``prepare``; component ``dataset``. Labels of the data are never opened.

    Every file is turned to the raw grid of its case by the two headers, its values made classes, and it goes
    the way of the case's own label to the prepared grid. Writes ``labels/<case>.npy``, uint8 (X, Y, Z);
    ``said/<case>.json`` with ``missing`` (it has no file and is empty), ``turned`` (its axes ran in another
    way) and ``outside``, the foreground voxels that are not part of the prepared volume; and ``index.json``
    with the cases and what was said of them. How long the other tool took is not known.

    Raises ``DataError`` with the faults of all cases, and where a file is another one than when the run was
    planned. A killed run goes on at the case where it stopped.
    """
    volumes, told = Volumes(ctx.inputs["prepare"]), ctx.settings
    split = told.split.of(volumes)
    cases = {"test": split.test, "val": split.val}[told.subset]
    _unchanged(told, cases)
    maps = _Maps(ctx, volumes, find(Path(told.folder), told.files, cases).of)

    def one(case: str) -> dict[str, Kept]:
        try:
            return maps.of(case)
        except DataError as error:
            later = maps.faults(cases[cases.index(case) + 1 :])
            raise DataError.of([*error.problems, *later]) from error

    case_by_case(ctx, cases, one)
    _unchanged(told, cases)
    said = {case: json.loads((ctx.out / "said" / f"{case}.json").read_text("utf-8")) for case in cases}
    index = {"cases": list(cases), "seconds_per_case": {}, "said": said}
    (ctx.out / "index.json").write_text(json.dumps(index), encoding="utf-8")
    ctx.notes.update(_notes(said))


class _Maps:
    """The label maps of some cases on the prepared grid."""

    def __init__(
        self, ctx: StageContext[ExternalSettings], volumes: Volumes, files: Mapping[str, Path]
    ) -> None:
        self._volumes, self._files, self._told = volumes, files, ctx.settings
        self._dataset = ctx.component("dataset", Dataset)
        self._labels = None if ctx.settings.labels is None else dict(ctx.settings.labels)

    def of(self, case: str) -> dict[str, Kept]:
        """The label map of a case, and what is to be said of it. Raises ``DataError``."""
        info = self._volumes.case(case)
        if case not in self._files:
            if self._told.missing == "refuse":
                where = f"case {case}, {self._told.folder}"
                hint = "bring it; 'missing: empty' counts it as an empty label map"
                raise DataError("the case has no file", where=where, hint=hint)
            empty = np.zeros(info.shape, dtype=np.uint8)
            return {"labels": empty, "said": {"missing": True, "turned": False, "outside": 0}}
        place = Place(case, self._files[case])
        values, turned = on_raw_grid(read_given(place), *_raw_grid(info), place)
        classes = self._volumes.classes
        numbers = class_numbers(values, self._labels, self._told.other, classes, place)
        label, outside = as_prepared(numbers, info, len(classes), self._dataset)
        return {"labels": label, "said": {"missing": False, "turned": turned, "outside": outside}}

    def faults(self, cases: Sequence[str]) -> list[Problem]:
        """What is wrong with the files of these cases."""
        found: list[Problem] = []
        for case in cases:
            try:
                self.of(case)
            except DataError as error:
                found += error.problems
        return found


def _raw_grid(info: CaseInfo) -> tuple[Sequence[int], Any]:
    """Shape and affine of the raw grid; where a dataset keeps no way back, that is the prepared one."""
    if "shape" not in info.source:
        return info.shape, None if info.affine is None else np.asarray(info.affine)
    affine = info.source.get("affine")
    return info.source["shape"], None if affine is None else np.asarray(affine, dtype=np.float64)


def _unchanged(told: ExternalSettings, cases: Sequence[str]) -> None:
    """Raises ``DataError`` where the files are others than when the run was planned."""
    if fingerprint(find(Path(told.folder), told.files, cases).of) != told.fingerprint:
        hint = "run again, once nobody writes there: what is there then is another result"
        raise DataError("files have changed since the run was planned", where=told.folder, hint=hint)


def _notes(said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """For the record: cases without a file, how many were turned, and voxels outside of the volumes."""
    missing = [case for case, one in said.items() if one["missing"]]
    turned = sum(one["turned"] for one in said.values())
    outside = {case: one["outside"] for case, one in said.items() if one["outside"]}
    notes = {"missing": f"{len(missing)}: {few(missing)}" if missing else "", "turned": turned}
    return {name: value for name, value in {**notes, "outside": outside}.items() if value}
