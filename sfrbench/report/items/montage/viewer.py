"""The data of the slice viewer: every slice of a case, as pictures that a page can hold.

The slices of one array are tiled on one sheet, an 8-bit picture: images grey, label maps with the class as
grey value. All arrays of a case are cut to one box around everything that is labelled or predicted.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base_prompts import Said

if TYPE_CHECKING:
    from sfrbench.report.facts.volumes import MontageCase

#: What the pictures of one viewer may weigh, base64 included.
LIMIT = 2_500_000
PROBE = 8  # of so many slices one is tried first
MARGIN = 6  # voxels around the box, in a slice; one third of it along z
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Panel:
    """One arm's view of one case: its volumes, or the reason why there are none."""

    label: str
    score: str
    volumes: MontageCase | None
    reason: str = ""


@dataclass(frozen=True)
class _Arrays:
    """The arrays of one panel, label maps by kind."""

    image: NDArray[Any]
    maps: Mapping[str, NDArray[Any]]
    spacing: tuple[float, float, float]
    said: Sequence[Said] = ()


def slices(cases: Sequence[tuple[str, str]], panels: Sequence[Sequence[Panel]]) -> dict[str, Any] | None:
    """What the page's script needs for (rank, name) of each case and its panels; None without volumes.

    Where the pictures would weigh more than ``LIMIT``, images become JPEG, and then slices are left out at
    an even step; ``said`` tells which.
    """
    rows = [[_read(panel.volumes) if panel.volumes else None for panel in row] for row in panels]
    if not any(arrays is not None for row in rows for arrays in row):
        return None
    boxes = [_boxes([one for one in row if one is not None]) for row in rows]

    def tried(kind: str, step: int) -> tuple[list[dict[str, Any]], _Sheets]:
        sheets = _Sheets(kind)
        made = [
            {"rank": rank, "name": name, **_case(row, arrays, of, sheets, step)}
            for (rank, name), row, arrays, of in zip(cases, panels, rows, boxes, strict=True)
        ]
        return made, sheets

    kind, step = "PNG", 1
    made, sheets = tried(kind, PROBE)  # a share of the slices tells what all of them weigh
    if sheets.weight * PROBE > 2 * LIMIT:
        kind = "JPEG"
        step = max(1, -(-tried(kind, PROBE)[1].weight * PROBE // LIMIT))
    made, sheets = tried(kind, step)
    while sheets.weight > LIMIT and step < 64:
        kind, step = "JPEG", step if kind == "PNG" else step + -(-step // 4)
        made, sheets = tried(kind, step)
    return {"cases": made, "sheets": sheets.all, "said": _said(kind, step)}


def _said(kind: str, step: int) -> str:
    said = "Every slice" if step == 1 else f"One slice in {step}"
    lossy = "; images are compressed with loss" if kind == "JPEG" else ""
    why = ", as all would make the page too heavy" if step > 1 else ""
    return (
        f"{said} of the part with labels or predictions{why}{lossy}. Contrast: 1st to 99th percentile of it."
    )


def _read(volumes: MontageCase) -> _Arrays:
    getters = {"truth": volumes.truth, "prediction": volumes.prediction, "pseudo": volumes.pseudo}
    maps = {kind: np.asarray(get()) for kind, get in getters.items() if get is not None}
    return _Arrays(np.asarray(volumes.image()), maps, volumes.spacing, volumes.said)


def _boxes(read: Sequence[_Arrays]) -> dict[tuple[int, ...], Box]:
    """One box for the arrays of each shape."""
    shapes = {one.image.shape for one in read}
    return {shape: _box([one for one in read if one.image.shape == shape]) for shape in shapes}


def _case(
    row: Sequence[Panel],
    read: Sequence[_Arrays | None],
    boxes: Mapping[tuple[int, ...], Box],
    sheets: _Sheets,
    step: int,
) -> dict[str, Any]:
    """The panels of one case. ``slices`` is the number of slices, ``start`` the one with most truth."""
    panels = []
    for panel, arrays in zip(row, read, strict=True):
        facts: dict[str, Any] = {"label": panel.label, "score": panel.score, "reason": panel.reason}
        if arrays is not None:
            facts |= _panel(arrays, boxes[arrays.image.shape], sheets, step)
        panels.append(facts)
    first = next((facts for facts in panels if "image" in facts), {"slices": 0, "start": 0})
    return {"panels": panels, "slices": first["slices"], "start": first["start"]}


def _box(group: Sequence[_Arrays]) -> Box:
    """Around all that any map of any panel marks, and all prompts, with a margin; everything where nothing
    is marked."""
    shape = group[0].image.shape
    marked = np.zeros(shape, dtype=bool)
    for arrays in group:
        for labels in arrays.maps.values():
            marked |= labels != 0
        for one in arrays.said:
            for place in (*(c.at for c in one.clicks), *(at for b in one.boxes for at in (b.low, b.high))):
                marked[place] = True
    if not marked.any():
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    sides = []
    for axis, length in enumerate(shape):
        places = np.flatnonzero(marked.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = MARGIN if axis < 2 else MARGIN // 3
        sides.append(slice(max(0, int(places[0]) - margin), min(length, int(places[-1]) + 1 + margin)))
    return sides[0], sides[1], sides[2]


def _panel(arrays: _Arrays, box: Box, sheets: _Sheets, step: int) -> dict[str, Any]:
    truth = arrays.maps["truth"][box]
    best = int(np.count_nonzero(truth, axis=(0, 1)).argmax()) if truth.any() else truth.shape[2] // 2
    shown = np.arange(best % step, truth.shape[2], step)  # the slice with most truth is always among them
    width, height = truth.shape[:2]
    return {
        "width": width,
        "height": height,
        "slices": len(shown),
        "start": best // step,
        "columns": _columns(len(shown)),
        "first": int(shown[0]) + box[2].start,
        "step": step,
        "aspect": width * arrays.spacing[0] / (height * arrays.spacing[1]),
        "image": sheets.add(arrays.image, box, shown, grey=True),
        **{kind: sheets.add(labels, box, shown) for kind, labels in arrays.maps.items()},
        **_prompts(arrays.said, box, len(shown), best % step, step),
    }


def _prompts(said: Sequence[Said], box: Box, count: int, first: int, step: int) -> dict[str, Any]:
    """Clicks as (column, row, slice, on the object) and boxes as (first column, first row, last column, last
    row, first slice, last slice), in pixels and slices of the sheets; what lies on a slice that is left out
    is on the nearest one."""
    left, start = box[0].start, box[2].start
    top = box[1].stop - 1

    def slice_of(z: int) -> int:
        return int(min(count - 1, max(0, round((z - start - first) / step))))

    clicks = [
        [click.at[0] - left, top - click.at[1], slice_of(click.at[2]), int(click.inside)]
        for one in said
        for click in one.clicks
    ]
    boxes = []
    for (x, y, z), (u, v, w) in ((given.low, given.high) for one in said for given in one.boxes):
        boxes.append([x - left, top - v, u - left, top - y, slice_of(z), slice_of(w)])
    return {name: found for name, found in (("clicks", clicks), ("boxes", boxes)) if found}


def _columns(count: int) -> int:
    return math.ceil(math.sqrt(count))


class _Sheets:
    """Pictures as data URLs, equal ones once; ``kind`` is the format of images, label maps are always PNG."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._places: dict[str, int] = {}
        self._known: dict[tuple[Any, ...], int] = {}  # arms share images and truths: each is made once

    @property
    def all(self) -> list[str]:
        return list(self._places)

    @property
    def weight(self) -> int:
        return sum(map(len, self._places))

    def add(self, volume: NDArray[Any], box: Box, shown: NDArray[Any], *, grey: bool = False) -> int:
        """The number of the sheet with these slices of the box of (X, Y, Z), row by row, y pointing up.

        ``grey``: an image, to be scaled; else class numbers.
        """
        same = (volume.__array_interface__["data"], volume.shape, volume.strides, repr(box), grey)
        if same not in self._known:
            part = volume[box][:, :, shown]
            pixels = _scaled(part) if grey else part.astype(np.uint8)
            self._known[same] = self._sheet(pixels, self.kind if grey else "PNG")
        return self._known[same]

    def _sheet(self, pixels: NDArray[np.uint8], kind: str) -> int:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(_tiled(pixels)).save(stream, kind, quality=85)
        data = base64.b64encode(stream.getvalue()).decode("ascii")
        return self._places.setdefault(f"data:image/{kind.lower()};base64,{data}", len(self._places))


def _scaled(image: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(image, (1, 99))
    share = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(np.round(share * 255), dtype=np.uint8)


def _tiled(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width, height, count = volume.shape
    columns = _columns(count)
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width), np.uint8)
    sheet[:count] = volume.transpose(2, 1, 0)[:, ::-1]
    grid = sheet.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width))
