"""prepare: a raw dataset becomes memory-mapped volumes and an index."""

from __future__ import annotations

import json

from sfrbench.components.base import Dataset
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import check_foreground
from sfrbench.errors import DataError, Problem
from sfrbench.stages.prepare.case import Shelf, link
from sfrbench.stages.prepare.recipe import PrepareSettings
from sfrbench.stages.prepare.workers import prepare_all


def run(ctx: StageContext[PrepareSettings]) -> None:
    """Component ``dataset``; reads ``ctx.data_root`` unless the dataset is generated.

    Writes ``images/<id>.npy`` (float32), ``labels/<id>.npy`` (uint8; none for a case without a label), both
    C-order (X, Y, Z), and ``index.json`` (classes, lists, and per case shape, spacing, affine, range, source,
    and ``labelled: false`` where there is no label). Each of
    ``dataset.workers`` processes has one case in memory at a time; how many they are changes no bit. Broken
    cases do not stop the others; they are raised together, as one ``DataError`` with a problem per case. A
    killed run goes on at the cases that were not finished, and so does a run after a file was mended.
    """
    dataset = ctx.component("dataset", Dataset)
    train, test = dataset.case_lists(ctx.data_root)
    classes = dataset.class_names(ctx.data_root)
    ids = [*train, *test]
    shelf = Shelf(ctx.scratch, dataset, ctx.data_root)
    shelf.open()
    adopted = shelf.adopt(ids)
    problems: dict[str, tuple[Problem, ...]] = {}
    ctx.progress(0, len(ids))
    for done, (case, found) in enumerate(prepare_all(shelf, ids), 1):
        if found:
            problems[case] = found
        ctx.progress(done, len(ids))
    if problems:
        raise DataError.of([problem for case in ids for problem in problems.get(case, ())])
    entries = {case: shelf.entry(case) for case in ids}
    labelled = [case for case in train if entries[case].get("labelled", True)]
    if labelled:  # whichever of them a training takes
        hint = "bring the labels; 'sfrbench data check' says what is in them"
        check_foreground(shelf.label, labelled, where=str(shelf.root or ""), hint=hint)
    for folder in ("images", "labels"):
        (ctx.out / folder).mkdir(parents=True, exist_ok=True)
        for case in ids:
            if folder == "images" or entries[case].get("labelled", True):
                link(shelf.file(folder, case), ctx.out / folder / f"{case}.npy")
    index = {
        "dataset": type(dataset).__name__,
        "classes": list(classes),
        "train": train,
        "test": test,
        "cases": entries,
    }
    (ctx.out / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    ctx.notes.update({"cases": len(ids), **({"adopted": adopted} if adopted else {})})
    bare = sum(not entry.get("labelled", True) for entry in entries.values())
    ctx.notes.update({"without_label": bare} if bare else {})
    warnings = {case: entry["source"].get("notes") for case, entry in entries.items()}
    warnings = {case: notes for case, notes in warnings.items() if notes}
    if warnings:
        ctx.notes["warnings"] = warnings
    remarks = dataset.remarks(ctx.data_root)
    ctx.notes.update({"remarks": list(remarks)} if remarks else {})
