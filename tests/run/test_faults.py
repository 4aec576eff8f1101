"""What a disk, a right or a damaged file does to a command: one message, and no work lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sfrbench.run.tracking.values import mean_scores
from sfrbench.store.store import Store
from tests.support.runs import QUIET, SPEC, environment, here

SMALL = SPEC.split("arms:")[0].replace("mean_teacher", "supervised")
SMOKE = ("--profile", "smoke")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "small.yaml").write_text(SMALL + "arms: [{name: a}, {name: b, ssl: mean_teacher}]\n")
    here("run", "small.yaml", *SMOKE, *QUIET, cwd=folder)
    (folder / "file").write_text("x")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The finished workspace, to be damaged."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["run", "small.yaml", *SMOKE, *QUIET, "--workspace", "file"], "file"),
        (["plan", "small.yaml", *SMOKE, "--workspace", "file/below"], ""),
        (["results", "small.yaml", *SMOKE, "--labels", "file"], "file"),
        (["results", "small.yaml", *SMOKE, "--out", "file/x.csv"], "file"),
        (["results", "small.yaml", *SMOKE, "--out", "runs"], "runs"),
        (["results", "small.yaml", *SMOKE, "--out", "/dev/full"], "/dev/full"),
        (["report", "small.yaml", *SMOKE, "--out", "file"], "file"),
        (["compare", "runs", "runs", "--csv", "file/x.csv"], "file"),
        (["data", "check", "phantom", "--contact-sheet", "file/x.png"], "file"),
        (["data", "prepare", "phantom", *SMOKE, "--workspace", "file"], "file"),
        (["export", "small.yaml", "a", "file/x", *SMOKE], "file"),
        (["track", "small.yaml", *SMOKE, "--workspace", "file"], "file"),
    ],
    ids=lambda value: "-".join(value[:1] + value[-1:]).replace("/", "_") if isinstance(value, list) else "",
)
def test_a_place_that_cannot_be_written_to_is_named(made: Path, arguments: list[str], place: str) -> None:
    done = here(*arguments, cwd=made, check=None)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode in ((2,) if place else (0, 1))
    assert place in done.stderr


def test_a_folder_that_is_not_there_is_made(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "deep" / "x.csv"
    here("results", "small.yaml", *SMOKE, "--out", str(out), cwd=made)
    assert out.read_text().startswith("experiment,")
    assert [path.name for path in out.parent.iterdir()] == ["x.csv"]


def test_output_that_cannot_be_written_ends_without_a_traceback(made: Path) -> None:
    for command in (["list"], ["results", "small.yaml", *SMOKE]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "sfrbench", *command],
                cwd=made, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
            )  # fmt: skip
        assert done.returncode == 2
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


@pytest.fixture
def _without_rights() -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and setpriv is not here")


def humble(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command by someone who may not write where rights forbid it."""
    command = [sys.executable, "-m", "sfrbench", *arguments]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)


@pytest.mark.usefixtures("_without_rights")
def test_a_workspace_to_read_only_can_be_read(copy: Path) -> None:
    """Planning and reports elsewhere work; a run that has nothing to do says what it cannot write."""
    folders = [path for path in (copy / "runs").rglob("*") if path.is_dir()]
    for folder in (*folders, copy / "runs"):
        folder.chmod(0o555)
    try:
        planned = humble("plan", "small.yaml", *SMOKE, cwd=copy)
        written = humble("report", "small.yaml", *SMOKE, "--out", "page", cwd=copy)
        run = humble("run", "small.yaml", *SMOKE, cwd=copy)
        more = humble("run", "small.yaml", *SMOKE, "--set", "ssl.steps=5", cwd=copy)
    finally:
        for folder in (*folders, copy / "runs"):
            folder.chmod(0o755)
    assert (planned.returncode, written.returncode) == (0, 0), planned.stderr + written.stderr
    for done in (run, more):
        assert done.returncode == 2
        assert "Permission denied" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    assert more.stderr.startswith("not ready here:")  # nothing else is tried
    assert more.stderr.count("Permission denied") == 1


@pytest.mark.parametrize(
    ("stage", "file", "content"),
    [
        ("evaluate", "scores.csv", ""),
        ("retrain", "model.safetensors", None),
        ("retrain", "record.json", '"seconds": 1'),
    ],
)
def test_a_damaged_artefact_is_left_out_and_made_anew(
    copy: Path, stage: str, file: str, content: str | None
) -> None:
    """What runs nothing leaves its cell out, with the reason; a run makes it anew and keeps the old one."""
    store = Store(copy / "runs" / "store")
    key = next(record["key"] for record in store.records(stage))
    path = store.folder(stage, key) / file
    if content is None:
        path.unlink()
    else:
        path.write_text(path.read_text().replace('"seconds": ', content) if content else "")
    reason = Store(store.root).damage(stage, key)
    assert reason.startswith(f"{file} is ")
    for command in (["results"], ["report", "--out", "page"]):
        done = here(command[0], "small.yaml", *SMOKE, *command[1:], cwd=copy)
        assert f"left out: {stage} {key[:8]}: {reason}" in done.stderr
    assert reason in (copy / "page" / "index.html").read_text()
    done = here("run", "small.yaml", *SMOKE, *QUIET, cwd=copy)
    assert f"again: {reason}" in done.stdout
    assert "nodes: 1 ran" in done.stdout
    assert "it is set aside as" in done.stderr
    assert len(list((store.root / "damaged").iterdir())) == 1
    done = here("run", "small.yaml", *SMOKE, *QUIET, cwd=copy)
    assert "nodes: 0 ran" in done.stdout


@pytest.mark.parametrize("text", ["", '{"nodes": [{}]}'])
def test_state_files_of_another_shape_are_absent(copy: Path, text: str) -> None:
    for name in ("journal/small-smoke.json", "tracked.json", "fingerprints.json"):
        (copy / "runs" / name).write_text(text)
    for path in (copy / "runs" / "store" / "work").iterdir():
        path.write_text(text)
    here("report", "small.yaml", *SMOKE, "--out", "page", cwd=copy)
    here("run", "small.yaml", *SMOKE, *QUIET, cwd=copy)
    assert json.loads((copy / "runs" / "journal" / "small-smoke.json").read_text())["nodes"]


def test_a_damaged_checkpoint_is_set_aside(copy: Path) -> None:
    """The node starts again and gives the bits of a run that was not disturbed."""
    store = Store(copy / "runs" / "store")
    files = list((store.root / "retrain").glob("*/model.safetensors"))
    before = {path: path.read_bytes() for path in files}
    for path in files:
        shutil.rmtree(path.parent)
        scratch = store.scratch("retrain", path.parent.name)
        scratch.mkdir(parents=True)
        (scratch / "checkpoint.pt").write_bytes(b"PK\x03\x04 torn")
    done = here("run", "small.yaml", *SMOKE, *QUIET, cwd=copy)
    assert done.stderr.count("checkpoint.pt.damaged") == len(files) == 2
    assert {path: path.read_bytes() for path in files} == before


def test_two_specifications_of_one_name_do_not_replace_each_other(copy: Path) -> None:
    """The second is refused in one sentence; a file that was moved, changed or copied is not another."""
    text = (copy / "small.yaml").read_text()
    other = copy / "other" / "small.yaml"
    other.parent.mkdir()
    other.write_text(text.replace("title: Small", "title: Another"))
    (copy / "runs" / "journal" / "small-smoke.spec").unlink()
    here("report", "small.yaml", *SMOKE, cwd=copy)
    for name, *more in (["run", *QUIET], ["report"], ["track"]):
        done = here(name, "other/small.yaml", *SMOKE, *more, cwd=copy, check=2)
        assert "another specification called 'small'" in done.stderr
        assert str(copy / "small.yaml") in done.stderr
        assert "Another" not in (copy / "runs/reports/small/smoke/index.html").read_text()
    (copy / "small.yaml").unlink()
    here("report", "other/small.yaml", *SMOKE, cwd=copy)
    assert "Another" in (copy / "runs/reports/small/smoke/index.html").read_text()


def test_names_that_look_alike_have_label_maps_of_their_own(tmp_path: Path) -> None:
    text = SMALL + 'arms: [{name: "a b"}, {name: a_b, ssl: mean_teacher}, {name: "a/b"}]\n'
    (tmp_path / "small.yaml").write_text(text)
    here("run", "small.yaml", *SMOKE, *QUIET, cwd=tmp_path)
    done = here("results", "small.yaml", *SMOKE, "--labels", "out", cwd=tmp_path)
    assert "6 label maps" in done.stdout
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 6


def test_classes_that_look_alike_have_means_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("metric,class,value\ndice,a b,1\ndice,a_b,3\ndice,a b,2\n")
    assert mean_scores(tmp_path / "scores.csv") == {"dice/a_b": 1.5, "dice/a_b_2": 3.0}
