"""How much a dataset holds: its lists where its folder is here, else what is published of it."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfrbench.components.costs.parts import Extent
from sfrbench.errors import SfrbenchError

if TYPE_CHECKING:
    from sfrbench.components.base_data import Dataset

_HEADERS = 16  # read of a dataset whose volumes nobody has described


def extent(
    dataset: Dataset,
    root: Path | None,
    shape: Sequence[float],
    *,
    classes: int,
    lists: tuple[int, int],
    downsample: int = 1,
) -> Extent:
    """A dataset of volumes of ``shape`` on average. ``lists``: the lengths of its published lists, for a
    machine where its folder is not, or cannot be read."""
    train, test = lists
    bare = 0
    if root is not None or not dataset.needs_root:
        try:
            found = dataset.case_lists(root)
            train, test = len(found[0]), len(found[1])
            bare = len(dataset.without_label(root))
        except (SfrbenchError, OSError):  # 'data check' and 'not ready here' say what is wrong
            pass
    x, y, z = (side / downsample for side in shape)
    return Extent(train, test, classes, (x, y, max(z, dataset.min_depth or 0)), bare)


def mean_shape(files: Sequence[Path]) -> tuple[float, float, float] | None:
    """The mean size of some of these NIfTI files, from their headers; none where none can be read."""
    step = max(len(files) // _HEADERS, 1)
    shapes = [shape for file in files[::step] if (shape := _shape(file)) is not None]
    if not shapes:
        return None
    x, y, z = (sum(sides) / len(shapes) for sides in zip(*shapes, strict=True))
    return x, y, z


def _shape(file: Path) -> tuple[int, int, int] | None:
    """The first three sides of a NIfTI-1 or NIfTI-2 file, of either byte order."""
    try:
        with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as stream:
            header = stream.read(80)
    except (OSError, EOFError):
        return None
    for size, code, at in ((348, "hhhh", 40), (540, "qqqq", 16)):
        for order in "<>":
            if len(header) == 80 and struct.unpack_from(f"{order}i", header)[0] == size:
                _, x, y, z = struct.unpack_from(f"{order}{code}", header, at)
                return (x, y, z) if min(x, y, z) > 0 else None
    return None
