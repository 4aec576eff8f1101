"""Variants of stitching: what each changes in training, that no slice is lost, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sfrbench.components.base import Dataset, Foundation
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.stitch import _augment, _images, _natural
from sfrbench.components.stitch.grid import GridStitch, TiledStitch
from sfrbench.components.stitch.natural_mix import NaturalMixStitch
from sfrbench.components.stitch.slab3 import Slab3Stitch
from sfrbench.components.stitch.small_size import SmallSizeStitch
from sfrbench.components.stitch.uniform import UniformStitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.errors import InputError, NotReadyError
from sfrbench.maths.labels import IGNORE

SIDE, DEPTH, CANVAS = 16, 16, 64  # 4 x 4 cells without padding
PHOTOGRAPHS = NaturalMixStitch(source="photographs")


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def patch() -> tuple[torch.Tensor, torch.Tensor]:
    """A z-scored image whose slices all differ, and labels that tell the place of every voxel."""
    image = torch.randn(SIDE, SIDE, DEPTH, generator=torch.Generator().manual_seed(1))
    label = (torch.arange(SIDE * SIDE * DEPTH) % 251).reshape(SIDE, SIDE, DEPTH).byte()
    return image, label


def trained_on(
    stitch: GridStitch, patch: tuple[torch.Tensor, torch.Tensor], seed: int = 0, progress: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slices of a training canvas in the order of its cells: image (C, X, Y, n), label (X, Y, n)."""
    image, label = patch
    pixels, target = stitch.training_canvas(image, label, CANVAS, generator(seed), progress)
    assert (target.dtype, pixels.dtype) == (torch.int64, torch.float32)
    back = GridStitch().from_canvases
    shape = (image.shape[0], image.shape[1], min(image.shape[2], 16))
    return back(pixels[None], shape), back(target[None, None], shape)[0]


def source_of(slices: torch.Tensor, image: torch.Tensor) -> list[int]:
    """Which slice of the patch each one is."""
    same = [[torch.equal(one, image[..., i]) for i in range(image.shape[-1])] for one in slices.unbind(-1)]
    assert all(sum(row) == 1 for row in same)
    return [row.index(True) for row in same]


def test_new_fields_leave_existing_keys_alone() -> None:
    class_name = "stitch/GridStitch"
    assert GridStitch().key_settings() == {"class": class_name, "version": 1, "scale": None}
    assert GridStitch(scale=3, bezier=0, order="natural").key_settings() == {
        "class": class_name,
        "version": 1,
        "scale": 3,
    }
    for changed in (
        {"order": "random"},
        {"shuffle_test": True},
        {"bezier": 0.5},
        {"rotate_canvas": True},
        {"scale": 4, "resize": "index"},
        {"rotate_slices": True, "turns": "released"},
    ):
        assert GridStitch(**changed).key_settings().items() >= changed.items()
    idle = GridStitch(resize="index", turns="released")  # nothing is resized, and no slice turned
    assert idle.key_settings() == GridStitch().key_settings()


def test_shuffled_slices_are_all_there_with_their_labels(patch: tuple[torch.Tensor, torch.Tensor]) -> None:
    orders = set()
    for seed in range(6):
        image, label = trained_on(GridStitch(order="random"), patch, seed)
        order = source_of(image[0], patch[0])
        assert sorted(order) == list(range(DEPTH))
        assert torch.equal(label, patch[1][..., order].long())
        orders.add(tuple(order))
    assert len(orders) == 6


def test_shuffling_keeps_the_run_of_slices_that_is_shown() -> None:
    image = torch.arange(40.0).expand(SIDE, SIDE, 40)
    for seed in range(4):
        plain, _ = trained_on(GridStitch(), (image, image.byte()), seed)
        mixed, label = trained_on(GridStitch(order="random"), (image, image.byte()), seed)
        assert torch.equal(mixed[0].long(), label)
        first, second = (part[0, 0, 0].tolist() for part in (plain, mixed))
        assert first != second
        assert first == sorted(second)


@pytest.mark.parametrize("depth", [1, 2, 7, 15, 16, 17, 31, 33, 80])
def test_a_shuffled_test_comes_back_in_order(depth: int) -> None:
    stitch = GridStitch(order="random", shuffle_test=True)
    volume = torch.randn(2, SIDE, 12, depth, generator=torch.Generator().manual_seed(0))
    canvases = stitch.to_canvases(volume, CANVAS, 0.0)
    assert torch.equal(stitch.from_canvases(canvases, (SIDE, 12, depth)), volume)
    assert torch.equal(canvases, GridStitch(shuffle_test=True).to_canvases(volume, CANVAS, 0.0))
    natural = GridStitch(order="random").to_canvases(volume, CANVAS, 0.0)
    assert torch.equal(natural, GridStitch().to_canvases(volume, CANVAS, 0.0))
    assert torch.equal(natural, canvases) == (depth == 1)
    assert torch.equal(natural.flatten().sort()[0], canvases.flatten().sort()[0])


def test_the_order_at_test_time_is_no_order_of_training(patch: tuple[torch.Tensor, torch.Tensor]) -> None:
    plain = trained_on(GridStitch(), patch)
    tested = trained_on(GridStitch(shuffle_test=True), patch)
    assert torch.equal(plain[0], tested[0])


def symmetries(square: torch.Tensor) -> list[torch.Tensor]:
    turned = [torch.rot90(square, turns, (-2, -1)) for turns in range(4)]
    return turned + [one.flip(-1) for one in turned]


def test_rotated_slices_turn_on_their_own_with_their_labels(
    patch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    seen = set()
    for seed in range(8):
        image, label = trained_on(GridStitch(rotate_slices=True), patch, seed)
        kinds = []
        for index in range(DEPTH):
            options = symmetries(patch[0][..., index])
            (kind,) = [i for i, one in enumerate(options) if torch.equal(one, image[0, ..., index])]
            assert torch.equal(label[..., index], symmetries(patch[1][..., index])[kind].long())
            kinds.append(kind)
        assert len(set(kinds)) > 1
        seen |= set(kinds)
    assert seen == set(range(8))


def test_released_turns_are_the_four_mirrored_ones() -> None:
    """rot90 by k of 0..3 and then a flip along an axis, by hand on [[0, 1], [2, 3]]."""
    square = torch.tensor([[0.0, 1], [2, 3]])
    image = square[None, ..., None].expand(1, 2, 2, 400)
    turned, label = _augment.rotate_slices(image, image[0], generator(), "released")
    assert torch.equal(turned[0], label)
    kinds = [tuple(one.flatten().int().tolist()) for one in turned[0].unbind(-1)]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert set(counts) == {(1, 0, 3, 2), (2, 3, 0, 1), (0, 2, 1, 3), (3, 1, 2, 0)}
    assert min(counts.values()) > 70
    every, _ = _augment.rotate_slices(image, image[0], generator())
    assert len({tuple(one.flatten().tolist()) for one in every[0].unbind(-1)}) == 8


def test_turns_reach_the_training_canvas(patch: tuple[torch.Tensor, torch.Tensor]) -> None:
    kinds = set()
    for seed in range(4):
        image, label = trained_on(GridStitch(rotate_slices=True, turns="released"), patch, seed)
        for index in range(DEPTH):
            options = symmetries(patch[0][..., index])
            (kind,) = [i for i, one in enumerate(options) if torch.equal(one, image[0, ..., index])]
            assert torch.equal(label[..., index], symmetries(patch[1][..., index])[kind].long())
            kinds.add(kind)
    assert kinds == {4, 5, 6, 7}


def test_slices_that_are_not_square_get_half_turns() -> None:
    image = torch.rand(1, 6, 4, 40, generator=torch.Generator().manual_seed(0))
    turned, _ = _augment.rotate_slices(image, image[0], generator())
    assert turned.shape == image.shape
    kinds = set()
    for index in range(40):
        options = symmetries(image[0, ..., index])
        kinds |= {i for i, one in enumerate(options) if torch.equal(one, turned[0, ..., index])}
    assert kinds == {0, 2, 4, 6}
    turned, _ = _augment.rotate_slices(image, image[0], generator(), "released")
    for index in range(40):
        flips = (image[..., index].flip(-1), image[..., index].flip(-2))
        assert any(torch.equal(one, turned[..., index]) for one in flips)


def test_bezier_curves_rise_and_spare_what_is_not_chosen() -> None:
    image = torch.rand(1, SIDE, SIDE, 200, generator=torch.Generator().manual_seed(0))
    curved = _augment.bezier(image, 0.5, generator())
    changed = [not torch.equal(curved[..., i], image[..., i]) for i in range(200)]
    assert 70 < sum(changed) < 130
    for index in range(20):
        order = image[0, ..., index].flatten().argsort()
        assert (curved[0, ..., index].flatten()[order].diff() >= 0).all()
    assert curved.min() >= 0
    assert curved.max() <= 1
    assert torch.equal(_augment.bezier(image, 0.0, generator()), image)


def test_bezier_clips_z_scores_and_keeps_the_padding(patch: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, label = trained_on(GridStitch(bezier=1.0), patch)
    assert (image[0][patch[0] <= 0] == 0).all()
    assert torch.allclose(image[0][patch[0] >= 1], torch.ones(()))
    assert torch.equal(label, patch[1].long())


def test_a_rotated_canvas_is_one_of_its_flips(patch: tuple[torch.Tensor, torch.Tensor]) -> None:
    plain = GridStitch().training_canvas(*patch, CANVAS, generator(), 0.0)
    kinds = set()
    for seed in range(24):
        pixels, target = GridStitch(rotate_canvas=True).training_canvas(*patch, CANVAS, generator(seed), 0.0)
        (kind,) = [i for i, one in enumerate(symmetries(plain[0])) if torch.equal(one, pixels)]
        assert torch.equal(target, symmetries(plain[1])[kind])
        kinds.add(kind)
    assert kinds == {4, 5, 6, 7}  # always one flip, as in the released code


@pytest.mark.parametrize(
    ("progress", "until", "medical"),
    [(0.0, 0.5, 0), (0.001, 0.5, 1), (0.125, 0.5, 4), (0.25, 0.5, 8), (0.26, 0.5, 9), (0.5, 0.5, 16),
     (0.99, 0.5, 16), (0.5, 1.0, 8)],
)  # fmt: skip
def test_share_of_natural_tiles(
    patch: tuple[torch.Tensor, torch.Tensor], progress: float, until: float, medical: int
) -> None:
    image, label = trained_on(NaturalMixStitch(source="photographs", until=until), patch, progress=progress)
    natural = (label == IGNORE).flatten(0, 1)
    assert torch.equal(natural.all(0), natural.any(0))
    kept = ~natural.all(0)
    assert int(kept.sum()) == medical
    assert torch.equal(image[0][..., kept], patch[0][..., kept])  # each in its own cell
    assert torch.equal(label[..., kept], patch[1].long()[..., kept])


def test_natural_tiles_are_in_other_places_each_time(patch: tuple[torch.Tensor, torch.Tensor]) -> None:
    places = set()
    for seed in range(6):
        _, label = trained_on(PHOTOGRAPHS, patch, seed, 0.25)
        places.add(tuple((label[0, 0] == IGNORE).tolist()))
    assert len(places) == 6


@pytest.mark.parametrize("scale", ["zscore", "unit"])
def test_natural_tiles_look_like_the_input(patch: tuple[torch.Tensor, torch.Tensor], scale: str) -> None:
    given = patch[0] if scale == "zscore" else (patch[0] / 8 + 0.3).clamp(0, 1)
    image, _ = trained_on(PHOTOGRAPHS, (given, patch[1]))
    assert image.min() >= given.min()
    assert image.max() <= given.max()
    means, spreads = image[0].mean((0, 1)), image[0].std((0, 1))
    assert (means - given.mean()).abs().max() < 0.2 * given.std()
    assert ((spreads / given.std()) - 1).abs().max() < 0.25
    assert len({tuple(one.flatten().tolist()) for one in image[0].unbind(-1)}) == DEPTH


def test_the_photographs_need_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    _images.photographs.cache_clear()
    pool = _images.photographs()
    assert len(pool) == 8
    for photo in pool:
        assert (photo.ndim, photo.dtype) == (2, np.float32)
        assert 0 <= photo.min() < photo.max() <= 1


def test_a_crop_keeps_its_proportions_and_stands_upright() -> None:
    ramp = np.repeat(np.linspace(0, 1, 90, dtype=np.float32)[:, None], 60, 1)  # dark above, bright below
    piece = _natural.cut(ramp, 30, 20, 1.0, generator())
    assert piece.shape == (30, 20)
    assert (piece[:, 0].diff() > 0).all()
    image = torch.stack([torch.linspace(-1, 1, 20 * 30).reshape(20, 30)], -1)[None]  # (1, X, Y, 1)
    tiles, _ = _natural.replace(image, image[0], np.array([0]), [ramp], 1.0, generator())
    assert (tiles[0, 0, :, 0].diff() > 0).all()  # y grows downwards on the canvas


def voc_folder(root: Path, names: list[str]) -> Path:
    from PIL import Image

    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    (root / "ImageSets" / "Segmentation" / "trainval.txt").write_text("\n".join(names) + "\n")
    for index, name in enumerate(names):
        pixels = generator(index).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg")
    return root


def test_voc2012_is_read_from_the_folder_that_the_user_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    root = voc_folder(tmp_path / "VOC2012", ["a", "b", "c"])
    with pytest.raises(InputError, match=r"lists 3 images; VOC 2012 has 2913\n.*VOCtrainval"):
        _images.voc2012(str(root))
    monkeypatch.setattr(_images, "VOC_IMAGES", 3)
    mixed = [
        trained_on(NaturalMixStitch(source="voc2012", folder=str(folder)), patch)[0]
        for folder in (root, root / "JPEGImages")
    ]
    assert torch.equal(mixed[0], mixed[1])
    assert not torch.equal(mixed[0], trained_on(PHOTOGRAPHS, patch)[0])
    (root / "JPEGImages" / "b.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b\.jpg.*cannot be read as an image"):
        _images.voc2012(str(root))[1]
    (root / "JPEGImages" / "b.jpg").unlink()
    _images.voc2012.cache_clear()
    with pytest.raises(InputError, match="1 of the 3 listed images are missing"):
        _images.voc2012(str(root))
    with pytest.raises(InputError, match="no such list of PASCAL VOC 2012"):
        _images.voc2012(str(tmp_path / "nowhere"))


def test_the_source_is_in_the_key_and_its_place_is_not() -> None:
    here, there = (NaturalMixStitch(folder=name).key_settings() for name in ("a", "b"))
    assert here == there
    assert here["source"] == "voc2012"
    assert here != PHOTOGRAPHS.key_settings()


def test_voc2012_lies_where_data_lie_and_is_missed_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    root = voc_folder(tmp_path / "voc2012", ["a", "b", "c"])
    plain = NaturalMixStitch()
    assert PHOTOGRAPHS.located(lambda name: None) == PHOTOGRAPHS
    with pytest.raises(
        NotReadyError, match=r"data voc2012  no folder with PASCAL VOC 2012 is known\n.*--data"
    ):
        plain.located(lambda name: None)
    with pytest.raises(InputError, match="lists 3 images"):
        plain.located({"voc2012": root}.get)
    monkeypatch.setattr(_images, "VOC_IMAGES", 3)
    found = plain.located({"voc2012": root}.get)
    assert found.folder == str(root)
    assert found.key_settings() == plain.key_settings()
    assert not torch.equal(trained_on(found, patch)[0], trained_on(PHOTOGRAPHS, patch)[0])
    assert (plain.stand_in, PHOTOGRAPHS.stand_in) == ("", "eight photographs in the place of PASCAL VOC 2012")


def test_slabs_have_their_neighbours_as_channels() -> None:
    volume = torch.arange(5.0).expand(1, 4, 4, 5)
    canvases = Slab3Stitch().to_canvases(volume, 12, 0.0)
    assert canvases.shape == (1, 3, 12, 12)
    cells = [canvases[0, :, 4 * (i // 3), 4 * (i % 3)].tolist() for i in range(2, 7)]  # two empty before
    assert cells == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]
    back = Slab3Stitch().from_canvases(canvases, (4, 4, 5))
    assert torch.equal(back[1:2], volume)
    for other in (volume.long(), volume.expand(2, 4, 4, 5)):
        assert torch.equal(
            Slab3Stitch().to_canvases(other, 12, 0), GridStitch().to_canvases(other.contiguous(), 12, 0)
        )


def test_a_slab_at_the_end_of_a_run_keeps_its_neighbours() -> None:
    image = torch.arange(40.0).expand(SIDE, SIDE, 40)
    inner = 0
    for seed in range(5):
        slabs, label = trained_on(Slab3Stitch(), (image, image.byte()), seed)
        assert torch.equal(slabs[1].long(), label)
        assert torch.equal(slabs[0], (slabs[1] - 1).clamp(min=0))
        assert torch.equal(slabs[2], (slabs[1] + 1).clamp(max=39))
        inner += int(label.min() > 0)
    assert inner


def test_an_upsampled_slab_is_one_slice_per_canvas() -> None:
    stitch = Slab3Stitch(layout="upsampled")
    assert stitch.to_canvases(torch.rand(1, 16, 12, 5), 64, 0.0).shape == (5, 3, 64, 64)
    with pytest.raises(ValidationError, match="scale means nothing where layout is 'upsampled'"):
        Slab3Stitch(layout="upsampled", scale=2)


def test_small_size_is_one_slice_per_canvas_without_resizing() -> None:
    volume = torch.rand(1, 28, 20, 5) + 1
    canvases = SmallSizeStitch().to_canvases(volume, 32, 0.0)
    assert canvases.shape == (5, 1, 32, 32)
    assert torch.equal(canvases[3, 0, 6:26, 2:30], volume[0, ..., 3].T)
    assert torch.equal(canvases == 0, canvases < 1)
    assert int((canvases == 0).sum()) == 5 * (32 * 32 - 28 * 20)
    with pytest.raises(InputError, match=r"40 x 20 pixels does not fit a canvas of 32\n.*canvas to 48"):
        SmallSizeStitch().to_canvases(torch.zeros(1, 40, 20, 1), 32, 0.0)


def test_small_size_wants_a_canvas_of_the_size_of_a_slice() -> None:
    def reasons(side: int, canvas: int) -> list[str]:
        cell = {"dataset": Dataset(patch=(side, side - 10, 16)), "foundation": Foundation(canvas=canvas)}
        return SmallSizeStitch().conflicts(cell)

    assert reasons(112, 112) == []
    assert reasons(100, 112) == []
    assert reasons(112, 144) == []
    assert (
        "the canvas of 1024 pixels is not the slice's 112: set foundation.canvas to 112"
        in reasons(112, 1024)[0]
    )
    assert "set foundation.canvas to 112" in reasons(100, 144)[0]
    assert "does not fit a canvas of 96" in reasons(112, 96)[0]


def test_uniform_cubes_are_the_ten_by_ten_of_table_vi_or_refused() -> None:
    stitch = UniformStitch()
    assert stitch.geometry((96, 96), 1024).cells == 100
    la = LeftAtrium(patch=(96, 96, 96), min_depth=96)
    assert stitch.conflicts({"dataset": la, "foundation": SamVit()}) == []
    faults = stitch.conflicts({"dataset": LeftAtrium(), "foundation": SamVit()})
    assert "set dataset.patch to [96, 96, 96]" in faults[0]
    assert "set dataset.min_depth to 96" in faults[1]
    (fault,) = stitch.conflicts({"dataset": la, "foundation": SamVit(canvas=512)})
    assert "more than the 25 cells" in fault


@pytest.mark.parametrize(("cls", "canvas"), [(UpsampledStitch, CANVAS), (SmallSizeStitch, SIDE)])
def test_canvases_of_one_slice_are_augmented_as_stitched_ones(
    cls: type[TiledStitch], canvas: int, patch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """The same draws with and without: the label turned as the canvas is, the curve on the image alone."""
    image, label = patch
    plain, turned, curved = (
        cls(**fields).training_canvas(image, label, canvas, generator(), 0.0)
        for fields in ({}, {"rotate_canvas": True}, {"bezier": 1.0})
    )
    mirrored = [torch.rot90(plain[1], k, (-2, -1)).flip(-1) for k in range(4)]
    (found,) = [k for k, one in enumerate(mirrored) if torch.equal(one, turned[1])]
    assert torch.equal(turned[0], torch.rot90(plain[0], found, (-2, -1)).flip(-1))
    assert torch.equal(curved[1], plain[1])
    assert not torch.equal(curved[0], plain[0])
    assert float(curved[0].min()) >= 0.0
    assert float(curved[0].max()) <= 1.0
    volume = image[None]
    assert torch.equal(
        cls(bezier=1.0, rotate_canvas=True).to_canvases(volume, canvas, 0.0),
        cls().to_canvases(volume, canvas, 0.0),
    )
