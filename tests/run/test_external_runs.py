"""Another tool's label maps as an arm: scored as by medpy, run once, refused where they do not fit."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sfrbench.engine.volumes import Volumes
from sfrbench.errors import DataError
from sfrbench.machine.needs import Machine
from sfrbench.report.facts.assemble import info_of
from sfrbench.report.items import kinds
from sfrbench.run.executors.node import Worker
from sfrbench.run.experiment import Experiment, open_experiment
from sfrbench.stages.external import run as external
from sfrbench.store.store import Artefact
from tests.support.data_writers import volume, write_decathlon, write_nifti
from tests.support.runs import QUIET, here

SPEC = """\
title: Another tool
dataset: {name: decathlon, labeled: 1, test_cases: 3}
protocol: {name: strict, spacing: mm}
arms: [{name: nn, label: nnU-Net, predictions: nn}]
seeds: [0, 1]
report: [{table: results}]
"""
#: Axes in another order than right, front and top, and sides of 1.5, 2 and 1 mm.
AFFINE = np.array([[-1.5, 0, 0, 10], [0, 0, 2.0, -4], [0, 1.0, 0, 7], [0, 0, 0, 1.0]])
CASES = [f"c{number}" for number in range(8)]


def guess(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A label map that errs, and the truth."""
    truth = volume(seed=number, classes=3)[1]
    rng = np.random.default_rng(number)
    wrong = np.roll(truth, (number % 3, 1, -1), axis=(0, 1, 2))
    specks = rng.random(truth.shape) < 0.002
    return np.where(specks, 1 + number % 2, wrong).astype(np.uint8), truth


def write_guesses(folder: Path) -> None:
    """As nnU-Net writes them, beside its own files; a few have their voxels in another order."""
    for number, case in enumerate(CASES):
        image = nib.Nifti1Image(guess(number)[0], AFFINE)
        image = nib.as_closest_canonical(image) if number % 2 else image
        folder.mkdir(exist_ok=True)
        nib.save(image, folder / f"{case}.nii.gz")
    (folder / "plans.json").write_text("{}", encoding="utf-8")


def make(folder: Path, spec: str = SPEC) -> Path:
    write_decathlon(folder / "data", CASES, affine=AFFINE)
    write_guesses(folder / "nn")
    (folder / "tools.yaml").write_text(spec, encoding="utf-8")
    return folder


def opened(place: Path, **fields: str) -> Experiment:
    text = SPEC
    if fields:
        given = ", ".join(f"{name}: {value}" for name, value in {"folder": "nn", **fields}.items())
        text = SPEC.replace("predictions: nn", f"predictions: {{{given}}}")
    (place / "tools.yaml").write_text(text, encoding="utf-8")
    machine = Machine(place / "runs", {"decathlon": place / "data"}, "cpu")
    return open_experiment(str(place / "tools.yaml"), "cpu", machine, items=kinds())


def run(experiment: Experiment) -> dict[str, Artefact]:
    """Every node of the plan; by stage."""
    worker = Worker.of(experiment.store, experiment.machine, "cpu")
    return {node.stage: worker.run(node) for node in experiment.plan.nodes.values()}


def lacking(experiment: Experiment) -> str:
    return "\n".join(map(str, experiment.machine.lacks(experiment.plan)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tools"))


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil, with the prepared volumes."""
    run(opened(folder))
    for name in ("data", "nn", "runs"):
        shutil.copytree(folder / name, tmp_path / name, copy_function=shutil.copy2)
    shutil.rmtree(tmp_path / "runs" / "store" / "external", ignore_errors=True)
    return tmp_path


@pytest.fixture(scope="module")
def command(folder: Path) -> Callable[..., str]:
    def call(name: str, *arguments: str) -> str:
        common = ("--profile", "cpu", "--data", "decathlon=data", "--device", "cpu")
        done = here(name, "tools.yaml", *arguments, *common, cwd=folder)
        return done.stdout + done.stderr

    said = call("run", *QUIET)
    assert "nodes: 3 ran, 0 reused, 0 failed, 0 blocked" in said
    assert "note: arm nn: 5 files of other cases are left out: " in said
    return call


def test_scores_are_those_of_medpy_on_the_raw_grid(command: Callable[..., str]) -> None:
    binary = pytest.importorskip("medpy.metric.binary", reason="medpy is not installed")
    rows = list(csv.DictReader(io.StringIO(command("results"))))
    found = {(row["seed"], row["case"], row["class"], row["metric"]): float(row["value"]) for row in rows}
    cases = {case for _, case, _, _ in found}
    assert len(cases) == 3
    sides = (1.5, 1.0, 2.0)  # along the axes of the files
    for case in cases:
        wrong, truth = guess(CASES.index(case))
        for number in (1, 2):
            a, b = wrong == number, truth == number
            expected = {
                "dice": 100 * binary.dc(a, b),
                "hd95": binary.hd95(a, b, sides),
                "asd": binary.asd(a, b, sides),
            }
            for seed in ("0", "1"):
                for metric, value in expected.items():
                    assert found[seed, case, f"part {number}", metric] == pytest.approx(value, rel=1e-6)


def test_a_second_run_does_nothing(command: Callable[..., str]) -> None:
    said = command("run", *QUIET)
    assert "nodes: 0 ran, 3 reused, 0 failed" in said
    assert "0 to run" in command("plan")
    assert "external" in command("run", "--dry-run")
    assert "sound, 2 cells" in command("validate")


def test_tables_say_that_it_is_one_result(command: Callable[..., str], folder: Path) -> None:
    text = (folder / "runs" / "reports" / "tools" / "cpu" / "tables" / "results.md").read_text("utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| nnU-Net"))
    assert "±" not in row
    assert [cell.strip() for cell in row.split("|")][-4:-2] == ["3", "1"]  # n, seeds
    assert "one result, whatever the seed" in text


def test_label_maps_come_back_to_the_raw_grid(command: Callable[..., str], folder: Path) -> None:
    command("results", "--labels", "maps")
    files = sorted((folder / "maps" / "nn" / "seed0").iterdir())
    assert len(files) == 3
    for file in files:
        image = nib.load(file)
        number = CASES.index(file.name.removesuffix(".nii.gz"))
        np.testing.assert_array_equal(np.asarray(image.dataobj), guess(number)[0])
        np.testing.assert_allclose(image.affine, AFFINE)


def test_no_record_names_the_folder(command: Callable[..., str], folder: Path) -> None:
    records = list((folder / "runs" / "store" / "external").glob("*/*.json"))
    assert records
    assert not any(str(folder) in path.read_text("utf-8") for path in records)


def test_a_changed_file_is_another_result(own: Path) -> None:
    before = opened(own)
    used = [cell.nodes["external"] for cell in before.plan.cells]
    assert set(used) == {used[0]}
    case = Volumes(run(before)["prepare"]).test[0]
    write_nifti(own / "nn" / f"{case}.nii.gz", guess(CASES.index(case))[1], AFFINE)
    after = opened(own)
    assert after.plan.cells[0].nodes["external"] != used[0]
    assert after.plan.cells[0].nodes["prepare"] == before.plan.cells[0].nodes["prepare"]
    lines = run(after)["evaluate"].path("scores.csv").read_text("utf-8").splitlines()
    assert f"{case},part 1,dice,1.0,False,False" in lines
    other = next(name for name in CASES if name not in Volumes(run(before)["prepare"]).test)
    write_nifti(own / "nn" / f"{other}.nii.gz", guess(0)[1], AFFINE)
    assert opened(own).plan.cells[0].nodes == after.plan.cells[0].nodes  # of no case that is scored


def test_missing_cases_are_named_and_refused(own: Path) -> None:
    first, second, _ = sorted(Volumes(run(opened(own))["prepare"]).test)
    for case in (first, second):
        (own / "nn" / f"{case}.nii.gz").unlink()
    said = lacking(opened(own))
    assert f"arm 'nn': 2 of 3 cases have no file in {own / 'nn'}: " in said
    assert first in said
    assert second in said
    assert f"{own}/tools.yaml:4:" in said
    assert "missing: empty" in said
    experiment = opened(own)
    assert "count as empty" not in " ".join(experiment.machine.remarks(experiment.plan))


def test_missing_cases_can_count_as_empty(own: Path) -> None:
    case = sorted(Volumes(run(opened(own))["prepare"]).test)[0]
    (own / "nn" / f"{case}.nii.gz").unlink()
    experiment = opened(own, missing="empty")
    assert lacking(experiment) == ""
    assert f"arm nn: 1 of 3 cases have no file and count as empty: {case}" in experiment.machine.remarks(
        experiment.plan
    )
    scores = run(experiment)["evaluate"].path("scores.csv").read_text("utf-8")
    assert f"{case},part 1,dice,0.0,True,False" in scores
    flags = info_of(experiment, None).flags
    assert f"nnU-Net: 1 of 3 cases have no label map and count as empty: {case}" in flags


def test_two_files_of_a_case_and_formats_that_are_not_read(own: Path) -> None:
    first, second, third = sorted(Volumes(run(opened(own))["prepare"]).test)
    write_nifti(own / "nn" / f"{first}.nii", guess(0)[0], AFFINE)
    (own / "nn" / f"{second}.nii.gz").rename(own / "nn" / f"{second}.mha")
    (own / "nn" / f"{third}.nii.gz").unlink()
    (own / "nn" / f"{third}.nii.gz").symlink_to("gone.nii.gz")
    said = lacking(opened(own))
    assert f"case {first} has several files: {first}.nii and {first}.nii.gz" in said
    assert f"case {second}: {second}.mha is in a format that is not read" in said
    assert f"case {third}: {third}.nii.gz is no file, or a broken link" in said


def test_a_folder_that_is_not_there_or_holds_others(own: Path) -> None:
    assert "No such file or directory" in lacking(opened(own, folder="nnn"))
    (own / "empty").mkdir()
    said = lacking(opened(own, folder="empty"))
    assert "holds no file of any of the 3 cases, such as c" in said
    assert "there is no class 3" in lacking(opened(own, labels="{1: 3}"))


def test_files_may_have_names_of_their_own(own: Path) -> None:
    plain = run(opened(own))["external"]
    for case in CASES:
        (own / "ts" / case).mkdir(parents=True)
        (own / "nn" / f"{case}.nii.gz").rename(own / "ts" / case / "seg.nii.gz")
    renamed = opened(own, folder="ts", files="'{case}/seg.nii.gz'")
    assert lacking(renamed) == ""
    assert renamed.plan.cells[0].nodes["external"] == ("external", plain.key)


def test_all_broken_files_are_told_at_once(own: Path) -> None:
    cases = sorted(Volumes(run(opened(own))["prepare"]).test)
    strange = guess(0)[0].astype(np.float32)
    write_nifti(own / "nn" / f"{cases[0]}.nii.gz", np.where(strange == 2, 7, strange), AFFINE)
    write_nifti(own / "nn" / f"{cases[1]}.nii.gz", strange * 0.4, AFFINE)
    write_nifti(own / "nn" / f"{cases[2]}.nii.gz", strange, np.diag([3.0, 1.0, 1.0, 1.0]))
    with pytest.raises(DataError) as caught:
        run(opened(own))
    said = str(caught.value)
    assert "it holds values that are no classes: 7" in said
    assert "no integers, such as 0.4" in said
    assert "another grid than the image" in said
    assert all(f"case {case}, {own / 'nn' / case}.nii.gz" in said for case in cases)


def test_whole_numbers_as_floats_are_taken_and_renumbered(own: Path) -> None:
    plain = run(opened(own))["external"]
    for number, case in enumerate(CASES):
        values = np.array([0, 61, -3], np.float32)[guess(number)[0]]
        write_nifti(own / "nn" / f"{case}.nii.gz", values, AFFINE)
    made = run(opened(own, labels="{61: 1, -3: 2}"))["external"]
    for case in plain.read_json("index.json")["cases"]:
        one, other = (np.load(each.path(f"labels/{case}.npy")) for each in (plain, made))
        np.testing.assert_array_equal(one, other)


def test_a_file_that_changes_during_the_run_is_noticed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = opened(own)
    read, seen = external.read_given, []

    def and_spoil(place):
        given = read(place)
        seen.append(place.case)
        if len(seen) == 3:
            write_nifti(own / "nn" / f"{seen[0]}.nii.gz", guess(0)[1], AFFINE)
        return given

    monkeypatch.setattr(external, "read_given", and_spoil)
    with pytest.raises(DataError, match="files have changed since the run was planned"):
        run(experiment)
    assert len(seen) == 3
    assert not experiment.store.has(*experiment.plan.cells[0].nodes["external"])
    with pytest.raises(DataError, match="files have changed"):  # before the first is read
        run(experiment)
    assert len(seen) == 3


def test_a_killed_run_goes_on_at_the_case_where_it_stopped(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(opened(own))["external"]
    kept = {name: whole.path(name).read_bytes() for name in whole.record["files"]}
    shutil.rmtree(whole.folder)
    read, seen = external.read_given, []

    def kill_at_third(place):
        seen.append(place.case)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(place)

    monkeypatch.setattr(external, "read_given", kill_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(opened(own))
    monkeypatch.setattr(external, "read_given", lambda place: (seen.append(place.case), read(place))[1])
    again = run(opened(own))["external"]
    assert seen[2:] == [seen[2]] * 2
    assert {name: again.path(name).read_bytes() for name in again.record["files"]} == kept
