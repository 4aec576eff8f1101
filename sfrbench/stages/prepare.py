"""prepare: a raw dataset becomes memory-mapped, z-scored volumes and an index."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from sfrbench.components.base import Case, Dataset
from sfrbench.components.dataset._checks import zscore
from sfrbench.errors import DataError, Problem
from sfrbench.stages.context import StageContext
from sfrbench.store import write_atomic

_PERCENTILES = (0.5, 99.5)


def run(ctx: StageContext) -> None:
    """Component ``dataset``; reads ``ctx.data_root`` unless the dataset is generated.

    Writes ``images/<id>.npy`` (float32), ``labels/<id>.npy`` (uint8), both C-order (X, Y, Z), and
    ``index.json`` (classes, lists, and per case shape, spacing, affine, range, source). One case is in
    memory at a time. Broken cases do not stop the others; they are raised together, as one ``DataError``
    with a problem per case. A killed run goes on at the case where it stopped.
    """
    dataset = ctx.component("dataset", Dataset)
    train, test = dataset.case_lists(ctx.data_root)
    classes = dataset.class_names(ctx.data_root)
    ids = [*train, *test]
    entries: dict[str, Any] = {}
    problems: list[Problem] = []
    for folder in ("images", "labels", "cases"):
        (ctx.scratch / folder).mkdir(parents=True, exist_ok=True)
    for done, case in enumerate(ids):
        ctx.progress(done, len(ids))
        try:
            entries[case] = _prepared(dataset, ctx, case)
        except DataError as error:
            problems.extend(error.problems)
    ctx.progress(len(ids), len(ids))
    if problems:
        raise DataError.of(problems)
    for folder in ("images", "labels"):
        (ctx.out / folder).mkdir(parents=True, exist_ok=True)
        for case in ids:
            _link(ctx.scratch / folder / f"{case}.npy", ctx.out / folder / f"{case}.npy")
    index = {
        "dataset": type(dataset).__name__,
        "classes": list(classes),
        "train": train,
        "test": test,
        "cases": entries,
    }
    (ctx.out / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    ctx.notes["cases"] = len(ids)
    warnings = {case: entry["source"].get("notes") for case, entry in entries.items()}
    warnings = {case: notes for case, notes in warnings.items() if notes}
    if warnings:
        ctx.notes["warnings"] = warnings


def _prepared(dataset: Dataset, ctx: StageContext, case: str) -> Any:
    """The index entry of a case. Its file is written last, so that it stands for a finished case."""
    marker = ctx.scratch / "cases" / f"{case}.json"
    if marker.is_file():
        return json.loads(marker.read_text(encoding="utf-8"))
    read = deep_enough(dataset.read_case(ctx.data_root, case), dataset.min_depth)
    _save(ctx.scratch / "images" / f"{case}.npy", np.asarray(read.image, dtype=np.float32))
    _save(ctx.scratch / "labels" / f"{case}.npy", np.asarray(read.label, dtype=np.uint8))
    entry = entry_of(read)
    write_atomic(marker, json.dumps(entry))
    return entry


def deep_enough(case: Case, least: int | None) -> Case:
    """A case with at least so many slices (``Dataset.min_depth``)."""
    return case if least is None or case.image.shape[2] >= least else deepened(case, least)


def deepened(case: Case, depth: int) -> Case:
    """A case with ``depth`` slices instead of fewer: image linear and z-scored again, label nearest.

    The first and last slice keep their outer faces, so the extent in mm stays as it is. ``source`` notes the
    old depth, for ``volumes.restore``.
    """
    old = case.image.shape[2]
    place = (np.arange(depth) + 0.5) * old / depth - 0.5  # centres of the new slices among the old ones
    low = np.clip(np.floor(place).astype(int), 0, old - 1)
    high, share = np.minimum(low + 1, old - 1), np.clip(place - low, 0, 1).astype(np.float32)
    image = case.image[..., low] * (1 - share) + case.image[..., high] * share
    nearest = (2 * np.arange(depth) + 1) * old // (2 * depth)
    step, affine = old / depth, case.affine
    if affine is not None:
        inner = np.diag([1.0, 1.0, step, 1.0])
        inner[2, 3] = (step - 1) / 2
        affine = (np.asarray(affine) @ inner).tolist()
    return Case(
        image=zscore(image),
        label=case.label[..., nearest],
        spacing=(case.spacing[0], case.spacing[1], case.spacing[2] * step),
        affine=affine,
        source={**case.source, "depth": old},
    )


def entry_of(case: Case) -> dict[str, Any]:
    """What the index says of a case: shape, spacing, affine, range and source."""
    low, high = np.percentile(case.image, _PERCENTILES)
    return {
        "shape": [int(size) for size in case.image.shape],
        "spacing": list(case.spacing),
        "affine": case.affine,
        "range": [float(low), float(high)],
        "source": case.source,
    }


def _save(path: Path, values: np.ndarray) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(values), allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def _link(source: Path, target: Path) -> None:
    """A second name for a file; a copy where the file system knows no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
