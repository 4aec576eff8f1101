"""A volume before SAM's own prompts: LiteMedSAM's 3D box, and what follows from clicked slices."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfrbench.components.base_prompts import Box, Said
from sfrbench.components.foundation._slice_model import SliceModel
from sfrbench.components.foundation._slices import LITE_MEDSAM
from sfrbench.components.foundation.prompted import UNSEEN
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import InputError
from tests.support.shown import on, shown

TAKES = SamToy.takes


class Bright:
    """In the place of SAM: what is bright within the box, or near a click. It counts what it is asked."""

    canvas = 256

    def __init__(self) -> None:
        self.encoded = 0
        self.asked: list[Any] = []

    def encode(self, picture: Tensor) -> Tensor:
        self.encoded += 1
        return picture[:, :1]

    def ask(self, embedding: Tensor, points: Any, frame: Any, mask: Any) -> tuple[Tensor, Tensor]:
        self.asked.append((tuple(points), frame, mask is not None))
        rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
        inside = torch.zeros(256, 256, dtype=torch.bool)
        if frame is not None:
            left, top, right, bottom = frame
            inside |= (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
        for column, row, positive in sorted(points, key=lambda point: -point[2]):
            near = (columns - column) ** 2 + (rows - row) ** 2 <= 40**2
            inside = inside | near if positive else inside & ~near
        logits = torch.where(inside & (embedding[0, 0] > 0.5), 1.0, -1.0).expand(1, 4, -1, -1)
        return logits, torch.zeros(1, 4)


def bright(image: NDArray[np.float32], folder: Path, **fields: Any) -> tuple[Any, Bright]:
    """A volume of 256 x 256 before it: the canvas is the slice."""
    sam = Bright()
    given = {"ends": "released", "propagate": "boxes"} | fields
    model = SliceModel(sam, LITE_MEDSAM, TAKES, **given)  # type: ignore[arg-type]
    return model.open(shown(image, folder)), sam


def tube(depth: int, first: int, last: int, column: int = 100) -> NDArray[np.float32]:
    """A bright block of 30 x 20 pixels that moves by two pixels a slice; one dark pixel row in all slices."""
    image = np.zeros((256, 256, depth), np.float32)
    for z in range(first, last + 1):
        image[60 + 2 * z : 90 + 2 * z, column + 2 * z : column + 20 + 2 * z, z] = 1
    image[0, 0] = 1  # every slice has the same range
    return image


def released(image: NDArray[np.float32], box: Box) -> NDArray[np.bool_]:
    """LiteMedSAM's propagation in the plainest form, on slices of 256 x 256."""
    seen = np.zeros(image.shape, bool)
    (top, left, z_min), (bottom, right, z_max) = box.low, box.high
    z_mid = int((z_max - z_min) / 2 + z_min)
    steps = [(z, z - 1) for z in range(z_mid, z_max)] + [(z, z + 1) for z in range(z_mid - 1, z_min, -1)]
    for z, before in steps:
        frame = (left, top, right, bottom)
        if z != z_mid and seen[..., before].any():
            rows, columns = np.where(seen[..., before])
            frame = (
                max(columns.min() - 3, 0), max(rows.min() - 3, 0),
                min(columns.max() + 3, 256), min(rows.max() + 3, 256),
            )  # fmt: skip
        for row, column in product(
            range(frame[1], min(frame[3], 255) + 1), range(frame[0], min(frame[2], 255) + 1)
        ):
            seen[row, column, z] = image[row, column, z] > 0.5
    return seen


@pytest.mark.parametrize("hole", [None, 17])
def test_a_3d_box_goes_through_the_volume_as_in_lite_medsams_code(tmp_path: Path, hole: int | None) -> None:
    image, box = tube(24, 8, 23), Box((84, 124, 10), (126, 150, 21))
    if hole is not None:
        image[1:, 1:, hole] = 0  # an empty mask: the next slice gets the first box again
    volume, sam = bright(image, tmp_path)
    found = volume.an_object(None).segment((Said(boxes=(box,)),)) > 0
    assert np.array_equal(found, released(image, box))
    assert found[..., 15].any()
    assert not found[..., [*range(11), *range(21, 24)]].any()  # both end slices stay empty
    assert sam.asked[0] == ((), (124, 84, 150, 126), False)  # slice 15: (21 - 10) / 2 + 10
    assert sam.encoded == 10

    volume, _ = bright(image, tmp_path, ends="all")
    found = volume.an_object(None).segment((Said(boxes=(box,)),)) > 0
    assert found[..., [10, 21]].any((0, 1)).all()
    assert not found[..., [*range(10), 22, 23]].any()


@pytest.mark.parametrize(("low", "high", "wanted"), [(4, 4, [4]), (4, 5, [4]), (4, 6, [5]), (4, 7, [5, 6])])
def test_short_boxes(tmp_path: Path, low: int, high: int, wanted: list[int]) -> None:
    volume, _ = bright(tube(12, 0, 11), tmp_path)
    found = volume.an_object(None).segment((Said(boxes=(Box((60, 100, low), (110, 140, high)),)),)) > 0
    assert np.flatnonzero(found.any((0, 1))).tolist() == wanted


def slices(found: NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(found.any((0, 1))).tolist()


def test_a_click_spreads_until_a_slice_is_empty(tmp_path: Path) -> None:
    image = tube(24, 5, 20)
    volume, sam = bright(image, tmp_path)
    subject = volume.an_object(None)
    found = subject.segment((on(85, 125, 8),)) > 0
    assert np.array_equal(found[1:, 1:], image[1:, 1:] > 0.5)
    assert sam.encoded == len(range(4, 22))  # no slice beyond the empty ones, and each once
    subject.segment((on(85, 125, 8), on(80, 122, 8)))
    volume.an_object(None).segment((on(95, 135, 12),))
    assert sam.encoded == len(range(4, 22))
    alone, _ = bright(image, tmp_path, propagate="none")
    assert slices(alone.an_object(None).segment((on(85, 125, 8),)) > 0) == [8]
    spanned = Said(clicks=on(85, 125, 8).clicks, span=(7, 10))
    assert slices(volume.an_object(None).segment((spanned,)) > 0) == [7, 8, 9, 10]


def test_clicked_slices_share_what_lies_between_them(tmp_path: Path) -> None:
    image = np.maximum(tube(24, 0, 23), tube(24, 0, 23, column=20))
    left, right = np.zeros((2, 256, 256, 24), bool)
    left[:, :80, :], right[:, 90:, :] = True, True
    volume, sam = bright(image, tmp_path)
    subject, rounds = volume.an_object(None), (on(70, 112, 3), on(90, 52, 11))
    first = subject.segment(rounds[:1]) > 0
    assert slices(first) == list(range(24))
    before = len(sam.asked)
    second = subject.segment(rounds) > 0
    # slice 7 is as near to 3 as to 11, and goes to the lower one
    for z in range(24):
        columns = np.flatnonzero(second[1:, 1:, z].any(0)) + 1
        wanted = range(100 + 2 * z, 120 + 2 * z) if z <= 7 else range(20 + 2 * z, 40 + 2 * z)
        assert columns.tolist() == list(wanted), z
    assert len(sam.asked) - before == 1 + len(range(8, 11)) + len(range(12, 24))  # nothing twice
    assert sam.asked[before] == (((52.0, 90.0, True),), None, True)  # with what the slice was before


def test_a_click_beside_the_object(tmp_path: Path) -> None:
    image = tube(24, 5, 20)
    volume, sam = bright(image, tmp_path)
    nothing = volume.an_object(None).segment((on(10, 10, 12, False),))
    assert (nothing == UNSEEN).all()
    assert not sam.asked  # nobody said where the object is
    subject, rounds = volume.an_object(None), (on(85, 125, 8), on(105, 145, 18, False))
    subject.segment(rounds[:1])
    found = subject.segment(rounds) > 0
    assert not found[..., 18:].any()  # carved away, and nothing follows from an empty slice
    assert slices(found) == list(range(5, 14))  # half way: 13


def test_what_is_not_taken_is_refused(tmp_path: Path) -> None:
    volume, _ = bright(tube(4, 0, 3), tmp_path)
    with pytest.raises(InputError, match="absent; it takes box, click, slice_box"):
        volume.an_object(None).segment((Said(absent=(2,)),))
