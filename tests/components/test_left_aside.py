"""What lies in a folder of own data and is not read, or not meant to train: said, with the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.engine.context import StageContext
from sfrbench.errors import DataError
from sfrbench.machine.datacheck import check_lists
from sfrbench.stages.prepare import run as prepare
from tests.support.data_writers import volume, write_decathlon, write_manifest, write_nifti, write_nnunet

CASES = ("c1", "c2", "c3", "c4", "c5", "c6")
PAIRS = [{"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in CASES]
ALONE = [{"image": f"imagesTr/{case}.nii.gz"} for case in CASES]


def _own(root: Path, labelled: int = 3) -> Path:
    """nnU-Net's layout, one channel, the first cases of six with a label."""
    write_nnunet(root, CASES, channels=1)
    for case in CASES[labelled:]:
        (root / "labelsTr" / f"{case}.nii.gz").unlink()
    return root


def _cli(command: str, root: Path, *more: str) -> Any:
    given = ["data", command, "decathlon", "--data", f"decathlon={root}", "--set", "test_cases=1", *more]
    return CliRunner().invoke(main, given)


def _prepare(tmp_path: Path, root: Path) -> StageContext:
    out = tmp_path / "out"
    out.mkdir()
    dataset = Decathlon(test_cases=1)
    ctx = StageContext({"dataset": dataset}, {}, {}, 0, out, tmp_path / "scratch", data_root=root)
    prepare.run(ctx)
    return ctx


def _said(root: Path, **fields: Any) -> str:
    return "\n".join(Decathlon(test_cases=1, **fields).remarks(root))


def _plain(root: Path) -> None:
    for case in ("c4", "c5"):
        (root / "imagesTr" / f"{case}_0000.nii.gz").unlink()
        write_nifti(root / "imagesTr" / f"{case}_0000.nii", volume()[0])


def _series(root: Path) -> None:
    (root / "imagesTr" / "c4_0000.nii.gz").unlink()
    (root / "imagesTr" / "c4").mkdir()
    (root / "imagesTr" / "c4" / "1.dcm").write_bytes(b"")


def _mha(root: Path) -> None:
    (root / "imagesTr" / "c4_0000.nii.gz").rename(root / "imagesTr" / "c4.mha")


def _label(root: Path) -> None:
    (root / "labelsTr" / "c3.nii.gz").rename(root / "labelsTr" / "c3.nrrd")


ASIDE: dict[str, tuple[Callable[[Path], None], str]] = {
    "nii": (_plain, "imagesTr holds 2 things that are not read: c4_0000.nii, c5_0000.nii (dataset.json says"),
    "series": (
        _series,
        "imagesTr holds 1 things that are not read: c4 (a folder is no volume; convert a DICOM",
    ),
    "mha": (_mha, "imagesTr holds 1 things that are not read: c4.mha (what is read ends with .nii.gz"),
    "label": (_label, "labelsTr holds 1 things that are not read: c3.nrrd (what is read ends with .nii.gz"),
}


@pytest.mark.parametrize("name", ASIDE)
def test_what_is_not_read_is_told(tmp_path: Path, name: str) -> None:
    root = _own(tmp_path)
    (root / "imagesTr" / "c1.json").write_text("{}")  # dcm2niix writes such beside its volumes
    (root / "imagesTr" / ".DS_Store").write_text("")
    assert "not read" not in _said(root)
    change, said = ASIDE[name]
    change(root)
    assert said in _said(root)
    assert f"note: {said}" in _cli("check", root).output


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_a_name_in_capitals_is_refused(tmp_path: Path, folder: str) -> None:
    root = _own(tmp_path)
    case = "c4_0000" if folder == "imagesTr" else "c2"
    (root / folder / f"{case}.nii.gz").rename(root / folder / f"{case}.NII.GZ")
    with pytest.raises(DataError, match=f"1 names end in capitals and are not read: {case}.NII.GZ") as caught:
        Decathlon(test_cases=1).case_lists(root)
    assert caught.value.problems[0].where == str(root / folder)


def test_a_file_that_a_list_names_is_read_whatever_its_ending(tmp_path: Path) -> None:
    pairs = [*PAIRS[:2], {**PAIRS[2], "label": "labelsTr/c3.nii"}]
    root = write_decathlon(tmp_path, CASES[:3], classes=2, training=pairs, file_ending=".nii.gz")
    (root / "labelsTr" / "c3.nii.gz").unlink()
    write_nifti(root / "labelsTr" / "c3.nii", volume(seed=2)[1])
    assert "not read" not in _said(root)
    assert Decathlon().read_case(root, "c3").label.any()


OWN = """
title: Own
dataset: {name: decathlon, labeled: 2, test_cases: 1}
protocol: strict
stages: [retrain]
base: {backbone: vnet, ssl: supervised}
profiles: {smoke: {replace: {dataset: decathlon}, dataset.labeled: 2, dataset.test_cases: 1}}
"""


def test_remarks_stand_before_a_run_and_in_the_record_of_prepare(tmp_path: Path) -> None:
    root = _own(tmp_path / "d")
    _plain(root)
    ctx = _prepare(tmp_path, root)
    assert ctx.notes["remarks"] == list(Decathlon(test_cases=1).remarks(root))
    (root / "imagesTr" / "c6_0000.nii.gz").write_bytes(b"broken, so that the run ends here")
    (tmp_path / "own.yaml").write_text(OWN)
    given = ["run", str(tmp_path / "own.yaml"), "--profile", "smoke", "--tracking-uri", "none"]
    given += ["--data", f"decathlon={root}", "--workspace", str(tmp_path / "w")]
    done = CliRunner().invoke(main, given)
    assert "note: data decathlon: imagesTr holds 2 things that are not read: c4_0000.nii" in done.output
    assert done.exit_code == 1


# -- labels without an image --------------------------------------------------------------------------------


def _suffix(root: Path) -> None:
    for case in CASES[:3]:
        (root / "labelsTr" / f"{case}.nii.gz").rename(root / "labelsTr" / f"{case}_seg.nii.gz")


def _orphan(root: Path) -> None:
    write_nifti(root / "labelsTr" / "c99.nii.gz", volume()[1])


def _folders(root: Path) -> None:
    for path in sorted((root / "imagesTr").iterdir()):
        path.unlink()
        (root / "imagesTr" / path.name[:2]).mkdir()


NO_IMAGE: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "suffix": (
        _suffix,
        "c2_seg",
        "rename it c2.nii.gz, if imagesTr/c2_0000.nii.gz is its image",
    ),
    "orphan": (_orphan, "c99", "bring the image, or take labelsTr/c99.nii.gz away"),
    "folders": (_folders, "c2", "there is c2, which is not read: convert it to NIfTI, as c2_0000.nii.gz"),
}


@pytest.mark.parametrize("name", NO_IMAGE)
def test_a_label_whose_image_is_not_there_says_how_names_match(tmp_path: Path, name: str) -> None:
    root = _own(tmp_path)
    change, case, remedy = NO_IMAGE[name]
    change(root)
    with pytest.raises(DataError, match="the label has no image of its name: imagesTr holds no") as caught:
        Decathlon(test_cases=1).read_case(root, case)
    (problem,) = caught.value.problems
    assert problem.where == f"case {case}, {root / 'labelsTr' / case}.nii.gz"
    assert remedy in problem.hint
    output = _cli("check", root).output
    assert f"{case}.nii.gz  the label has no image of its name" in output
    assert "take the case off" not in output


def test_unlabelled_cases_keep_their_ids_where_no_label_fits(tmp_path: Path) -> None:
    root = _own(tmp_path)
    _suffix(root)
    assert Decathlon(test_cases=1).without_label(root) == set(CASES)


def test_one_label_without_its_image_is_the_reason_and_not_the_split(tmp_path: Path) -> None:
    root = _own(tmp_path, labelled=1)
    _folders(root)
    with pytest.raises(DataError, match="the label has no image of its name"):
        Decathlon(test_cases=1).case_lists(root)


def test_an_id_that_cannot_be_names_its_own_file(tmp_path: Path) -> None:
    root = _own(tmp_path)
    (root / "labelsTr" / "c2.nii.gz").rename(root / "labelsTr" / "p%2.nii.gz")
    (root / "imagesTr" / "c2_0000.nii.gz").rename(root / "imagesTr" / "p%2_0000.nii.gz")
    (root / "imagesTr" / "c5_0000.nii.gz").rename(root / "imagesTr" / "q?_0000.nii.gz")
    with pytest.raises(DataError) as caught:
        Decathlon().case_lists(root)
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        (str(root / "labelsTr" / "p%2.nii.gz"), "'p%2' is not a case id"),
        (str(root / "imagesTr" / "q?_0000.nii.gz"), "'q?' is not a case id"),
    ]


# -- images that no list names ------------------------------------------------------------------------------


def _listed(root: Path, training: list[dict[str, str]], **more: Any) -> Path:
    write_decathlon(root, CASES, classes=2, training=training, **more)
    for case in CASES[3:]:
        (root / "labelsTr" / f"{case}.nii.gz").unlink()
    return root


def test_a_list_of_labelled_cases_says_nothing_of_other_images(tmp_path: Path) -> None:
    root = _listed(tmp_path, PAIRS[:3])
    assert Decathlon().without_label(root) == {"c4", "c5", "c6"}
    assert "3 images without a label stand on no list of dataset.json and train unlabelled: c4" in _said(root)
    assert "'unlisted: left_out' keeps them out" in _said(root)
    assert Decathlon(unlisted="left_out").without_label(root) == frozenset()
    assert "are left out: c4, c5, c6" in _said(root, unlisted="left_out")
    assert len(Decathlon(unlisted="left_out").source_files(root)) == 1 + 3 + 3


def test_a_list_with_unlabelled_images_is_whole(tmp_path: Path) -> None:
    root = _listed(tmp_path, [*PAIRS[:3], ALONE[3]], test=["./imagesTr/c5.nii.gz"])
    assert Decathlon().without_label(root) == {"c4"}
    assert "1 images without a label stand on no list of dataset.json and are left out: c6" in _said(root)
    assert Decathlon(unlisted="unlabelled").without_label(root) == {"c4", "c6"}  # c5 tests


def test_without_a_list_every_image_counts(tmp_path: Path) -> None:
    root = _own(tmp_path)
    for unlisted in (None, "left_out", "unlabelled"):
        assert Decathlon(unlisted=unlisted).without_label(root) == {"c4", "c5", "c6"}
    assert "stand on no list" not in _said(root, unlisted="left_out")
    assert "unlisted" not in Decathlon().key_settings()


# -- labels without a class ---------------------------------------------------------------------------------


def _empty(root: Path, cases: tuple[str, ...]) -> Path:
    for case in cases:
        write_nifti(root / "labelsTr" / f"{case}.nii.gz", np.zeros((20, 18, 16), np.uint8))
    return root


def test_no_class_in_any_training_label_is_refused(tmp_path: Path) -> None:
    root = _own(tmp_path / "d")
    train, test = Decathlon(test_cases=1).case_lists(root)
    _empty(root, tuple(train[:2]))
    check_lists(Decathlon(test_cases=1), root)
    done = _cli("check", root)
    assert done.exit_code == 1
    assert "BROKEN none of the 2 labelled training cases has a foreground voxel" in done.output
    with pytest.raises(
        DataError, match=f"none of the 2 labelled .* foreground voxel: {', '.join(train[:2])}"
    ):
        _prepare(tmp_path, root)
    assert test  # whose label has one


def test_one_empty_label_among_others_is_sound(tmp_path: Path) -> None:
    root = _own(tmp_path / "d")
    first, second = Decathlon(test_cases=1).case_lists(root)[0][:2]
    _empty(root, (first,))
    done = _cli("check", root)
    assert done.exit_code == 0
    assert f"note: with labeled: 1 and choice: 0 training learns from {first} alone" in done.output
    for fields in ("labeled=2", "choice=1"):
        done = _cli("check", root, "--set", fields)
        assert "learns from" not in done.output, fields
        assert "note: the label has no foreground voxel" in done.output
    _prepare(tmp_path, root)
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert second in index["train"]


def test_a_whole_list_has_no_remark(tmp_path: Path) -> None:
    """Where the lists name all that is there."""
    root = write_decathlon(tmp_path, classes=2)
    manifest = json.loads((root / "dataset.json").read_text())
    write_manifest(root, manifest, {"numTraining": 5})
    assert Decathlon(test_cases=1).remarks(root) == ()
