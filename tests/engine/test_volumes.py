"""Volumes, the label gate, the split, and the way back to the raw grid."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset._finish import finish
from sfrbench.components.dataset.geometry import Geometry, restore, shrink_label
from sfrbench.components.split import split_cases
from sfrbench.engine.volumes import EVALUATE, CaseInfo, Volumes
from sfrbench.errors import DataError, InputError, LeakError, StoreError
from sfrbench.store.store import Artefact


def _artefact(folder: Path) -> Artefact:
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in folder.rglob("*")
        if path.is_file()
    }
    return Artefact("prepare", "0" * 64, folder, {"files": files})


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    cases = {}
    for number, case in enumerate(["a", "b", "c"]):
        for folder, dtype in (("images", np.float32), ("labels", np.uint8)):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"{case}.npy", np.full((4, 3, 2), number, dtype))
        cases[case] = {
            "shape": [4, 3, 2],
            "spacing": [1.0, 1.0, 2.0],
            "affine": None,
            "range": [-1.5, 2.5],
            "source": {"shape": [4, 3, 2]},
        }
    index = {
        "dataset": "D",
        "classes": ["background", "x"],
        "train": ["a", "b"],
        "test": ["c"],
        "cases": cases,
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    return _artefact(tmp_path)


def test_volumes_map_files_once(artefact: Artefact) -> None:
    volumes = Volumes(artefact)
    assert (volumes.classes, volumes.train, volumes.test) == (("background", "x"), ["a", "b"], ["c"])
    info = volumes.case("b")
    assert info == CaseInfo((4, 3, 2), (1.0, 1.0, 2.0), None, (-1.5, 2.5), {"shape": [4, 3, 2]})
    image = volumes.image("b")
    assert isinstance(image, np.memmap)
    assert image.dtype == np.float32
    assert float(image[0, 0, 0]) == 1.0
    assert volumes.image("b") is image
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 3


def test_labels_need_a_grant(artefact: Artefact) -> None:
    view = Volumes(artefact).labels(["a"], "labelled")
    assert view["a"].dtype == np.uint8
    assert view.opened == {"a"}
    assert "b" not in view
    with pytest.raises(LeakError, match=r"case b.*'labelled'"):
        view["b"]
    assert view.opened == {"a"}


def test_test_labels_open_for_evaluation_only(artefact: Artefact) -> None:
    volumes = Volumes(artefact)
    for purpose in ("labelled", "validation", "select"):
        with pytest.raises(LeakError, match=rf"case c.*'{purpose}'"):
            volumes.labels(["a", "c"], purpose)
    assert int(volumes.labels(["c"], EVALUATE)["c"][0, 0, 0]) == 2


def test_unknown_case_and_damaged_file(artefact: Artefact) -> None:
    volumes = Volumes(artefact)
    with pytest.raises(DataError, match="no such case"):
        volumes.image("zz")
    with pytest.raises(DataError, match="no such case"):
        volumes.labels(["a", "zz"], "labelled")
    path = artefact.folder / "images" / "a.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(StoreError, match="damaged"):
        volumes.image("a")


def test_split_takes_the_first_cases_and_validates_on_the_last() -> None:
    train, test = [f"t{i}" for i in range(10)], ["x", "y", "z"]
    split = split_cases(train, test, labeled=2, val=3, unlabeled=4, max_test=2)
    assert split.labelled == ("t0", "t1")
    assert split.unlabelled == ("t2", "t3", "t4", "t5")
    assert split.val == ("t7", "t8", "t9")
    assert split.test == ("x", "y")
    assert split_cases(train, test, labeled=3, choice=3).labelled == ("t9", "t0", "t1")
    assert split_cases(train, test, labeled=10).unlabelled == ()


@given(st.integers(1, 30), st.data())
def test_split_parts_are_disjoint(size: int, data: st.DataObject) -> None:
    train = [f"t{i}" for i in range(size)]
    val = data.draw(st.integers(0, size - 1))
    labeled = data.draw(st.integers(1, size - val))
    choice = data.draw(st.integers(0, 100))
    split = split_cases(train, ["x"], labeled=labeled, val=val, choice=choice)
    assert len(split.labelled) == len(set(split.labelled)) == labeled
    assert sorted(split.labelled + split.unlabelled + split.val) == sorted(train)


@pytest.mark.parametrize(("labeled", "val"), [(4, 0), (3, 1), (1, 3), (0, 0)])
def test_split_refuses_more_than_there_are(labeled: int, val: int) -> None:
    with pytest.raises(InputError, match="lower dataset"):
        split_cases(["a", "b", "c"], ["d"], labeled=labeled, val=val)


AXES = [
    tuple(zip(order, signs, strict=True))
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def _prepared(
    image: np.ndarray, label: np.ndarray, geometry: Geometry, factor: int
) -> tuple[np.ndarray, CaseInfo]:
    place = Place("c", Path("c.nii.gz"))
    case = finish(image, label, geometry, classes=3, downsample=factor, min_depth=None, place=place, files={})
    source = json.loads(json.dumps(case.source))  # as it comes back from index.json
    return case.label, CaseInfo(case.label.shape, case.spacing, case.affine, (0.0, 1.0), source)


@pytest.mark.parametrize("axes", AXES)
def test_restore_undoes_every_orientation(axes: tuple[tuple[int, int], ...]) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((5, 7, 9)).astype(np.float32)
    label = rng.integers(0, 3, image.shape).astype(np.uint8)
    affine = np.diag([0.5, 1.0, 2.0, 1.0])
    prepared, info = _prepared(image, label, Geometry((0.5, 1.0, 2.0), affine, axes), 1)
    back, back_affine = restore(prepared, info)
    np.testing.assert_array_equal(back, label)
    np.testing.assert_array_equal(back_affine, affine)
    # a voxel lies at the same place in space before and after
    where = np.argwhere(label == 1)[0]
    matches = [tuple(w) for w in np.argwhere(prepared == 1)]
    spots = {tuple(np.round(np.asarray(info.affine) @ [*m, 1.0], 6)) for m in matches}
    assert tuple(np.round(affine @ [*where, 1.0], 6)) in spots
    assert info.spacing == tuple(np.linalg.norm(np.asarray(info.affine)[:3, :3], axis=0))


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("axes", [None, ((1, -1), (2, 1), (0, -1))])
def test_restore_keeps_the_raw_shape_after_downsampling(
    factor: int, axes: tuple[tuple[int, int], ...] | None
) -> None:
    coarse = np.random.default_rng(1).integers(0, 3, (4, 5, 3)).astype(np.uint8)
    label = coarse.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    image = np.random.default_rng(2).standard_normal(label.shape).astype(np.float32)
    prepared, info = _prepared(image, label, Geometry((1.0, 1.0, 1.0), None, axes), factor)
    assert sorted(prepared.shape) == [3, 4, 5]
    assert info.spacing == (factor,) * 3
    back, affine = restore(prepared, info)
    np.testing.assert_array_equal(back, label)
    np.testing.assert_array_equal(affine, np.eye(4))
    # sizes that the factor does not divide come back, too
    prepared, info = _prepared(
        image[:-1, :, 1:], label[:-1, :, 1:], Geometry((1.0, 1.0, 1.0), None, axes), factor
    )
    assert restore(prepared, info)[0].shape == label[:-1, :, 1:].shape


def test_restore_refuses_another_grid() -> None:
    with pytest.raises(ValueError, match="prepared grid"):
        restore(np.zeros((2, 2, 2)), CaseInfo((2, 2, 3), (1, 1, 1), None, (0, 1)))


def test_majority_prefers_the_lowest_class_on_a_tie() -> None:
    label = np.zeros((2, 2, 2), np.uint8)
    label[0] = 2
    assert shrink_label(label, 2, 3).item() == 0
    label[1, 0, 0] = 2
    assert shrink_label(label, 2, 3).item() == 2
