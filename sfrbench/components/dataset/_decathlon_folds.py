"""The split of a fold: nnU-Net's ``splits_final.json``, or the folds that MONAI's entries name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sfrbench.components.dataset._checks import check_lists
from sfrbench.components.dataset._decathlon_cases import Folder
from sfrbench.components.dataset._decathlon_unread import some
from sfrbench.components.dataset._manifest import read_json
from sfrbench.components.dataset._names import composed
from sfrbench.errors import DataError

SPLITS = "splits_final.json"


def read_fold(root: Path, fold: int, folder: Folder) -> tuple[list[str], list[str]]:
    """Training and validation ids of a fold of ``splits_final.json``, else of the entries' own ``fold``.

    Raises ``DataError``.
    """
    path = root / SPLITS
    own = {case: entry.fold for case, entry in folder.labelled.items() if entry.fold is not None}
    if not path.is_file() and own:
        test = [case for case, number in own.items() if number == fold]
        if not test:
            what = f"no labelled case of dataset.json has fold {fold}"
            raise DataError(what, where=str(root / "dataset.json"), hint="see the folds of its entries")
        return [case for case in folder.labelled if own.get(case) != fold], test
    if not path.is_file():
        hint = "copy it from nnUNet_preprocessed into the data folder, or leave dataset.fold out"
        raise DataError(f"{SPLITS} is missing", where=str(path), hint=hint)
    folds = read_json(path)
    hint = 'the file is a list of folds, each {"train": [ids], "val": [ids]}'
    if not isinstance(folds, list) or not all(_is_fold(each) for each in folds):
        raise DataError("these are not folds of nnU-Net", where=str(path), hint=hint)
    if fold >= len(folds):
        what = f"there is no fold {fold}: the file holds {len(folds)}, the first is 0"
        raise DataError(what, where=str(path), hint="lower dataset.fold")
    train, test = (list(map(composed, folds[fold][part])) for part in ("train", "val"))
    check_lists({f"train (fold {fold})": (path, train), f"val (fold {fold})": (path, test)})
    strange = {*train, *test} - folder.labelled.keys() - folder.bare.keys()
    if strange:
        what = f"fold {fold} names {len(strange)} cases that are no training cases: {some(strange)}"
        raise DataError(what, where=str(path), hint="is this the file of this dataset?")
    bare = [case for case in test if case in folder.bare]
    if bare:
        what = f"fold {fold} tests on {len(bare)} cases that have no label: {some(bare)}"
        raise DataError(what, where=str(path), hint="bring their labels, or take them off 'val'")
    return [case for case in train if case in folder.labelled], test


def _is_fold(each: Any) -> bool:
    lists = [each.get("train"), each.get("val")] if isinstance(each, dict) else []
    return bool(lists) and all(
        isinstance(ids, list) and all(isinstance(case, str) for case in ids) for ids in lists
    )
