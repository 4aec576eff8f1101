"""dataset.json is read as it is written: files of any name and folder, classes, endings."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.errors import DataError, InputError
from sfrbench.machine.datacheck import check_lists
from tests.data_writers import (
    image_of,
    volume,
    write_decathlon,
    write_la,
    write_manifest,
    write_nifti,
    write_nnunet,
)

CASES = ("c1", "c2", "c3", "c4", "c5")
LABELS = {"0": "background", "1": "part"}


def _pair(case: str, images: str = "imagesTr", labels: str = "labelsTr") -> dict[str, Any]:
    return {"image": f"./{images}/{case}.nii.gz", "label": f"./{labels}/{case}.nii.gz"}


def _label(number: int) -> np.ndarray:
    """A label that no other number has."""
    label = np.zeros((20, 18, 16), np.uint8)
    label[: number + 1, :2, :2] = 1
    return label


def _read(root: Path, case: str, **fields: Any) -> Any:
    return Decathlon(**{"test_cases": 1, **fields}).read_case(root, case)


def _all(dataset: Decathlon, root: Path) -> list[str]:
    train, test = dataset.case_lists(root)
    return [*train, *test]


def test_labels_of_another_folder_are_read(tmp_path: Path) -> None:
    pairs = [_pair(case, labels="labelsTr2") for case in CASES]
    root = write_decathlon(tmp_path, CASES, classes=2, training=pairs)
    for number, case in enumerate(CASES):
        write_nifti(root / "labelsTr2" / f"{case}.nii.gz", _label(number))
        assert _read(root, case).label.sum() == 4 * (number + 1)
        assert _read(root, case).source["label_file"] == f"labelsTr2/{case}.nii.gz"
    sources = {path.parent.name for path in Decathlon().source_files(root)}
    assert "labelsTr2" in sources
    assert "labelsTr" not in sources


def test_crossed_pairs_are_read_as_they_are_written_and_told(tmp_path: Path) -> None:
    pairs = [_pair(case) for case in CASES]
    pairs[0]["label"], pairs[1]["label"] = pairs[1]["label"], pairs[0]["label"]
    root = write_decathlon(tmp_path, CASES, classes=2, training=pairs)
    for number, case in enumerate(CASES):
        write_nifti(root / "labelsTr" / f"{case}.nii.gz", _label(number))
    assert _read(root, "c1").label.sum() == 8
    assert _read(root, "c2").label.sum() == 4
    (said,) = Decathlon(test_cases=1).remarks(root)
    assert "2 cases the label of another case's name: c1, c2" in said


def test_the_mapping_of_nnunet_is_read_with_its_channels(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path)
    named = {
        f"p{n}": {
            "images": [f"imagesTr/n{n}_000{channel}.nii.gz" for channel in (1, 0)],
            "label": f"labelsTr/n{6 - n}.nii.gz",
        }
        for n in range(1, 6)
    }
    manifest = json.loads((root / "dataset.json").read_text())
    write_manifest(root, manifest, {"dataset": named})
    train, test = Decathlon(test_cases=1).case_lists(root)
    assert sorted(train + test) == ["p1", "p2", "p3", "p4", "p5"]
    # the order of the mapping's images counts, not their names
    assert _read(root, "p2", channel=0).source["file"] == "imagesTr/n2_0001.nii.gz"
    assert _read(root, "p2", channel=1).source["file"] == "imagesTr/n2_0000.nii.gz"
    assert _read(root, "p2").source["label_file"] == "labelsTr/n4.nii.gz"


def _monai(tmp_path: Path, **changes: Any) -> Path:
    """Names as in MONAI's list of BTCV: the image's and the label's differ."""
    names = [f"000{number}" for number in range(1, 7)]
    root = write_decathlon(tmp_path, names, classes=2, **changes)
    for folder, start in (("imagesTr", "img"), ("labelsTr", "label")):
        for path in sorted((root / folder).iterdir()):
            path.rename(path.with_name(start + path.name))
    return root


def _monai_pair(number: int, **more: Any) -> dict[str, Any]:
    return {"image": f"imagesTr/img000{number}.nii.gz", "label": f"labelsTr/label000{number}.nii.gz", **more}


def test_monais_validation_cases_are_the_test_cases(tmp_path: Path) -> None:
    pairs = [_monai_pair(number) for number in range(1, 7)]
    root = _monai(tmp_path, training=pairs[:4], validation=pairs[4:])
    train, test = Decathlon().case_lists(root)
    assert (sorted(train), test) == (["img0001", "img0002", "img0003", "img0004"], ["img0005", "img0006"])
    assert image_of(_read(root, "img0003")) == 2
    assert _read(root, "img0003").source["label_file"] == "labelsTr/label0003.nii.gz"
    assert any("test cases are those of" in said for said in Decathlon().remarks(root))
    # where the number of test cases is given, they are cases like the others: none is lost
    assert sorted(_all(Decathlon(test_cases=2), root)) == [f"img000{n}" for n in range(1, 7)]


def test_monais_folds_and_labelled_test_list(tmp_path: Path) -> None:
    root = _monai(tmp_path, training=[_monai_pair(number, fold=number % 3) for number in range(1, 7)])
    train, test = Decathlon(fold=1).case_lists(root)
    assert sorted(test) == ["img0001", "img0004"]
    assert sorted(train) == ["img0002", "img0003", "img0005", "img0006"]
    with pytest.raises(DataError, match=r"no labelled case of dataset\.json has fold 7"):
        Decathlon(fold=7).case_lists(root)
    pairs = [_monai_pair(number) for number in range(1, 7)]
    manifest = json.loads((root / "dataset.json").read_text())
    write_manifest(root, manifest, {"training": pairs[2:], "test": pairs[:2]})
    assert Decathlon().case_lists(root)[1] == ["img0001", "img0002"]


def test_a_list_of_images_and_equal_names_in_folders_of_their_own(tmp_path: Path) -> None:
    entries = []
    for number in range(4):
        folder = tmp_path / "raw" / f"p{number}"
        image, label = volume(seed=number)
        write_nifti(folder / "t1.nii.gz", image)
        write_nifti(folder / "flair.nii.gz", volume(seed=number + 6)[0])
        write_nifti(folder / "seg.nii.gz", label)
        images = [f"raw/p{number}/t1.nii.gz", f"raw/p{number}/flair.nii.gz"]
        entries.append({"image": images, "label": str(folder / "seg.nii.gz")})  # absolute, and inside
    write_manifest(tmp_path, {"labels": LABELS, "training": entries}, {"modality": {"0": "T1", "1": "FLAIR"}})
    train, test = Decathlon().case_lists(tmp_path)
    assert sorted(train + test) == ["p0_t1", "p1_t1", "p2_t1", "p3_t1"]
    assert image_of(_read(tmp_path, "p2_t1")) == 2
    assert image_of(_read(tmp_path, "p2_t1", channel=1)) == 8
    assert {str(path)[:1] for path in Decathlon().source_files(tmp_path)} == {"/"}


def test_cases_with_a_label_that_no_list_names_are_told(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, CASES, classes=2, training=[_pair(case) for case in CASES[:4]])
    assert "c5" not in _all(Decathlon(test_cases=1), root)
    assert any(
        "1 cases of imagesTr have a label, stand on no list" in said for said in Decathlon().remarks(root)
    )


BAD_PATHS = ["/etc/passwd", "../../x.nii.gz", "labelsTr/../../x.nii.gz", "", 7, [7], "a\0b", "."]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, path: Any) -> None:
    root = write_decathlon(tmp_path / "d", CASES, classes=2, training=[{"image": path}, *map(_pair, CASES)])
    with pytest.raises(DataError, match=r"entry 1 .*is not a file in the data folder"):
        Decathlon().case_lists(root)


def test_the_manifest_under_another_name_is_pointed_at(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, classes=2)
    (root / "dataset.json").rename(root / "dataset_0.json")
    with pytest.raises(DataError, match=r"here is dataset_0\.json"):
        Decathlon().class_names(root)


CLASSES: dict[str, tuple[Mapping[str, Any], str]] = {
    "background is 1": ({"liver": 0, "background": 1}, "the background is number 1, not 0"),
    "background is 1, turned": ({"0": "liver", "1": "Background"}, "the background is number 1, not 0"),
    "no background": ({"liver": 0, "tumour": 1}, "number 0 is 'liver', and 0 is the background"),
    "a name twice": ({"0": "background", "1": "kidney", "2": "kidney"}, "'kidney' names the classes 1 and 2"),
    "twice but for blanks": (
        {"background": 0, "kidney": 1, "kidney ": 2},
        "'kidney' names the classes 1 and 2",
    ),
    "a superscript": ({"0": "background", "²": "x"}, "is not a class"),
    "a long number": ({"0": "background", "9" * 5000: "x"}, "is not a class"),
    "no name": ({"0": "background", "1": " "}, "is not a class"),
    "a line break": ({"0": "background", "1": "a\nb"}, "is not a class"),
    "a list": ({"0": "background", "1": ["x"]}, "is not a class"),
    "nnU-Net's ignore": ({"0": "background", "1": "ignore"}, "is not a class"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_that_cannot_be_are_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    labels, what = CLASSES[name]
    root = write_decathlon(tmp_path, classes=2, labels=labels)
    for asked in (Decathlon().class_names, Decathlon().case_lists, Decathlon().source_files):
        with pytest.raises(DataError, match=what) as caught:
            asked(root)
    assert caught.value.problems[0].hint


@pytest.mark.parametrize("name", ["Background", "BG", "clear label", "unlabelled", "no tumour", "0", "Other"])
def test_the_background_has_many_names(tmp_path: Path, name: str) -> None:
    root = write_decathlon(tmp_path, classes=2, labels={"0": name, "1": "part"})
    assert Decathlon().class_names(root) == (name, "part")


TEXTS = {
    "a key twice": ('{"labels": {"0": "background", "1": "a", "1": "b"}}', "the key '1' stands twice"),
    "deep": ('{"labels": ' + "[" * 100_000, "nested too deeply"),
    "a long number": ('{"labels": ' + "9" * 5000 + "}", "a number is too long"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_odd_json_is_one_message(tmp_path: Path, name: str) -> None:
    text, what = TEXTS[name]
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=what):
        Decathlon().class_names(tmp_path)


class Twins(LeftAtrium):
    """A data set of a user's own, with two classes of one name."""

    def class_names(self, root: Path | None) -> tuple[str, ...]:
        return ("background", "kidney", "kidney")


def test_own_datasets_are_held_to_it_and_so_is_the_split(tmp_path: Path) -> None:
    root = write_la(tmp_path)
    with pytest.raises(DataError, match="two classes have one name"):
        check_lists(Twins(), root)
    check_lists(LeftAtrium(labeled=2, val=1), root)
    with pytest.raises(InputError, match="labeled: 4 labelled cases asked for, the training pool has 3"):
        check_lists(LeftAtrium(labeled=4), root)


def _renamed(root: Path, folders: Sequence[str], ending: str = ".nii") -> Path:
    for folder in folders:
        for path in sorted((root / folder).iterdir()):
            (root / folder / (path.name.removesuffix(".nii.gz") + ending)).write_bytes(
                gzip.decompress(path.read_bytes())
            )
            path.unlink()
    return root


@pytest.mark.parametrize("folders", [["imagesTr", "labelsTr"], ["imagesTr"], ["labelsTr"]])
def test_nii_needs_no_file_ending(tmp_path: Path, folders: list[str]) -> None:
    root = _renamed(write_decathlon(tmp_path, classes=2, training=None), folders)
    assert sorted(_all(Decathlon(), root)) == list(CASES)
    assert image_of(_read(root, "c3")) == 2


def test_an_ending_that_does_not_fit_is_told(tmp_path: Path) -> None:
    root = _renamed(write_decathlon(tmp_path, classes=2, training=None, file_ending=".nii.gz"), ["labelsTr"])
    with pytest.raises(
        DataError, match=r"holds no label that ends with \.nii\.gz\n.*5 of \.nii; set file_ending"
    ):
        Decathlon().case_lists(root)
    root = _renamed(write_decathlon(tmp_path / "n", classes=2, training=None), ["labelsTr"], ".mha")
    with pytest.raises(DataError, match=r"holds 5 of \.mha; bring the labels as \.nii\.gz or \.nii"):
        Decathlon().case_lists(root)
    root = write_decathlon(tmp_path / "t", classes=2, training=None)
    (root / "imagesTr" / "c1.nii").write_bytes(b"")
    with pytest.raises(DataError, match=r"'c1' is there twice, as \.nii and as"):
        Decathlon().case_lists(root)
