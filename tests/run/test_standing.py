"""Where the runs of a workspace stand, on boards made by hand."""

from __future__ import annotations

import json
import math
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.run import signs as module
from sfrbench.run.boards import Wanted, shown
from sfrbench.run.signs import Signs, working
from sfrbench.run.standing import Run, standing
from tests.support.boards import ENDED_PID, node, write_board, write_fault, write_record, write_sign

PREPARE = node("prepare", "p0", seconds=10)
TUNE = [node("finetune", f"f{i}", PREPARE.link, seconds=100) for i in range(2)]
TRAIN = [node("retrain", f"r{i}", TUNE[i % 2].link, seconds=200) for i in range(6)]
PREDICT = [node("predict", f"t{i}", TRAIN[i].link, seconds=20) for i in range(6)]
NODES = [PREPARE, *TUNE, *TRAIN, *PREDICT]


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def only(workspace: Path) -> Run:
    (run,) = standing(workspace).runs
    return run


def waits(run: Run) -> dict[tuple[str, ...], dict[str, int]]:
    told: dict[tuple[str, ...], dict[str, int]] = {}
    for group in run.waiting:
        told.setdefault(tuple(source.key for source in group.sources), {})[group.stage] = group.count
    return told


def test_every_node_has_a_state(tmp_path: Path) -> None:
    """prepare and finetune f0 are made, f1 runs; of f0's retrains one runs, one failed."""
    write_board(tmp_path, NODES, started=ago(60))
    write_record(tmp_path, PREPARE)
    write_record(tmp_path, TUNE[0])
    write_sign(tmp_path, TUNE[1], done=300, total=6000, rate=2.0, values={"loss": 0.5})
    write_sign(tmp_path, TRAIN[0], job="99")
    folder = write_fault(tmp_path, TRAIN[2], "out of memory")
    run = only(tmp_path)
    assert run.driver == "alive"
    assert dict(run.counts) == {
        "done": 2, "running": 2, "ready": 1, "waiting": 3 + 5, "failed": 1, "blocked": 1,
    }  # fmt: skip
    assert [(sign.title, sign.who) for sign in run.working] == [
        ("finetune f1", "process 4711 on node07"),
        ("retrain r0", "job 99 on node07"),
    ]
    assert run.working[0].left_s == pytest.approx((6000 - 300) / 2, abs=3)
    assert dict(run.ready) == {"retrain": 1}
    assert waits(run) == {
        ("f1",): {"retrain": 3, "predict": 3},
        ("r0",): {"predict": 1},
        ("r4",): {"predict": 1},
    }
    assert [(fault.title, fault.reason, fault.log) for fault in run.failed] == [
        ("retrain r2", "out of memory", str(folder / "log.txt"))
    ]
    assert [(group.stage, group.count, group.sources[0].key) for group in run.blocked] == [
        ("predict", 1, "r2")
    ]


def test_many_groups_are_told_by_their_stages(tmp_path: Path) -> None:
    write_board(tmp_path, NODES)
    for each in (PREPARE, *TUNE):
        write_record(tmp_path, each)
    (group,) = only(tmp_path).waiting
    assert (group.stage, group.count, len(group.sources)) == ("predict", 6, 6)


def test_what_failed_before_the_run_began_is_tried_again(tmp_path: Path) -> None:
    write_fault(tmp_path, PREPARE, "no data")
    write_board(tmp_path, NODES, started=(datetime.now(UTC) + timedelta(seconds=5)).isoformat())
    run = only(tmp_path)
    assert (run.failed, dict(run.ready)) == ([], {"prepare": 1})


def test_a_process_that_fell_silent_is_gone_until_another_takes_its_node(tmp_path: Path) -> None:
    write_board(tmp_path, NODES)
    write_sign(tmp_path, PREPARE, beat=ago(12 * 60), worker="a")
    run = only(tmp_path)
    assert ([sign.title for sign in run.gone], dict(run.ready)) == (["prepare p0"], {"prepare": 1})
    write_sign(tmp_path, PREPARE, worker="b", pid=4712)
    run = only(tmp_path)
    assert (run.gone, [sign.pid for sign in run.working]) == ([], [4712])


def test_who_drives(tmp_path: Path) -> None:
    write_board(tmp_path, NODES, pid=ENDED_PID)
    assert only(tmp_path).driver == "gone"
    write_board(tmp_path, NODES, pid=ENDED_PID, detached=True)
    assert only(tmp_path).driver == "detached"
    write_board(tmp_path, NODES, host="node01", pid=12)
    assert only(tmp_path).driver == "gone"
    write_sign(tmp_path, node("", ""), host="node01", pid=12, worker="driver")
    assert only(tmp_path).driver == "alive"


def test_jobs_that_have_not_begun(tmp_path: Path) -> None:
    first, second = node("finetune", "f0", job="17"), node("finetune", "f1", job="18")
    after = node("retrain", "r0", first.link, job="17")
    write_board(tmp_path, [first, second, after], detached=True, pid=ENDED_PID)
    write_sign(tmp_path, second, job="18")
    assert dict(only(tmp_path).jobs) == {"17": ["finetune f0", "retrain r0"]}


def test_the_time_that_is_left_is_measured(tmp_path: Path) -> None:
    """finetune took 50 s for an estimate of 100; retrain 400 for 200. Two workers, two to go."""
    nodes = [*TUNE, *TRAIN[:4]]
    write_board(tmp_path, nodes)
    write_record(tmp_path, TUNE[0], 50)
    assert only(tmp_path).left.unmeasured == ("retrain",)
    write_record(tmp_path, TUNE[1], 70, equal_to="f0")  # another node's work
    write_record(tmp_path, TRAIN[0], 400)
    write_record(tmp_path, TRAIN[3], 3, notes={"resumed_at": 90})  # the rest of its work
    for pid in (1, 2):
        write_sign(tmp_path, node("", ""), worker=str(pid), pid=pid)
    left = only(tmp_path).left  # r1 and r2
    assert (left.seconds, left.unmeasured) == (pytest.approx(400), ())
    os.remove(tmp_path / "working" / "2.json")
    assert only(tmp_path).left.seconds == pytest.approx(800)
    write_sign(tmp_path, TRAIN[1], done=50, total=100, rate=0.5)
    assert only(tmp_path).left.seconds == pytest.approx(300, abs=3)  # as r0 took and r1 will


def test_time_is_unknown_where_nothing_was_measured(tmp_path: Path) -> None:
    write_board(tmp_path, NODES)
    write_record(tmp_path, node("predict", "other"), 7, profile="paper")
    left = only(tmp_path).left
    assert left.seconds is None
    assert left.unmeasured == ("finetune", "predict", "prepare", "retrain")
    write_record(tmp_path, node("predict", "another"), 7)  # an earlier experiment's, of this profile
    assert "predict" not in only(tmp_path).left.unmeasured


def test_a_run_that_was_killed_is_told_until_another_goes_on(tmp_path: Path) -> None:
    write_board(tmp_path, NODES, run="killed", pid=ENDED_PID, started=ago(60))
    write_board(tmp_path, NODES, run="search", pid=ENDED_PID, trial=3)
    again = write_board(tmp_path, NODES, run="again")
    with shown(tmp_path, again):
        assert {run.board.run for run in standing(tmp_path).runs} == {"again", "search"}
    assert {run.board.run for run in standing(tmp_path).runs} == {"search"}


def test_a_run_that_was_killed_is_past_once_a_later_one_has_ended(tmp_path: Path) -> None:
    write_board(tmp_path, NODES, pid=ENDED_PID, started=ago(60))
    entry = {"stage": "retrain", "key": "r" * 32, "reason": "no memory", "seconds": 1.0, "log": "x/log.txt"}
    journal = {
        "started": ago(30), "ended": ago(20), "tracking_fault": "no server",
        "nodes": [{**entry, "status": "failed"}, {**entry, "status": "ran"}, {**entry, "status": "ran"}],
    }  # fmt: skip
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "small-smoke.json").write_text(json.dumps(journal))
    seen = standing(tmp_path)
    assert seen.runs == []
    (ended,) = seen.ended
    assert (ended.name, dict(ended.counts)) == ("small-smoke", {"failed": 1, "ran": 2})
    assert (ended.failed[0].reason, ended.failed[0].log) == ("no memory", "x/log.txt")
    assert ended.tracking_fault == "no server"


def test_a_workspace_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such workspace"):
        standing(tmp_path / "nowhere")


def test_a_rate_counts_only_the_steps_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training goes on at step 3000 from a checkpoint; ten steps more in five seconds are two a second."""
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with Signs(tmp_path, "run") as signs:
        signs.begins(TRAIN[0])  # type: ignore[arg-type]  # what it reads of a node is there
        signs.progress(3000, 6000, {"loss": math.nan})
        clock[0] += 5
        signs.progress(3010, 6000, {"loss": math.nan})
        signs._write()
        (sign,) = working(tmp_path)
    assert sign.rate == pytest.approx(2.0)
    assert math.isnan(sign.values["loss"])  # a loss that is no number hides nobody
    assert sign.left_s == pytest.approx((6000 - 3010) / 2, abs=3)
    assert working(tmp_path) == []


def test_ten_thousand_nodes_are_cheap(tmp_path: Path) -> None:
    tunes = [node("finetune", f"f{i}", seconds=100) for i in range(100)]
    trains = [node("retrain", f"r{i}", tunes[i % 100].link, seconds=200) for i in range(4950)]
    predicts = [node("predict", f"t{i}", each.link, seconds=20) for i, each in enumerate(trains)]
    write_board(tmp_path, [*tunes, *trains, *predicts])
    for each in (*tunes, *trains[:1000]):
        write_record(tmp_path, each)
    began = time.process_time()
    run = only(tmp_path)
    assert time.process_time() - began < 2.0
    assert sum(run.counts.values()) == 10_000
    assert dict(run.ready) == {"retrain": 3950, "predict": 1000}
    assert len(run.waiting) == 1


ODD = [
    None,
    [],
    {},
    "",
    "\x1b[2J",
    "../../etc",
    -1,
    2**70,
    1e308,
    True,
    [[["x"]]],
    "9999-12-31T23:59:59",
    "0001-01-01",
]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_files_of_any_shape_are_absent_or_harmless(tmp_path: Path, value: object) -> None:
    """Each field of each file in turn holds something odd."""
    write_board(tmp_path, NODES)
    write_record(tmp_path, PREPARE, notes={})
    write_sign(tmp_path, TUNE[0], done=1, total=2, rate=1.0)
    write_fault(tmp_path, TUNE[1], "failed")
    for path in list(tmp_path.rglob("*.json")):
        text = path.read_text()
        whole = json.loads(text)
        for name in whole:
            path.write_text(json.dumps({**whole, name: value}))
            standing(tmp_path)
        path.write_text(json.dumps(value))
        standing(tmp_path)
        path.write_text(text)
    board = json.loads((tmp_path / "running" / "small-run.json").read_text())
    for name in Wanted.model_fields:
        nodes = [{**each, name: value} for each in board["nodes"]]
        (tmp_path / "running" / "small-run.json").write_text(json.dumps({**board, "nodes": nodes}))
        standing(tmp_path)


def test_no_path_leaves_the_workspace(tmp_path: Path) -> None:
    """A stage called ``..`` would let a stranger's file name any other one."""
    (tmp_path / "running").mkdir()
    board = write_board(tmp_path, NODES).model_dump()
    board["nodes"][0]["stage"] = "../.."
    (tmp_path / "running" / "small-run.json").write_text(json.dumps(board))
    assert standing(tmp_path).runs == []


def test_a_circle_does_not_hang(tmp_path: Path) -> None:
    write_board(tmp_path, [node("a", "1", ("b", "2")), node("b", "2", ("a", "1"), ("b", "2"))])
    assert sum(only(tmp_path).counts.values()) == 2
