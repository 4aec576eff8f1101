"""Images without a label: unlabelled training cases, whose labels no stage asks for, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.protocol.standard import StandardProtocol
from sfrbench.components.split import split_cases
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import EVALUATE, Volumes, split_of
from sfrbench.errors import DataError, InputError
from sfrbench.files.atomic import sha256_of
from sfrbench.machine.datacheck import by_class, check, check_lists, summary
from sfrbench.report.render.contact import _tile
from sfrbench.stages.evaluate import run as evaluate
from sfrbench.stages.evaluate.recipe import EvaluateSettings
from sfrbench.stages.prepare import run as prepare
from sfrbench.store.store import Artefact
from tests.support.data_writers import volume, write_decathlon, write_manifest, write_nifti, write_nnunet

CASES = [f"n{number:02d}" for number in range(12)]
LABELLED = CASES[2:7]


def _folder(root: Path, **changes: Any) -> Path:
    """nnU-Net's layout, five of twelve cases with a label."""
    write_nnunet(root, CASES)
    for case in set(CASES) - set(LABELLED):
        (root / "labelsTr" / f"{case}.nii.gz").unlink()
    manifest = json.loads((root / "dataset.json").read_text())
    return write_manifest(root, manifest, changes)


def _prepared(tmp_path: Path, dataset: Decathlon, root: Path) -> Artefact:
    out = tmp_path / "prepared"
    out.mkdir()
    prepare.run(StageContext({"dataset": dataset}, {}, {}, 0, out, tmp_path / "scratch", data_root=root))
    return _artefact("prepare", out)


def _artefact(stage: str, out: Path) -> Artefact:
    files = {
        path.relative_to(out).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in out.rglob("*")
        if path.is_file()
    }
    return Artefact(stage, "0" * 64, out, {"files": files})


def test_images_without_a_label_stand_behind_the_others(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    dataset = Decathlon(test_cases=2)
    train, test = dataset.case_lists(root)
    bare = set(CASES) - set(LABELLED)
    assert len(train) == 3 + 7
    assert set(train[:3]) | set(test) == set(LABELLED)
    assert set(train[3:]) == bare == dataset.without_label(root)
    said = " ".join(dataset.remarks(root))
    assert "7 of 12 cases have no label and train unlabelled, never test or validate: n00, n01, n07" in said
    assert "numTraining in dataset.json is 12; 5 cases have a label" in said
    # the order of those with a label is that of a folder without the others
    for case in bare:
        for channel in (0, 1):
            (root / "imagesTr" / f"{case}_{channel:04d}.nii.gz").unlink()
    assert dataset.case_lists(root) == (train[:3], test)
    assert dataset.without_label(root) == frozenset()
    assert [list(part) for part in Decathlon().case_lists(root)] == [[*train[:3], test[0]], test[1:]]


def test_a_missing_label_can_be_an_error(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    strict = Decathlon(missing_label="error")
    with pytest.raises(DataError, match="7 training cases have no label: n00, n01, n07, n08, …"):
        strict.case_lists(root)
    assert strict.key_settings()["missing_label"] == "error"
    assert "missing_label" not in Decathlon().key_settings()
    done = CliRunner().invoke(
        main, ["data", "check", "decathlon", "--data", f"decathlon={root}", "--set", "missing_label=error"]
    )
    assert done.exit_code == 2
    assert "missing_label: unlabelled" in done.output


WAYS = ("no key", "null", "empty", "not on the list", "another folder")


@pytest.mark.parametrize("way", WAYS)
def test_a_list_says_that_there_is_no_label_in_several_ways(tmp_path: Path, way: str) -> None:
    cases = ["c1", "c2", "c3", "c4", "c5"]
    entries: list[dict[str, Any]] = [
        {"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in cases
    ]
    if way == "not on the list":
        entries.pop(1)
    elif way == "another folder":
        write_nifti(tmp_path / "more" / "c2.nii.gz", volume(seed=1)[0])
        entries[1] = {"image": "more/c2.nii.gz"}
    elif way == "no key":
        del entries[1]["label"]
    else:
        entries[1]["label"] = None if way == "null" else ""
    root = write_decathlon(tmp_path, cases, classes=2, training=entries)
    (root / "labelsTr" / "c2.nii.gz").unlink()
    dataset = Decathlon()
    train, test = dataset.case_lists(root)
    assert train[-1] == "c2"
    assert sorted([*train, *test]) == cases
    case = dataset.read_case(root, "c2")
    assert (case.labelled, bool(case.label.any()), "label_file" in case.source) == (False, False, False)
    assert dataset.read_case(root, "c1").labelled
    assert len(dataset.source_files(root)) == 1 + 5 + 4


def test_what_the_list_tests_on_never_trains(tmp_path: Path) -> None:
    cases = ["c1", "c2", "c3", "c4", "c5"]
    pairs = [{"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in cases]
    root = write_decathlon(
        tmp_path, cases, classes=2, training=pairs[:3], test=["./imagesTr/c4.nii.gz"], validation=[pairs[4]]
    )
    (root / "labelsTr" / "c4.nii.gz").unlink()
    write_nifti(root / "imagesTs" / "t1.nii.gz", volume(seed=9)[0])
    train, test = Decathlon().case_lists(root)
    assert (sorted(train), test) == (["c1", "c2", "c3"], ["c5"])
    assert "1 images of imagesTs are not used" in Decathlon().remarks(root)


def test_a_label_that_is_named_and_missing_is_a_fault_and_so_is_none_at_all(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path / "a", classes=2)
    (root / "labelsTr" / "c2.nii.gz").unlink()
    with pytest.raises(DataError, match="the file is missing"):
        Decathlon().read_case(root, "c2")
    root = write_decathlon(tmp_path / "b", classes=2, training=[{"image": "imagesTr/c1.nii.gz"}])
    with pytest.raises(DataError, match=r"none of the 1 training cases of dataset\.json has a label"):
        Decathlon().case_lists(root)
    pair = {"image": "imagesTr/c1.nii.gz", "label": "labelsTr/c1.nii.gz"}
    manifest = json.loads((root / "dataset.json").read_text())
    write_manifest(root, manifest, {"training": [pair, {"image": "imagesTr/c2.nii.gz"}]})
    with pytest.raises(DataError, match="1 test cases leave nothing of 1 training cases with a label"):
        Decathlon().case_lists(root)


def test_decathlon_names_that_end_with_four_digits_are_whole(tmp_path: Path) -> None:
    cases = [f"case_{number:04d}" for number in range(6)]
    root = write_decathlon(tmp_path, cases, classes=2, training=None)
    (root / "labelsTr" / "case_0001.nii.gz").unlink()
    assert Decathlon().case_lists(root)[0][-1] == "case_0001"


def test_folds_take_the_unlabelled_cases_along(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    (root / "splits_final.json").write_text(json.dumps([{"train": LABELLED[:4], "val": LABELLED[4:]}]))
    train, test = Decathlon(fold=0).case_lists(root)
    assert test == LABELLED[4:]
    assert sorted(train) == sorted(set(CASES) - {LABELLED[4]})
    (root / "splits_final.json").write_text(json.dumps([{"train": LABELLED, "val": ["n00"]}]))
    with pytest.raises(DataError, match="fold 0 tests on 1 cases that have no label: n00"):
        Decathlon(fold=0).case_lists(root)


def test_the_split_takes_them_as_unlabelled_only() -> None:
    train, bare = ["a", "u", "b", "c", "v"], {"u", "v"}
    split = split_cases(train, ["t"], without_label=bare, labeled=1, val=1)
    assert (split.labelled, split.unlabelled, split.val) == (("a",), ("b", "u", "v"), ("c",))
    second = split_cases(train, ["t"], without_label=bare, labeled=2, choice=1, unlabeled=2)
    assert (second.labelled, second.unlabelled) == (("c", "a"), ("b", "u"))
    for choice in range(5):
        split = split_cases(train, ["t"], without_label=bare, labeled=1, choice=choice, val=1)
        assert not bare & {*split.labelled, *split.val}
    with pytest.raises(
        InputError, match=r"4 labelled cases .* has 3\n.*3 training cases with a label \(2 more"
    ):
        split_cases(train, ["t"], without_label=bare, labeled=4)
    with pytest.raises(InputError, match="3 validation cases leave nothing of 3 training cases with a label"):
        split_cases(train, ["t"], without_label=bare, labeled=1, val=3)


def test_more_labels_than_there_are_is_said_before_anything_runs(tmp_path: Path) -> None:
    root = _folder(tmp_path / "d")
    check_lists(Decathlon(test_cases=1, labeled=4), root)
    with pytest.raises(InputError, match="labeled: 11 labelled cases asked for, the training pool has 4"):
        check_lists(Decathlon(test_cases=1, labeled=11), root)
    text = """
title: Own
dataset: {name: decathlon, labeled: 2, test_cases: 1}
protocol: strict
base: {backbone: vnet, ssl: supervised}
arms: [{name: lb, label: LB}, {name: ub, label: UB, dataset.labeled: 11}]
profiles: {smoke: {replace: {dataset: decathlon}, dataset.test_cases: 1}}
"""
    (tmp_path / "own.yaml").write_text(text)
    given = [str(tmp_path / "own.yaml"), "--profile", "smoke", "--data", f"decathlon={root}"]
    given += ["--workspace", str(tmp_path / "runs")]
    told = CliRunner().invoke(main, ["validate", *given])
    ran = CliRunner().invoke(main, ["run", *given])
    assert ran.exit_code == 2
    for output in (told.output, ran.output):
        assert "labeled: 11 labelled cases asked for, the training pool has 4" in output
        assert "7 more have none" in output
    assert not (tmp_path / "runs" / "store" / "prepare").exists()


def test_their_labels_cannot_be_reached(tmp_path: Path) -> None:
    root, dataset = _folder(tmp_path / "d"), Decathlon(test_cases=1, labeled=2)
    artefact = _prepared(tmp_path, dataset, root)
    volumes, bare = Volumes(artefact), set(CASES) - set(LABELLED)
    assert volumes.without_label == bare
    assert sorted(path.stem for path in (artefact.folder / "labels").iterdir()) == LABELLED
    assert sorted(path.stem for path in (artefact.folder / "images").iterdir()) == CASES
    split = split_of(dataset, volumes)
    assert bare < set(split.unlabelled)
    for purpose in ("retrain", "validation", EVALUATE, f"{EVALUATE}: picture"):
        with pytest.raises(DataError, match=f"case n00.*has no label, and '{purpose}' asks for it"):
            volumes.labels(["n00"], purpose)
    assert volumes.image("n00").shape == volumes.case("n00").shape
    # a case that gets its label later is prepared anew, the others are not
    write_nifti(root / "labelsTr" / "n00.nii.gz", volume(seed=0)[1])
    (tmp_path / "again").mkdir()
    later = StageContext(
        {"dataset": dataset}, {}, {}, 0, tmp_path / "again", tmp_path / "prepare-2", data_root=root
    )
    (tmp_path / "scratch").rename(tmp_path / "prepare-1")
    prepare.run(later)
    assert later.notes["adopted"] == len(CASES) - 1
    assert later.notes["without_label"] == 6
    np.testing.assert_array_equal(np.load(tmp_path / "again" / "labels" / "n00.npy"), volume(seed=0)[1])


def test_scores_leave_them_out_and_say_so(tmp_path: Path) -> None:
    root = _folder(tmp_path / "d")
    artefact = _prepared(tmp_path, Decathlon(test_cases=1, labeled=2), root)
    volumes, cases = Volumes(artefact), ["n00", "n02", "n11"]
    made = tmp_path / "pseudo"
    (made / "labels").mkdir(parents=True)
    for case in cases:
        np.save(made / "labels" / f"{case}.npy", np.zeros(volumes.case(case).shape, np.uint8))
    (made / "index.json").write_text(json.dumps({"cases": cases}))
    (tmp_path / "scores").mkdir()
    ctx = StageContext(
        {"protocol": StandardProtocol()},
        EvaluateSettings(),
        {"prepare": artefact, "prediction": _artefact("pseudolabel", made)},
        None,
        tmp_path / "scores",
        tmp_path / "w",
    )
    evaluate.run(ctx)
    assert {line.split(",")[0] for line in (ctx.out / "scores.csv").read_text().splitlines()[1:]} == {"n02"}
    ledger = json.loads((ctx.out / "ledger.json").read_text())
    assert ledger == {"labels_opened": ["n02"], "purpose": EVALUATE, "without_label": ["n00", "n11"]}
    assert ctx.notes == {"without_label": 2}


def test_the_check_tells_them_apart_and_finds_their_twins(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    dataset = Decathlon(test_cases=1)
    test = dataset.case_lists(root)[1][0]
    for channel in (0, 1):  # the image of the test case, among the unlabelled ones
        source = root / "imagesTr" / f"{test}_{channel:04d}.nii.gz"
        (root / "imagesTr" / f"n00_{channel:04d}.nii.gz").write_bytes(source.read_bytes())
    reports = {report.case: report for report in check(dataset, root)}
    assert {case for case, report in reports.items() if not report.labelled} == set(CASES) - set(LABELLED)
    assert (reports["n01"].absent, reports["n01"].notes, reports["n01"].volumes) == ((), (), {})
    assert (reports[test].duplicate_of, reports[test].leak) == ("n00", True)
    assert by_class(list(reports.values()), dataset.class_names(root))[0].startswith("liver: in 5 of 5 cases")
    found = summary(dataset, root)
    assert (found.train, found.test, found.without_label) == (11, 1, 7)
    assert _tile(reports["n01"], dataset.read_case(root, "n01")).said == "no label"
    sheet = tmp_path / "sheet.png"
    given = ["decathlon", "--data", f"decathlon={root}", "--set", "test_cases=1"]
    done = CliRunner().invoke(main, ["data", "check", *given, "--contact-sheet", str(sheet)])
    assert done.exit_code == 1
    assert done.output.count("NO LABEL") == 7
    assert "note: 7 of 12 cases have no label" in done.output
    assert sheet.is_file()
    listed = CliRunner().invoke(main, ["data", "list", "--data", f"decathlon={root}"])
    assert "10 train (7 without a label), 2 test" not in listed.output
    assert "(7 without a label), 1 test" in listed.output
