"""Label maps as stages leave them: of a model, of a round of prompts, or as probabilities."""

from __future__ import annotations

import zipfile
import zlib
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sfrbench.engine.volumes import harden
from sfrbench.errors import DataError
from sfrbench.store.store import Artefact

#: What reading an array file that is damaged, or was made by somebody else, may end in.
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError)


def label_map(artefact: Artefact, case: str, classes: int, after: int | None = None) -> NDArray[Any]:
    """The label map of one case, integer (X, Y, Z), of any artefact; ``after`` is the round of prompts.

    Raises ``DataError`` where the artefact has none of this case or this round, one with other classes, or a
    file that cannot be read.
    """
    files = artefact.record["files"]
    if f"rounds/{case}.npz" in files:
        kept = _named(artefact, f"rounds/{case}.npz", [str(after)])
        if not kept:
            raise _absent(artefact, f"no round {after} of it")
        return _checked(kept[str(after)], classes)
    if f"labels/{case}.npy" in files:
        return _checked(_opened(artefact, f"labels/{case}.npy"), classes)
    if f"probs/{case}.npy" in files:
        return harden(_opened(artefact, f"probs/{case}.npy"), classes)
    raise _absent(artefact, "no prediction of it")


def passed_name(label: int, number: int) -> str:
    """What ``passed/<case>.npz`` calls an object after a round."""
    return f"{label}/{number}"


def thresholds_passed(artefact: Artefact, case: str, label: int, after: int) -> NDArray[np.uint8] | None:
    """How many thresholds each voxel's logit is above, uint8 (X, Y, Z), of an object after a round, or after
    its last one before that; none where its user said nothing."""
    names = [passed_name(label, number) for number in range(after, 0, -1)]
    return next(iter(_named(artefact, f"passed/{case}.npz", names, most=1).values()), None)


def _named(
    artefact: Artefact, file: str, names: list[str], most: int | None = None
) -> dict[str, NDArray[Any]]:
    """Those of the arrays of an ``.npz`` file that are there, at most so many of them."""
    try:
        with np.load(artefact.path(file), allow_pickle=False) as kept:
            return {name: kept[name] for name in [name for name in names if name in kept.files][:most]}
    except UNREADABLE as error:
        raise DataError(f"{file} cannot be read: {error}", hint=_again(artefact)) from error


def _checked(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    if labels.dtype.kind not in "iu" or labels.ndim != 3:
        form = f"{labels.dtype} of {labels.ndim} axes"
        raise DataError(f"the prediction is no label map but {form}, not whole numbers (X, Y, Z)")
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(f"the prediction holds values from {low} to {high}, not 0..{classes - 1}")
    return labels


def _opened(artefact: Artefact, file: str) -> NDArray[Any]:
    try:
        return cast("NDArray[Any]", np.load(artefact.path(file), mmap_mode="r", allow_pickle=False))
    except UNREADABLE as error:
        raise DataError(f"{file} cannot be read: {error}", hint=_again(artefact)) from error


def _absent(artefact: Artefact, what: str) -> DataError:
    who = f"{artefact.stage} {artefact.key[:12]}"
    return DataError(f"{who} lists this case and holds {what}", hint=_again(artefact))


def _again(artefact: Artefact) -> str:
    return f"delete the folder {artefact.folder} and run again"
