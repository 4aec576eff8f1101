"""The left atrium from the challenge's NRRD files, by UA-MT's processing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfrbench.components.dataset.geometry import restore
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.engine.volumes import CaseInfo
from sfrbench.errors import DataError, NotReadyError
from tests.support.data_writers import (
    LA_FOLDER,
    organs,
    write_la,
    write_la_scan,
    write_lists,
    write_nrrd,
)

pytest.importorskip("nrrd", reason="pynrrd, the extra 'nrrd', is not installed")


@pytest.mark.parametrize("folder", [LA_FOLDER, "Training Set"])
def test_crop_is_ua_mts(tmp_path: Path, folder: str) -> None:
    image, label = write_la_scan(tmp_path, "A1", folder)
    write_lists(tmp_path, ["A1"], ["B2"])
    dataset = LeftAtrium(least=16)
    case = dataset.read_case(tmp_path, "A1")
    (x0, x1), (y0, y1), z = case.source["box"]
    assert z == [0, 12]
    # labelled: x 25 … 37, y 22 … 40; 16 - 12 is short by 4 along x, half of it on each side
    assert 10 <= 25 - x0 - 2 <= 19
    assert 10 <= x1 - 37 - 2 <= 19
    assert 10 <= 22 - y0 <= 19
    assert 10 <= y1 - 40 <= 19
    cut = image[x0:x1, y0:y1].astype(np.float64)
    whole = (cut - image.mean()) / image.std()  # UA-MT's z-score, which the second one cancels
    np.testing.assert_allclose(case.image, (whole - whole.mean()) / whole.std(), atol=1e-5)
    np.testing.assert_array_equal(case.label, label[x0:x1, y0:y1] == 255)
    assert case.spacing == (0.625,) * 3
    source = json.loads(json.dumps(case.source))
    back, affine = restore(case.label, CaseInfo(case.label.shape, case.spacing, case.affine, (0, 1), source))
    np.testing.assert_array_equal(back, label == 255)
    # LPS in the file, RAS here
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], [-10, 20, 30, 1])
    np.testing.assert_allclose(np.diag(affine), [-0.625, -0.625, 0.625, 1])
    np.testing.assert_allclose(np.asarray(case.affine)[:, 3], affine @ [x0, y0, 0, 1])


def test_margins_are_fixed_by_case_and_seed(tmp_path: Path) -> None:
    for case in ("A1", "B2"):
        write_la_scan(tmp_path, case)
    boxes = [
        LeftAtrium(least=16, crop_seed=seed).read_case(tmp_path, case).source["box"]
        for case, seed in (("A1", 0), ("A1", 0), ("B2", 0), ("A1", 1))
    ]
    assert boxes[0] == boxes[1]
    assert boxes[0] not in boxes[2:]
    assert LeftAtrium()._margins("A1") == [14, 10, 18, 18]  # once and for all
    wide = LeftAtrium().read_case(tmp_path, "A1").source["box"]  # 112 do not fit: the whole scan
    assert wide == [[0, 64], [0, 60], [0, 12]]
    drawn = {m for i in range(100) for m in LeftAtrium()._margins(f"c{i}")}
    assert drawn == set(range(10, 20))


def test_h5_comes_first_and_the_shipped_lists_fill_in(tmp_path: Path) -> None:
    write_la(tmp_path)
    write_la_scan(tmp_path, "A1")
    write_la_scan(tmp_path, "D4")
    (tmp_path / LA_FOLDER / "D4" / "mri_norm2.h5").unlink()
    assert LeftAtrium().read_case(tmp_path, "A1").source["file"].endswith(".h5")
    assert LeftAtrium().read_case(tmp_path, "D4").source["label_file"].endswith("laendo.nrrd")
    assert len(LeftAtrium().source_files(tmp_path)) == 2 + 3 + 2
    for name in ("train.list", "test.list"):
        (tmp_path / name).unlink()
    train, test = LeftAtrium().case_lists(tmp_path)
    assert (len(train), train[0], len(test)) == (80, "06SR5RBREL16DQ6M8LWS", 20)


def test_keys_of_h5_data_stay() -> None:
    settings = LeftAtrium().key_settings()
    assert not {"margin", "least", "crop_seed"} & set(settings)
    assert LeftAtrium(crop_seed=3).key_settings()["crop_seed"] == 3
    with pytest.raises(ValueError, match="rising"):
        LeftAtrium(margin=(5, 4))


def test_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_la_scan(tmp_path, "A1")
    folder = tmp_path / LA_FOLDER / "A1"
    good = organs((64, 60, 12), classes=2)[1]
    for values, what in (
        (good * 0, "label is empty"),
        (good * 7, "outside the classes: 7"),
        (good[1:], "shape"),
    ):
        write_nrrd(folder / "laendo.nrrd", values)
        with pytest.raises(DataError, match=what) as caught:
            LeftAtrium().read_case(tmp_path, "A1")
        assert caught.value.problems[0].where == f"case A1, {folder / 'laendo.nrrd'}"
    write_nrrd(folder / "laendo.nrrd", good, **{"space directions": np.diag([0.6, np.nan, 0.6])})
    with pytest.raises(DataError, match="spacing in the header"):
        LeftAtrium().read_case(tmp_path, "A1")
    (folder / "laendo.nrrd").write_bytes((folder / "lgemri.nrrd").read_bytes()[:400])
    with pytest.raises(DataError, match="cannot be read as NRRD"):
        LeftAtrium().read_case(tmp_path, "A1")
    (folder / "laendo.nrrd").unlink()
    with pytest.raises(DataError, match="file is missing"):
        LeftAtrium().read_case(tmp_path, "A1")
    monkeypatch.setitem(__import__("sys").modules, "nrrd", None)
    with pytest.raises(NotReadyError, match="pynrrd"):
        LeftAtrium().read_case(tmp_path, "A1")
