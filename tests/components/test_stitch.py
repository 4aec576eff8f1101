"""Stitching: the constants of the released code, and exact inverses for every depth and side."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sfrbench.components.base import Dataset, Foundation
from sfrbench.components.stitch import _geometry
from sfrbench.components.stitch._resize import by_index, resize
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.errors import InputError
from sfrbench.maths.labels import IGNORE


@pytest.mark.parametrize(
    ("side", "depth", "n", "pad", "cell", "sheet", "outer", "lead"),
    [
        (112, 80, 9, 1, 114, 1026, -1, 0),
        (96, 96, 10, 3, 102, 1020, 2, 2),
        (96, 80, 10, 3, 102, 1020, 2, 10),
        (128, 64, 8, 0, 128, 1024, 0, 0),
        (112, 88, 9, 1, 114, 1026, -1, 0),
    ],
)
def test_geometry_of_the_released_code(
    side: int, depth: int, n: int, pad: int, cell: int, sheet: int, outer: int, lead: int
) -> None:
    layout = _geometry.exact((side, side), 1024)
    axis = layout.rows
    assert layout.rows == layout.columns
    assert (axis.n, axis.pad, axis.cell, axis.n * axis.cell, axis.outer) == (n, pad, cell, sheet, outer)
    assert layout.lead_empty(depth) == lead
    assert not layout.resized


def test_canvas_of_the_left_atrium() -> None:
    volume = torch.arange(1.0, 81).expand(1, 112, 112, 80)
    canvas = GridStitch().to_canvases(volume, 1024, 0.0)[0, 0]
    assert canvas.shape == (1024, 1024)
    assert (canvas[:112, :112] == 1).all()  # the outer padding is what was cropped
    assert canvas[0, 111:115].tolist() == [1, 0, 0, 2]  # slice 1 starts at column 114
    assert canvas[111:115, 0].tolist() == [1, 0, 0, 10]  # slice 9 starts at row 114
    assert (canvas[912:, 798:910] == 80).all()  # the last slice ends at the canvas's edge
    assert (canvas[912:, 910:] == 0).all()  # cell 80 is empty


def test_canvas_of_the_96_cube() -> None:
    volume = torch.arange(1.0, 97).expand(1, 96, 96, 96)
    canvas = GridStitch().to_canvases(volume, 1024, 0.0)[0, 0]
    rows, columns = torch.nonzero(canvas == 1, as_tuple=True)
    assert (int(rows.min()), int(columns.min())) == (5, 209)
    assert (int(rows.max()), int(columns.max())) == (100, 304)
    assert (canvas[:5] == 0).all()


def test_rows_are_y_and_columns_are_x() -> None:
    volume = torch.zeros(1, 64, 64, 1)
    volume[0, 10, 3, 0] = 1
    canvas = GridStitch().to_canvases(volume, 64, 0.0)[0, 0]
    assert torch.nonzero(canvas).tolist() == [[3, 10]]


def test_ignored_share_of_the_canvas() -> None:
    rng = np.random.default_rng(0)
    for patch, share in (((112, 112, 80), 0.043), ((96, 96, 96), 0.156)):
        label = torch.ones(patch, dtype=torch.uint8)
        _, canvas = GridStitch().training_canvas(torch.zeros(patch), label, 1024, rng, 0.0)
        assert (canvas == IGNORE).float().mean().item() == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("canvas", [256, 1024])
def test_no_slice_is_ever_cut(canvas: int) -> None:
    for side in range(1, 257):
        axis = _geometry.exact_axis(side, canvas)
        end = axis.outer + (axis.n - 1) * axis.cell + axis.pad + side
        assert axis.outer + axis.pad >= 0, side
        assert end <= canvas, side
        assert axis.n == canvas // side


def test_blocks_hold_every_slice_and_overlap_only_at_the_end() -> None:
    layout = _geometry.exact((64, 64), 256)
    assert layout.cells == 16
    assert layout.blocks(16) == [(0, 16)]
    assert layout.blocks(32) == [(0, 16), (16, 32)]
    assert layout.blocks(37) == [(0, 16), (16, 32), (21, 37)]
    for depth in range(1, 201):
        blocks = layout.blocks(depth)
        assert set().union(*(range(*block) for block in blocks)) == set(range(depth))
        assert len(blocks) == -(-depth // 16)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    """Random numbers to cut volumes from."""
    return torch.rand(3, 160, 160, 200, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("canvas", [256, 1024])
@pytest.mark.parametrize(("kind", "channels"), [("image", 1), ("label", 1), ("maps", 2)])
def test_identity_for_every_depth(noise: torch.Tensor, canvas: int, kind: str, channels: int) -> None:
    stitch = GridStitch()
    source = (noise * 14).byte() if kind == "label" else noise
    # Steps prime to the number of sides visit all of them over the depths, as different pairs in x and y.
    # One byte a voxel is cheap, so labels go through all sides 32..160 and the others through 32..88.
    sides = 129 if kind == "label" else 57
    for depth in range(1, 201):
        x, y = 32 + depth * 7 % sides, 32 + depth * 10 % sides
        volume = source[:channels, :x, :y, :depth]
        canvases = stitch.to_canvases(volume, canvas, 0)
        assert canvases.shape[1:] == (channels, canvas, canvas)
        assert canvases.dtype == volume.dtype
        assert torch.equal(stitch.from_canvases(canvases, (x, y, depth)), volume), (x, y, depth)


@pytest.mark.parametrize("canvas", [256, 1024])
def test_identity_for_every_side(noise: torch.Tensor, canvas: int) -> None:
    stitch = GridStitch()
    for side in range(32, 161):
        volume = (noise[:1, :side, :side, :3] * 14).byte()
        back = stitch.from_canvases(stitch.to_canvases(volume, canvas, IGNORE), (side, side, 3))
        assert torch.equal(back, volume), side


def test_slices_on_two_canvases_are_averaged() -> None:
    maps = torch.stack([torch.zeros(1, 64, 64), torch.ones(1, 64, 64)])
    back = GridStitch().from_canvases(maps, (32, 32, 6))
    assert back[0, 0, 0].tolist() == [0, 0, 0.5, 0.5, 1, 1]


def test_wrong_number_of_canvases_is_refused() -> None:
    with pytest.raises(ValueError, match="6 slices need 2 canvases, got 1"):
        GridStitch().from_canvases(torch.zeros(1, 1, 64, 64), (32, 32, 6))


@pytest.mark.parametrize(
    ("scale", "content"),
    [(1, 1016), (2, 504), (3, 333), (4, 248), (6, 162), (8, 120), (10, 94), (12, 77)],
)
def test_scale_has_the_sides_of_the_released_code(scale: int, content: int) -> None:
    layout = GridStitch(scale=scale).geometry((112, 112), 1024)
    assert (layout.rows.content, layout.columns.content) == (content, content)
    assert layout.rows.pad == 4
    assert layout.cells == scale**2
    assert len(layout.blocks(80)) == max(-(-80 // scale**2), 1)


def test_natural_scale_is_the_exact_geometry() -> None:
    assert GridStitch(scale=9).geometry((112, 112), 1024) == GridStitch().geometry((112, 112), 1024)
    assert _geometry.fitted((112, 112), 1024, 9, 4).rows.content == 105  # what the exact geometry replaces
    assert GridStitch(scale=4).geometry((64, 60), 256) == GridStitch().geometry((64, 60), 256)


def test_scale_pads_less_on_a_small_canvas() -> None:
    axis = GridStitch(scale=2).geometry((56, 56), 256).rows
    assert (axis.cell, axis.pad, axis.content) == (128, 1, 126)


@pytest.mark.parametrize("stitch", [GridStitch(scale=2), GridStitch(scale=5), UpsampledStitch()])
def test_resized_maps_come_back_in_place(stitch: GridStitch | UpsampledStitch) -> None:
    shape = (48, 40, 11)
    grid = torch.stack(torch.meshgrid(*(torch.linspace(0, 1, side) for side in shape), indexing="ij"))
    canvases = stitch.to_canvases(grid, 256, 0.0)
    back = stitch.from_canvases(canvases, shape)
    assert back.shape == grid.shape
    assert (back - grid).abs().max() < 0.03
    assert torch.allclose(back[2], grid[2], atol=1e-5)  # the order of slices is kept


def test_resizing_keeps_probabilities_and_labels() -> None:
    logits = torch.randn(3, 48, 40, 11, generator=torch.Generator().manual_seed(0))
    stitch = GridStitch(scale=8)
    probabilities = logits.softmax(0)
    back = stitch.from_canvases(stitch.to_canvases(probabilities, 256, 0.0), (48, 40, 11))
    assert torch.allclose(back.sum(0), torch.ones(48, 40, 11), atol=1e-5)
    labels = torch.tensor([0, 5, 9])[torch.randint(0, 3, (1, 48, 40, 11))]
    assert set(stitch.to_canvases(labels, 256, IGNORE).flatten().tolist()) == {0, 5, 9, IGNORE}


def test_nearest_takes_pixel_centres() -> None:
    row = torch.arange(6)[None, None, None]
    assert resize(row, 1, 3)[0, 0, 0].tolist() == [1, 3, 5]
    assert resize(row, 1, 12)[0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def index_mapped(row: np.ndarray, size: int, nearest: bool) -> np.ndarray:
    """New pixel i of a row at x = i * old / new, in float64: linear or nearest, 0 from old - 0.5 on.

    What SimpleITK's Resample gives for the spacing and origin that the released code sets; checked there.
    """
    old = len(row)
    place = np.arange(size) * old / size
    if nearest:
        found = row[np.minimum(np.floor(place + 0.5).astype(int), old - 1)]
    else:
        found = np.interp(place, np.arange(old), row)
    return np.where(place < old - 0.5, found, 0)


@pytest.mark.parametrize(
    ("old", "new", "beyond"),  # ``beyond``: pixels that SimpleITK 2.5 gave 0
    [(112, 1016, 4), (112, 504, 2), (112, 248, 1), (112, 162, 0), (112, 77, 0), (504, 112, 0), (5, 10, 1)],
)
def test_index_mapping_is_the_formula(old: int, new: int, beyond: int) -> None:
    rng = np.random.default_rng(old)
    image, label = rng.normal(size=(2, old)), rng.integers(1, 200, (2, old))
    wanted = [np.stack([index_mapped(row, new, nearest=False) for row in image])]
    wanted.append(np.stack([index_mapped(row, new, nearest=True) for row in label]))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = by_index(torch.from_numpy(image).to(dtype), -1, new)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), wanted[0], atol=tolerance)
        assert torch.equal(by_index(torch.from_numpy(image).to(dtype).T, 0, new).T, found)
    for whole in (torch.uint8, torch.int64):
        found = by_index(torch.from_numpy(label).to(whole), -1, new)
        assert found.dtype == whole
        np.testing.assert_array_equal(found.numpy(), wanted[1])
    assert int((wanted[1][0] == 0).sum()) == beyond


def test_the_scale_sweep_by_index_on_the_canvas_and_back() -> None:
    """d = 2 of Fig. 9 in small: 4 slices of 12 pixels on cells of 32, content 30."""
    stitch, shape = GridStitch(scale=2, resize="index"), (12, 12, 4)
    content = stitch.geometry((12, 12), 64).rows
    assert (content.content, content.pad, content.cell) == (30, 1, 32)
    volume = np.random.default_rng(0).normal(size=shape)
    canvas = stitch.to_canvases(torch.from_numpy(volume)[None], 64, 0.0)[0, 0].numpy()

    def both(square: np.ndarray, size: int) -> np.ndarray:
        rows = np.stack([index_mapped(row, size, False) for row in square])
        return np.stack([index_mapped(row, size, False) for row in rows.T]).T

    for index in range(4):
        top, left = 32 * (index // 2) + 1, 32 * (index % 2) + 1
        enlarged = both(volume[..., index].T, 30)  # rows of a canvas are y
        np.testing.assert_allclose(canvas[top : top + 30, left : left + 30], enlarged, atol=1e-12)
    maps = np.random.default_rng(1).random((1, 1, 64, 64))
    back = stitch.from_canvases(torch.from_numpy(maps), shape)[0].numpy()
    np.testing.assert_allclose(back[..., 2], both(maps[0, 0, 33:63, 1:31], 12).T, atol=1e-12)
    assert not np.allclose(back, GridStitch(scale=2).from_canvases(torch.from_numpy(maps), shape)[0])


def test_index_mapping_changes_nothing_where_nothing_is_resized() -> None:
    volume = torch.rand(1, 64, 60, 5)
    for scale in (None, 4):
        plain, mapped = (GridStitch(scale=scale, resize=how) for how in ("antialias", "index"))
        assert torch.equal(plain.to_canvases(volume, 256, 0.0), mapped.to_canvases(volume, 256, 0.0))


def test_upsampled_is_one_slice_per_canvas() -> None:
    volume = torch.ones(1, 112, 84, 5)
    canvases = UpsampledStitch().to_canvases(volume, 256, 0.0)
    assert canvases.shape == (5, 1, 256, 256)
    assert canvases[0, 0, 128].eq(1).all()  # the longer side, x, spans the canvas
    assert canvases[0, 0, :, 128].tolist() == [0] * 32 + [1] * 192 + [0] * 32


def test_training_canvas_is_a_random_run_of_slices() -> None:
    image = torch.arange(10.0).expand(32, 32, 10)
    label = torch.arange(10, dtype=torch.uint8).expand(32, 32, 10)
    starts = set()
    rng = np.random.default_rng(3)
    for _ in range(80):
        pixels, target = GridStitch().training_canvas(image, label, 64, rng, 0.0)
        assert pixels.shape == (1, 64, 64)
        assert target.dtype == torch.int64
        assert torch.equal(pixels[0].long(), target)
        first = int(target[0, 0])
        assert [int(target[0, 32]), int(target[32, 0]), int(target[32, 32])] == [
            first + 1,
            first + 2,
            first + 3,
        ]
        starts.add(first)
    assert starts == set(range(7))


def test_training_canvas_of_a_patch_that_fits_needs_no_chance() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    image = torch.rand(30, 30, 2)
    pixels, target = GridStitch().training_canvas(image, (image > 0.5).byte(), 64, rng, 0.0)
    assert rng.bit_generator.state == before
    assert torch.equal(pixels[0, 1:31, 33:63], image[..., 0].T)  # two slices, cells 1 and 2
    assert torch.equal(target == IGNORE, pixels[0] == 0)


def test_faults_come_with_a_remedy() -> None:
    with pytest.raises(InputError, match=r"300 pixels does not fit a canvas of 256\n.*stitch\.scale"):
        GridStitch().to_canvases(torch.zeros(1, 300, 20, 2), 256, 0.0)
    with pytest.raises(InputError, match=r"no room for a slice\n.*at most 10"):
        GridStitch(scale=16).to_canvases(torch.zeros(1, 20, 20, 2), 32, 0.0)
    assert GridStitch(scale=2).to_canvases(torch.ones(1, 300, 20, 2), 256, 0.0).shape == (1, 1, 256, 256)
    with pytest.raises(ValidationError):
        GridStitch(scale=0)


def test_conflicts_are_seen_before_anything_runs() -> None:
    cell = {"dataset": Dataset(patch=(300, 96, 16)), "foundation": Foundation(canvas=256)}
    assert "does not fit a canvas of 256" in GridStitch().conflicts(cell)[0]
    assert GridStitch(scale=4).conflicts(cell) == []
    assert UpsampledStitch().conflicts(cell) == []
    assert GridStitch().conflicts({}) == []


def test_components_import_without_torch() -> None:
    code = (
        "import sys, sfrbench.components.stitch.grid, sfrbench.components.stitch.upsampled;"
        "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
