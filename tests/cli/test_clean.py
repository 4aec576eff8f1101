"""``sfrbench clean`` as a user meets it: it lists, asks, removes, and says what takes how much."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sfrbench.cli import main
from sfrbench.store.store import Store
from tests.support.leftovers import BYTES, journal, link, make, whole
from tests.support.loaded import Process
from tests.support.runs import QUIET, cli, environment
from tests.support.stores import contents

A, B, C = link("retrain", "a"), link("retrain", "b"), link("evaluate", "c")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A workspace in which A is needed, and B and C, made of it, are not."""
    place = tmp_path / "runs"
    store = Store(place / "store")
    store.open()
    make(store, A)
    make(store, B)
    make(store, C, B)
    journal(place, "one-smoke", A)
    return place


def there(runs: Path) -> set[tuple[str, str]]:
    return whole(Store(runs / "store"))


def sfrbench(*arguments: str | Path, status: int = 0) -> Result:
    done = CliRunner().invoke(main, ["clean", *map(str, arguments)])
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done


def test_without_a_terminal_it_lists_and_says_how(runs: Path) -> None:
    before = contents(runs)
    said = sfrbench(runs).stdout
    assert "retrain             1" in said
    assert "evaluate            1" in said
    assert "no experiment recorded here needs it" in said
    assert "nothing was removed: there is no terminal to ask on; --yes" in said
    assert str(runs / "store" / "retrain") not in said
    assert contents(runs) == before


def test_a_dry_run_names_everything_and_changes_nothing(runs: Path) -> None:
    before = contents(runs)
    said = sfrbench(runs, "--dry-run").stdout
    for stage, key in (B, C):
        assert str(runs / "store" / stage / key) in said
        assert str(runs / "store" / "locks" / f"{stage}-{key}.lock") in said
    assert A[1] not in said
    assert contents(runs) == before


def test_scripts_say_yes(runs: Path) -> None:
    said = sfrbench(runs, "--yes").stdout
    assert "removed 4, which frees" in said
    assert there(runs) == {A}
    assert sfrbench(runs, "--yes").stdout == "everything here is needed\n"


def test_what_another_process_works_on_is_left_and_said(runs: Path) -> None:
    store = Store(runs / "store")
    with store.lock("work", "0" * 32):
        (store.root / "work").mkdir()
        (store.root / "work" / f"retrain-{'0' * 32}").write_text(B[1])
        said = sfrbench(runs, "--yes").stdout
    assert f"left: {store.folder(*B)}: another process works on it" in said
    assert there(runs) == {A, B}


def test_for_programs(runs: Path) -> None:
    told = json.loads(sfrbench(runs, "--json").stdout)
    assert there(runs) == {A, B, C}
    assert {(each["stage"], each["key"]) for each in told["not_needed"]} == {B, C}
    assert {each["kind"] for each in told["not_needed"]} == {"artefact", "lock"}
    assert 2 * BYTES < told["frees"] < 4 * BYTES
    assert told["frees"] == sum(each["frees"] for each in told["not_needed"])
    done = json.loads(sfrbench(runs, "--json", "--yes").stdout)
    assert done["freed"] == told["frees"]
    assert sorted(done["removed"]) == sorted(each["path"] for each in told["not_needed"])
    assert (done["busy"], done["faults"]) == ([], [])
    assert there(runs) == {A}


def test_sizes(runs: Path) -> None:
    journal(runs, "two-smoke", A, C)
    before = contents(runs)
    said = sfrbench(runs, "--sizes").stdout.splitlines()
    assert [line.split()[:2] for line in said if line.startswith(("retrain", "evaluate"))] == [
        ["retrain", "2"],
        ["evaluate", "1"],
    ]
    told = json.loads(sfrbench(runs, "--sizes", "--json").stdout)
    assert told["stages"]["retrain"]["bytes"] > 2 * BYTES
    assert told["experiments"]["one-smoke"] == {
        "count": 1,
        "bytes": told["stages"]["retrain"]["bytes"] // 2,
        "own": 0,
    }
    assert told["experiments"]["two-smoke"]["count"] == 3  # B went into C
    assert "journal" in told["beside"]
    assert contents(runs) == before


def test_where_a_journal_cannot_be_read_stages_are_told_and_nothing_is_removed(runs: Path) -> None:
    broken = runs / "journal" / "two-smoke.json"
    broken.write_text("{")
    before = contents(runs)
    for options in ([], ["--yes"], ["--dry-run"], ["--json", "--yes"]):
        done = sfrbench(runs, *options, status=2)
        assert done.stdout == ""
        assert done.stderr.count(str(broken)) == 1
    done = sfrbench(runs, "--sizes", status=2)
    assert "retrain" in done.stdout
    assert "one-smoke" not in done.stdout
    assert str(broken) in done.stderr
    assert contents(runs) == before


def test_wrong_use_is_one_message(runs: Path, tmp_path: Path) -> None:
    assert "leave one of them out" in sfrbench(runs, "--yes", "--dry-run", status=2).stderr
    assert "no workspace with a store" in sfrbench(tmp_path / "nowhere", status=2).stderr
    assert not (tmp_path / "nowhere").exists()


def test_the_workspace_is_that_of_other_commands(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFRBENCH_WORKSPACE", str(runs))
    assert "evaluate            1" in sfrbench().stdout


def test_runs_that_have_not_ended_are_said(runs: Path) -> None:
    note = journal(runs, "two-smoke.12345678", B, ending=".begun")
    said = sfrbench(runs).stdout
    assert f"note: a run of two-smoke has not ended: what it wants is kept ({note.resolve()})" in said


def asked(runs: Path, answer: str) -> tuple[int, str]:
    """The command in a terminal of its own, and what was typed once it asked."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sfrbench", "clean", str(runs)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    said, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 5)[0]:
            try:
                part = os.read(ours, 10_000)
            except OSError:  # it has ended
                break
            said += part
            if b"[y/N]" in part:
                os.write(ours, answer.encode())
        elif b"[y/N]" in said:  # an interrupt between the prompt and the wait for a line is not seen: again
            os.write(ours, answer.encode())
    status = process.wait(60)
    os.close(ours)
    return status, said.decode()


@pytest.mark.parametrize(
    ("answer", "status", "end", "left"),
    [
        ("y\n", 0, "removed 4, which frees", {A}),
        ("n\n", 0, "nothing was removed", {A, B, C}),
        ("\n", 0, "nothing was removed", {A, B, C}),
        ("\x03", 130, "interrupted", {A, B, C}),
        ("\x04", 130, "interrupted", {A, B, C}),
    ],
)
def test_in_a_terminal_it_asks(
    runs: Path, answer: str, status: int, end: str, left: set[tuple[str, str]]
) -> None:
    code, said = asked(runs, answer)
    assert (code, end in said) == (status, True), said
    assert there(runs) == left


def test_it_needs_neither_torch_nor_optuna(runs: Path) -> None:
    program = (
        "import sys; from sfrbench.cli import main\n"
        "try:\n    main(['clean', sys.argv[1], '--yes'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print({'torch', 'optuna', 'mlflow', 'pandas', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(runs)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("set()\n")


def can_mount() -> bool:
    unshare = shutil.which("unshare")
    return (
        unshare is not None and not subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode
    )


@pytest.mark.skipif(not can_mount(), reason="needs a namespace of its own to mount a disk to read only")
def test_a_disk_to_read_only(runs: Path) -> None:
    """Listing works; removing is one message."""
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    for options, status in (([], 0), (["--sizes"], 0), (["--dry-run"], 0), (["--yes"], 2)):
        command = ["unshare", "-rm", "sh", "-c", script, "sh", str(runs), sys.executable, "-m", "sfrbench"]
        done = subprocess.run(
            [*command, "clean", str(runs), *options], env=environment(), capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "retrain" in done.stdout
        assert ("is read only" in done.stderr) == bool(status), done.stderr
        assert "Traceback" not in done.stderr
    assert there(runs) == {A, B, C}


SPEC = """\
title: Small
dataset: {name: phantom, labeled: 2, train_cases: 4, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base: {backbone: vnet, ssl: supervised}
stages: [retrain, predict, evaluate]
arms: [{name: sup}]
"""
SMOKE = ("small.yaml", "--profile", "smoke", *QUIET)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which an experiment was run, and data were prepared ahead."""
    folder = tmp_path_factory.mktemp("clean")
    (folder / "small.yaml").write_text(SPEC)
    cli("run", *SMOKE, cwd=folder)
    cli("data", "prepare", "phantom", "--profile", "smoke", "--set", "train_cases=3", cwd=folder)
    return folder


@pytest.fixture
def copy(ran: Path, tmp_path: Path) -> Path:
    shutil.copytree(ran, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.slow
def test_the_last_run_of_an_experiment_counts(copy: Path) -> None:
    assert cli("clean", cwd=copy).stdout == "everything here is needed\n"
    first = there(copy / "runs")
    cli("run", *SMOKE, "--set", "ssl.optim.lr=0.02", cwd=copy)
    both = there(copy / "runs")
    assert len(both) == len(first) + 3  # the prepared data serve both
    cli("clean", "--yes", cwd=copy)
    last = there(copy / "runs")
    assert len(last) == len(first)
    assert last & first == {node for node in first if node[0] == "prepare"}
    again = cli("run", *SMOKE, "--set", "ssl.optim.lr=0.02", cwd=copy).stdout
    assert "nodes: 0 ran, 4 reused, 0 failed, 0 blocked" in again
    assert "nodes: 3 ran, 1 reused" in cli("run", *SMOKE, cwd=copy).stdout
    assert cli("clean", "--sizes", cwd=copy).stdout.count("small-smoke") == 1


def begun_training(folder: Path, *options: str) -> Process:
    """A run of a longer training that has a checkpoint."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = Process("run", *SMOKE, *options, cwd=folder, env=environment(), **silent)
    deadline = time.monotonic() + 120
    while not list((folder / "runs" / "store" / "partial").glob("retrain-*/checkpoint.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


LONG = ("--set=ssl.steps=40", "--set=ssl.checkpoint_every=2")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_run_that_was_stopped_finds_its_work_again(copy: Path, number: signal.Signals) -> None:
    """Its specification is another than that of the last run that ended."""
    process = begun_training(copy, *LONG)
    process.send_signal(number)
    process.wait(60)
    (checkpoint,) = (copy / "runs" / "store" / "partial").glob("retrain-*/checkpoint.pt")
    assert "a run of small-smoke has not ended" in cli("clean", "--yes", cwd=copy).stdout
    assert checkpoint.is_file()
    assert "resumes: it was interrupted before" in cli("run", *SMOKE, *LONG, cwd=copy).stdout
    assert "has not ended" not in cli("clean", "--yes", cwd=copy).stdout
    assert not (copy / "runs" / "store" / "partial" / checkpoint.parent.name).exists()


def test_beside_a_run_nothing_goes_that_it_wants(copy: Path) -> None:
    """Cleaned again and again from before it begins until it has ended; old results go meanwhile."""
    first = there(copy / "runs")
    options = ("--set", "ssl.optim.lr=0.02")
    process = Process("run", *SMOKE, *options, cwd=copy, env=environment(), stderr=subprocess.STDOUT)
    rounds = 0
    while process.poll() is None:
        sfrbench(copy / "runs", "--yes")
        rounds += 1
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "3 ran, 1 reused, 0 failed, 0 blocked" in said
    assert rounds > 5
    sfrbench(copy / "runs", "--yes")
    left = there(copy / "runs")
    assert len(left) == len(first)
    assert left & first == {node for node in first if node[0] == "prepare"}
