"""Label maps as stages leave them: of a model, of a round of prompts, or as probabilities."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sfrbench.engine.volumes import harden
from sfrbench.errors import DataError
from sfrbench.store.store import Artefact


def label_map(artefact: Artefact, case: str, classes: int, after: int | None = None) -> NDArray[Any]:
    """The label map of one case, integer (X, Y, Z), of any artefact; ``after`` is the round of prompts.

    Raises ``DataError`` where the artefact has none of this case, or one with other classes.
    """
    files = artefact.record["files"]
    if f"rounds/{case}.npz" in files:
        with np.load(artefact.path(f"rounds/{case}.npz"), allow_pickle=False) as kept:
            return _checked(kept[str(after)], classes)
    if f"labels/{case}.npy" in files:
        return _checked(_opened(artefact, f"labels/{case}.npy"), classes)
    if f"probs/{case}.npy" in files:
        return harden(_opened(artefact, f"probs/{case}.npy"), classes)
    raise DataError(
        f"{artefact.stage} {artefact.key[:12]} lists this case and holds no prediction of it",
        hint=f"delete the folder {artefact.folder} and run again",
    )


def _checked(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(f"the prediction holds values from {low} to {high}, not 0..{classes - 1}")
    return labels


def _opened(artefact: Artefact, name: str) -> NDArray[Any]:
    return cast("NDArray[Any]", np.load(artefact.path(name), mmap_mode="r", allow_pickle=False))
