"""Volumes as the stage ``interact`` shows them, and what a user says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Click, Said
from sfrbench.components.foundation.prompted import Shown


def shown(image: NDArray[np.float32], folder: Path) -> Shown:
    """The volume with a folder of its own, its whole range taken for its percentiles."""
    scratch = folder / str(len(list(folder.iterdir())))
    scratch.mkdir()
    return Shown(image, (float(image.min()), float(image.max())), (1.0, 1.0, 1.0), scratch)


def on(x: int, y: int, z: int, inside: bool = True) -> Said:
    """One click."""
    return Said(clicks=(Click((x, y, z), inside),))
