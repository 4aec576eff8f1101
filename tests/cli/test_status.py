"""``sfrbench status`` as its reader sees it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from tests.support.boards import ENDED_PID, HERE, node, write_board, write_fault, write_record, write_sign


def told(*arguments: str | Path, status: int = 0) -> str:
    done = CliRunner().invoke(main, ["status", *map(str, arguments)])
    assert done.exit_code == status, f"{done.output}\n{done.exception!r}"
    return done.output


TUNE = node("finetune", "f0", seconds=10)
TRAIN = [node("retrain", f"r{i}", TUNE.link, seconds=20) for i in range(12)]


def test_no_workspace_and_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no such workspace" in told(tmp_path / "nowhere", status=2)
    assert f"nothing has run in {tmp_path} yet" in told(tmp_path)
    monkeypatch.setenv("SFRBENCH_WORKSPACE", str(tmp_path))
    assert f"nothing has run in {tmp_path} yet" in told()


def test_what_runs_and_what_waits_for_it(tmp_path: Path) -> None:
    board = write_board(tmp_path, [TUNE, *TRAIN])
    write_sign(tmp_path, TUNE, done=30, total=60, rate=0.5, values={"loss": 0.25}, device="GPU 1")
    text = told(tmp_path)
    assert "small (smoke), executor local, since " in text
    assert f"driven by process {board.pid} on {HERE}" in text
    assert "of 13 nodes: 1 running, 12 waiting" in text
    assert re.search(r"step 30 of 60  loss 0\.25  about (5\ds|60s|1m00s) left", text)
    assert "process 4711 on node07, GPU 1" in text
    assert "for finetune f0 (running): 12 retrain" in text


def test_what_failed_and_what_was_killed(tmp_path: Path) -> None:
    write_board(tmp_path, [TUNE, *TRAIN], pid=ENDED_PID, started="2020-01-01T00:00:00+00:00")
    write_record(tmp_path, TUNE)
    folder = write_fault(tmp_path, TRAIN[0], "the loss is not finite\nlower optim.lr")
    write_sign(tmp_path, TRAIN[1], beat="2020-01-01T00:00:00+00:00", done=3, total=9)
    text = told(tmp_path)
    assert f"its driver, process {ENDED_PID} on {HERE}, is gone: the same 'sfrbench run' goes on" in text
    assert (
        f"retrain r0: the loss is not finite\n        lower optim.lr\n        log: {folder}/log.txt" in text
    )
    assert "retrain r1, at step 3 of 9: process 4711 on node07 has been silent for " in text
    assert "goes on from its checkpoint" in text


def test_jobs_and_trials(tmp_path: Path) -> None:
    waiting = node("retrain", "r0", job="4711_3")
    write_board(tmp_path, [waiting], run="a", detached=True, pid=ENDED_PID, executor="slurm")
    write_board(tmp_path, [TUNE], run="b", trial=7, experiment="hunt")
    text = told(tmp_path)
    assert "job 4711_3 pending: retrain r0" in text
    assert "its jobs go on by themselves, and the same 'sfrbench run' comes back to them" in text
    assert "hunt (smoke), trial 7 of its search" in text


def test_json_has_no_nan_and_every_part(tmp_path: Path) -> None:
    write_board(tmp_path, [TUNE, *TRAIN])
    write_sign(tmp_path, TUNE, values={"loss": math.nan, "dice": 0.5})

    def never(text: str) -> None:
        raise AssertionError(text)

    whole = json.loads(told(tmp_path, "--json"), parse_constant=never)
    (run,) = whole["runs"]
    assert run["counts"] == {"running": 1, "waiting": 12}
    assert run["working"][0]["values"] == {"loss": None, "dice": 0.5}
    assert run["waiting"] == [
        {
            "stage": "retrain",
            "count": 12,
            "sources": [{"stage": "finetune", "key": "f0", "title": "finetune f0", "state": "running"}],
        }
    ]
    assert (run["nodes"], run["seconds_left"], run["driver"]) == (13, None, "alive")


def test_watching_needs_a_terminal(tmp_path: Path) -> None:
    assert "it draws on a terminal" in told(tmp_path, "--watch", status=2)


def test_a_strangers_texts_move_nothing(tmp_path: Path) -> None:
    """Neither control codes nor lines that look like our own."""
    bad = "x\x1b[2J\n  failed\n    forged\u202e"
    odd = TUNE.model_copy(update={"title": bad, "job": bad})
    write_board(tmp_path, [odd, TRAIN[0]], experiment=bad, profile=bad, executor=bad, host=bad)
    write_sign(tmp_path, odd, values={bad: 1.0}, device=bad, log=bad, job=bad, host=bad)
    write_fault(tmp_path, TRAIN[0], bad)  # its lines stand deeper
    text = told(tmp_path)
    assert "\x1b" not in text
    assert "\u202e" not in text
    lines = text.splitlines()
    assert lines.count("  failed") == 1
    assert not any(line.startswith("    forged") for line in lines)
