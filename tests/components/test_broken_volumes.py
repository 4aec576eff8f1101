"""Broken data: one clear message each, with the case, the file, the fault and the remedy."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.engine.context import StageContext
from sfrbench.errors import DataError, Problem
from sfrbench.stages.prepare import run as prepare
from tests.support.data_writers import (
    la_file,
    volume,
    write_decathlon,
    write_la,
    write_la_case,
    write_nifti,
)

IMAGE, LABEL = volume()


def _problems(tmp_path: Path, dataset: LeftAtrium | Decathlon, root: Path) -> tuple[Problem, ...]:
    """What ``prepare`` says of a dataset; the rest of the cases must have been prepared."""
    (tmp_path / "out").mkdir()
    ctx = StageContext(
        {"dataset": dataset}, {}, {}, 0, tmp_path / "out", tmp_path / "scratch", data_root=root
    )
    with pytest.raises(DataError) as caught:
        prepare.run(ctx)
    assert not list(ctx.out.iterdir())
    return caught.value.problems


def _spoiled(array: np.ndarray, value: object, at: tuple[int, int, int] = (3, 2, 1)) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


def _la(**datasets: object) -> Callable[[Path], object]:
    return lambda root: write_la_case(root, "B2", **datasets)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _remove_folder(root: Path) -> None:
    la_file(root, "B2").unlink()
    la_file(root, "B2").parent.rmdir()


LA_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nan": (_la(image=_spoiled(IMAGE, np.nan), label=LABEL), r"1 NaN or infinite voxels.*\(3, 2, 1\)"),
    "infinite": (_la(image=_spoiled(IMAGE, -np.inf), label=LABEL), "NaN or infinite"),
    "overflow": (_la(image=_spoiled(IMAGE.astype(np.float64), 1e300), label=LABEL), "NaN or infinite"),
    "shapes differ": (
        _la(image=IMAGE, label=LABEL[:-1]),
        r"label has shape \(19, 18, 16\), the image \(20, 18, 16\)",
    ),
    "no label": (_la(image=IMAGE), "dataset 'label' is missing"),
    "no image": (_la(label=LABEL), "dataset 'image' is missing"),
    "label 255": (_la(image=IMAGE, label=_spoiled(LABEL, 255)), r"outside the classes: 255 \(1 voxels\)"),
    "negative label": (
        _la(image=IMAGE, label=_spoiled(LABEL.astype(np.int16), -1)),
        "outside the classes: -1",
    ),
    "label between integers": (_la(image=IMAGE, label=LABEL * 0.5), "not integers, such as 0.5"),
    "NaN in the label": (
        _la(image=IMAGE, label=_spoiled(LABEL.astype(float), np.nan)),
        "not integers, such as nan",
    ),
    "4D": (_la(image=IMAGE[..., None], label=LABEL), "4 dimensions"),
    "empty": (_la(image=IMAGE[:0], label=LABEL[:0]), "image is empty"),
    "constant": (_la(image=np.full_like(IMAGE, 7), label=LABEL), "constant, every voxel is 7"),
    "text": (_la(image=np.full((4, 4, 4), b"x"), label=LABEL[:4, :4, :4]), "values of type"),
    "not HDF5": (lambda root: la_file(root, "B2").write_bytes(b"plain text" * 99), "cannot be read as HDF5"),
    "zero bytes": (lambda root: la_file(root, "B2").write_bytes(b""), "cannot be read as HDF5"),
    "truncated": (lambda root: _truncate(la_file(root, "B2")), "cannot be read as HDF5"),
    "no file": (lambda root: la_file(root, "B2").unlink(), "file is missing"),
    "no folder": (_remove_folder, "on a list and has no folder"),
}


@pytest.mark.parametrize("name", LA_FAULTS)
def test_broken_h5_case(name: str, tmp_path: Path) -> None:
    root = write_la(tmp_path / "la")
    spoil, what = LA_FAULTS[name]
    spoil(root)
    (problem,) = _problems(tmp_path, LeftAtrium(), root)
    assert problem.where == f"case B2, {la_file(root, 'B2')}"
    _is_clear(problem, what)
    assert sorted(path.stem for path in (tmp_path / "scratch" / "cases").iterdir()) == ["A1", "C3", "D4"]


def _is_clear(problem: Problem, what: str) -> None:
    assert re.search(what, problem.what), problem.what
    assert problem.hint
    assert "\n" not in problem.what
    assert len(problem.what) < 200


def _image(root: Path) -> Path:
    return root / "imagesTr" / "c2.nii.gz"


def _label(root: Path) -> Path:
    return root / "labelsTr" / "c2.nii.gz"


def _header(file: Callable[[Path], Path], offset: int, *values: float) -> Callable[[Path], object]:
    """Overwrite float32 values of the header in place, as no library would write them."""

    def spoil(root: Path) -> None:
        raw = bytearray(gzip.decompress(file(root).read_bytes()))
        struct.pack_into(f"<{len(values)}f", raw, offset, *values)
        file(root).write_bytes(gzip.compress(bytes(raw)))

    return spoil


PIXDIM, SROW = 76 + 4, 280
NAN = float("nan")
NIFTI_FAULTS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str]] = {
    "zero spacing": (_image, _header(_image, PIXDIM, 0.0), r"spacing in the header is \(0, 1, 1\) mm"),
    "NaN spacing": (_image, _header(_image, PIXDIM, 1.0, NAN), r"spacing in the header is \(1, nan, 1\) mm"),
    "negative spacing": (
        _label,
        _header(_label, PIXDIM, 1.0, -2.0),
        r"spacing in the header is \(1, -2, 1\) mm",
    ),
    "NaN affine": (_image, _header(_image, SROW, NAN), "affine in the header"),
    "singular affine": (_image, _header(_image, SROW, 0.0, 0.0, 0.0), "affine in the header"),
    "truncated gzip": (_image, lambda root: _truncate(_image(root)), "cannot be read as NIfTI"),
    "not gzip": (
        _image,
        lambda root: _image(root).write_bytes(b"plain text" * 99),
        "cannot be read as NIfTI",
    ),
    "zero bytes": (_label, lambda root: _label(root).write_bytes(b""), "cannot be read as NIfTI"),
    "short data": (
        _label,
        lambda root: _label(root).write_bytes(
            gzip.compress(gzip.decompress(_label(root).read_bytes())[:2000])
        ),
        "cannot be read as NIfTI",
    ),
    "no label": (_label, lambda root: _label(root).unlink(), "file is missing"),
    "no image": (_image, lambda root: _image(root).unlink(), "file is missing"),
    "4D": (_image, lambda root: write_nifti(_image(root), np.stack([IMAGE] * 2, -1)), "4 dimensions"),
    "2D": (_image, lambda root: write_nifti(_image(root), IMAGE[..., 0]), "2 dimensions"),
    "NaN": (_image, lambda root: write_nifti(_image(root), _spoiled(IMAGE, np.nan)), "NaN or infinite"),
    "constant": (_image, lambda root: write_nifti(_image(root), 0 * IMAGE), "constant"),
    "shapes differ": (_label, lambda root: write_nifti(_label(root), LABEL[1:]), "label has shape"),
    "label 7": (_label, lambda root: write_nifti(_label(root), _spoiled(LABEL, 7)), "outside the classes: 7"),
    "label smoothed": (
        _label,
        lambda root: write_nifti(_label(root), _spoiled(LABEL.astype(np.float32), 0.25)),
        "not integers",
    ),
    "label turned": (
        _label,
        lambda root: write_nifti(_label(root), LABEL, np.diag([-1.0, -1.0, 1.0, 1.0])),
        r"turned from LPS to the image's RAS, the label's origin lies 19\.0 mm",
    ),
}


@pytest.mark.parametrize("name", NIFTI_FAULTS)
def test_broken_nifti_case(name: str, tmp_path: Path) -> None:
    root = write_decathlon(tmp_path / "d", classes=2)
    file, spoil, what = NIFTI_FAULTS[name]
    spoil(root)
    (problem,) = _problems(tmp_path, Decathlon(), root)
    assert problem.where == f"case c2, {file(root)}"
    _is_clear(problem, what)
    assert len(list((tmp_path / "scratch" / "cases").iterdir())) == 4


def test_a_shifted_label_is_a_warning(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2)
    shifted = np.eye(4)
    shifted[0, 3] = 9
    write_nifti(_label(root), LABEL, shifted)
    assert "9.0 mm" in Decathlon().read_case(root, "c2").source["notes"][0]


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2, modality={"0": "T2", "1": "ADC"})
    with pytest.raises(DataError, match="no channel 1 in a 3D image"):
        Decathlon(channel=1).read_case(root, "c1")


LISTS: dict[str, tuple[str, str, list[str]]] = {
    "empty list": ("", "D4", ["the train list is empty"]),
    "blank lines only": ("A1", "\n \n", ["the test list is empty"]),
    "twice in a list": ("A1\nB2\nA1", "D4", ["case 'A1' stands twice, in the train list"]),
    "in both lists": ("A1\nB2", "D4\nB2", ["in the train list and in the test list"]),
    "leads out of the folder": ("../A1\nB2", "D4", ["'../A1' is not a case id"]),
    "absolute path": ("A1", "/etc/passwd", ["'/etc/passwd' is not a case id"]),
    "hidden": (".A1", "D4", ["'.A1' is not a case id"]),
    "several": ("A1\nA1\n../x", "", ["twice", "not a case id", "the test list is empty"]),
}


@pytest.mark.parametrize("name", LISTS)
def test_broken_list(name: str, tmp_path: Path) -> None:
    root = write_la(tmp_path)
    train, test, expected = LISTS[name]
    (root / "train.list").write_text(train)
    (root / "test.list").write_text(test)
    with pytest.raises(DataError) as caught:
        LeftAtrium().case_lists(root)
    assert len(caught.value.problems) == len(expected)
    for problem, what in zip(caught.value.problems, expected, strict=True):
        assert what in problem.what
        assert ".list" in problem.where
        assert problem.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00bad"])
def test_unreadable_list(tmp_path: Path, content: bytes | None) -> None:
    root = write_la(tmp_path)
    (root / "test.list").unlink()
    if content is not None:
        (root / "test.list").write_bytes(content)
    with pytest.raises(DataError, match=r"test\.list"):
        LeftAtrium().case_lists(root)


MANIFESTS: dict[str, tuple[dict[str, object], str]] = {
    "no labels": ({"labels": None}, "key 'labels' is missing"),
    "labels are a list": ({"labels": ["background", "x"]}, "key 'labels' is missing or is not a mapping"),
    "a gap": ({"labels": {"0": "background", "2": "x"}}, r"numbers are \[0, 2\]"),
    "background only": ({"labels": {"0": "background"}}, r"numbers are \[0\]"),
    "a number twice": ({"labels": {"background": 0, "x": 1, "y": 1}}, "number 1 stands twice"),
    "regions": ({"labels": {"background": 0, "whole": [1, 2]}}, "is not a class"),
    "ignore": ({"labels": {"background": 0, "x": 1, "ignore": 2}}, "is not a class"),
    "channels": ({"modality": "MRI"}, "channels are not a mapping"),
    "ending": ({"file_ending": ".nrrd"}, "file_ending '.nrrd' is not read"),
    "list is empty": ({"training": []}, "train list is empty"),
    "list is a number": ({"training": 5}, "key 'training' is 5, not a list of entries"),
    "list is a mapping": (
        {"training": {"c1": {"image": "imagesTr/c1.nii.gz", "label": "labelsTr/c1.nii.gz"}}},
        "key 'training' is a mapping, not a list of entries",
    ),
    "list is an empty mapping": ({"training": {}}, "key 'training' is a mapping"),
    "validation is a mapping": ({"validation": {"c1": {}}}, "key 'validation' is a mapping"),
    "an entry is null": ({"training": [None]}, "training, entry 1  null is no entry of a case"),
    "an entry is a list": ({"training": [["a", "b"]]}, r"entry 1  \['a', 'b'\] is no entry of a case"),
    "an entry has no image": ({"training": [{"label": "x"}]}, "names no image; it holds 'label'"),
    "leads out": (
        {"training": [{"image": "../x.nii.gz", "label": "../../x.nii.gz"}]},
        "not a file in the data folder",
    ),
    "twice": (
        {"training": ["labelsTr/c1.nii.gz", "labelsTr/c2.nii.gz", "labelsTr/c1.nii.gz"]},
        "'c1' stands twice",
    ),
    "one case": ({"training": ["labelsTr/c1.nii.gz"]}, "leave nothing"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_broken_manifest(name: str, tmp_path: Path) -> None:
    changes, what = MANIFESTS[name]
    root = write_decathlon(tmp_path, classes=2, **changes)
    with pytest.raises(DataError, match=what) as caught:
        Decathlon().case_lists(root)
    assert "dataset.json" in caught.value.problems[0].where
    assert caught.value.problems[0].hint


def test_manifest_that_is_not_json(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2)
    (root / "dataset.json").write_text('{"labels": {\n  "0": "background",,\n}}')
    with pytest.raises(DataError, match=r"dataset\.json:2:\d+ .*not valid JSON"):
        Decathlon().class_names(root)
    (root / "dataset.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        Decathlon().class_names(root)
    (root / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"dataset\.json is missing"):
        Decathlon().class_names(root)


def test_missing_files_do_not_hinder_the_fingerprint(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path / "d", classes=2)
    _label(root).unlink()
    assert len(Decathlon().source_files(root)) == 1 + 2 * 5 - 1
    root = write_la(tmp_path / "la")
    _remove_folder(root)
    assert len(LeftAtrium().source_files(root)) == 2 + 3
