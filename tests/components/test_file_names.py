"""Names of files and ids: letters with marks, and one file under two names."""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sfrbench.components.dataset._checks import Place
from sfrbench.components.dataset._nifti import read_pair
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.errors import DataError
from tests.support.data_writers import image_of, volume, write_decathlon, write_nifti, write_nnunet

NFC, NFD = "f\u00e9", "fe\u0301"  # e with acute, in one character and in two
CASES = ("c1", "c2", "c3", "c4")


def _pair(case: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"}


def _ids(root: Path, **fields: Any) -> list[str]:
    train, test = Decathlon(**{"test_cases": 1, **fields}).case_lists(root)
    return sorted([*train, *test])


def _renamed(root: Path, old: str, new: str, folders: tuple[str, ...] = ("imagesTr", "labelsTr")) -> None:
    for folder in folders:
        for path in (root / folder).glob(f"{old}*"):
            path.rename(path.with_name(new + path.name.removeprefix(old)))


@pytest.mark.parametrize("on_disk", [NFC, NFD])
@pytest.mark.parametrize("named", [NFC, NFD])
def test_names_match_however_marks_are_written(tmp_path: Path, on_disk: str, named: str) -> None:
    root = write_decathlon(tmp_path, CASES, classes=2, training=[_pair(x) for x in (named, *CASES[1:])])
    _renamed(root, "c1", on_disk)
    assert _ids(root) == ["c2", "c3", "c4", NFC]
    case = Decathlon(test_cases=1).read_case(root, NFC)
    assert (image_of(case), case.source["file"]) == (0, f"imagesTr/{on_disk}.nii.gz")
    assert {f"{on_disk}.nii.gz"} <= {path.name for path in Decathlon().source_files(root)}


def test_image_and_label_in_two_spellings_are_one_case(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path)
    before = _ids(root)
    _renamed(root, before[0], NFD, ("imagesTr",))
    _renamed(root, before[0], NFC, ("labelsTr",))
    assert _ids(root) == sorted([*before[1:], NFC])
    for channel in (0, 1):
        case = Decathlon(channel=channel, test_cases=1).read_case(root, NFC)
        assert case.source["file"] == f"imagesTr/{NFD}_000{channel}.nii.gz"


def test_a_folder_in_another_spelling_is_found(tmp_path: Path) -> None:
    pairs = [{**_pair(x), "image": f"{NFC}/{x}.nii.gz"} for x in CASES]
    root = write_decathlon(tmp_path, CASES, classes=2, training=pairs)
    (root / "imagesTr").rename(root / NFD)
    assert image_of(Decathlon(test_cases=1).read_case(root, "c3")) == 2


def test_folds_name_cases_in_either_spelling(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, CASES, classes=2, training=[_pair(x) for x in (NFD, *CASES[1:])])
    _renamed(root, "c1", NFD)
    folds = [{"train": ["c2", "c3", "c4"], "val": [NFD]}]
    (root / "splits_final.json").write_text(json.dumps(folds))
    assert Decathlon(fold=0).case_lists(root)[1] == [NFC]


@pytest.mark.parametrize("listed", [(NFC, NFD), (NFC,), ()])
def test_two_names_that_are_one_are_refused(tmp_path: Path, listed: tuple[str, ...]) -> None:
    root = write_decathlon(tmp_path, CASES, classes=2, training=[_pair(x) for x in (*listed, *CASES)])
    for folder in ("imagesTr", "labelsTr"):
        for name in (NFC, NFD):
            shutil.copy(root / folder / "c1.nii.gz", root / folder / f"{name}.nii.gz")
    if len(os.listdir(root / "imagesTr")) == len(CASES) + 1:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(DataError, match=f"'{NFC}' is there twice, in two spellings"):
        _ids(root)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x\u0303", r"U\+0303 COMBINING TILDE, a mark that no single character has together with its letter"),
        ("a\nb", r"'a\\nb' is not a case id: it holds U\+000A$"),
        ("a\u200bb", r"U\+200B ZERO WIDTH SPACE$"),
        ("a:b", "'a:b' is not a case id$"),
    ],
)
def test_an_id_that_is_refused_names_the_character(tmp_path: Path, name: str, what: str) -> None:
    root = write_decathlon(tmp_path, CASES, classes=2, training=[_pair(x) for x in (name, *CASES[1:])])
    with pytest.raises(DataError) as caught:
        _ids(root)
    (problem,) = caught.value.problems
    assert re.search(what, problem.what), problem.what
    assert "dataset.json, entry 1" in problem.where


def test_class_names_that_are_one_are_refused(tmp_path: Path) -> None:
    labels = {"0": "background", "1": NFC, "2": unicodedata.normalize("NFD", NFC)}
    root = write_decathlon(tmp_path, labels=labels)
    with pytest.raises(DataError, match="names the classes 1 and 2"):
        Decathlon().class_names(root)


def _symbolic(root: Path, of: str, to: str) -> None:
    (root / to).unlink()
    (root / to).symlink_to(root / of)


@pytest.mark.parametrize("way", ["same", "spelling", "symlink", "folder", "hard link"])
def test_an_image_is_not_its_own_label(tmp_path: Path, way: str) -> None:
    pairs = [_pair(case) for case in CASES]
    root = write_decathlon(tmp_path, CASES, classes=2, training=pairs)
    label, image = "labelsTr/c2.nii.gz", "imagesTr/c2.nii.gz"
    if way == "symlink":
        _symbolic(root, label, image)
    elif way == "hard link":
        (root / image).unlink()
        os.link(root / label, root / image)
    else:
        (root / "other").symlink_to(root / "labelsTr")
        named = {"same": label, "spelling": "./imagesTr/../labelsTr//c2.nii.gz", "folder": "other/c2.nii.gz"}
        pairs[1]["image"] = named[way]
        write_decathlon(root, CASES, classes=2, training=pairs)
    with pytest.raises(DataError, match="image of case 'c2' is the same file as its own label") as caught:
        _ids(root)
    assert caught.value.problems[0].where == f"{root / 'dataset.json'}, training, entry 2"


def test_an_image_is_not_the_label_of_another_case(tmp_path: Path) -> None:
    pairs = [_pair(case) for case in CASES]
    pairs[0]["image"] = pairs[2]["label"]
    root = write_decathlon(tmp_path, CASES, classes=2, training=pairs)
    with pytest.raises(DataError, match=r"entry 1  the image of case '\w+' is .*another case, labelsTr/c3"):
        _ids(root)


def test_labels_beside_their_images_are_no_unlabelled_cases(tmp_path: Path) -> None:
    pairs = [{**_pair(case), "label": f"imagesTr/{case}_seg.nii.gz"} for case in CASES]
    root = write_decathlon(tmp_path, CASES, classes=2, training=pairs)
    for case in CASES:
        (root / "labelsTr" / f"{case}.nii.gz").rename(root / pairs[CASES.index(case)]["label"])
    assert _ids(root) == list(CASES)


def test_an_image_that_is_its_own_label_where_names_are_fixed(tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "image.nii.gz", volume()[1])
    (tmp_path / "label.nii.gz").symlink_to(image)
    with pytest.raises(DataError, match="the label is the same file as the image"):
        read_pair(Place("c", image), Place("c", tmp_path / "label.nii.gz"), ("background", "part"))
