"""Workspaces as runs leave them while they go on: boards, signs and records, without a run."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfrbench.files.units import now
from sfrbench.run.boards import Board, Wanted
from sfrbench.run.signs import Sign
from sfrbench.stages.recipe import Link

HERE = socket.gethostname()
ENDED_PID = 2**22 + 7  # above the largest that Linux gives


def node(stage: str, key: str, *inputs: Link, seconds: float | None = None, job: str = "") -> Wanted:
    title = f"{stage} {key}"
    return Wanted(stage=stage, key=key, title=title, inputs=list(inputs), seconds=seconds, job=job)


def write_board(workspace: Path, nodes: Sequence[Wanted], **facts: Any) -> Board:
    """The board of a run that this process drives, unless ``facts`` say otherwise."""
    known = {"run": "small-run", "experiment": "small", "profile": "smoke", "executor": "local"}
    board = Board(
        **{**known, "host": HERE, "pid": os.getpid(), "started": now(), "nodes": list(nodes), **facts}
    )
    _write(workspace / "running" / f"{board.run}.json", board.model_dump_json())
    return board


def write_sign(workspace: Path, of: Wanted, **facts: Any) -> Sign:
    """The sign of a process of another machine that works on a node and was heard just now."""
    known = {"run": "small-run", "host": "node07", "pid": 4711, "beat": now(), "since": now()}
    sign = Sign(
        **{
            "worker": f"{of.stage}-{of.key}",
            **known,
            "stage": of.stage,
            "key": of.key,
            "title": of.title,
            **facts,
        }
    )
    _write(workspace / "working" / f"{sign.worker}.json", sign.model_dump_json())
    return sign


def write_record(workspace: Path, of: Wanted, seconds: float = 1.0, **facts: Any) -> None:
    record: Mapping[str, Any] = {"files": {}, "bytes": 0, "seconds": seconds, "profile": "smoke", **facts}
    _write(workspace / "store" / of.stage / of.key / "record.json", json.dumps(record))


def write_fault(workspace: Path, of: Wanted, reason: str) -> Path:
    folder = workspace / "store" / "failed" / f"{of.stage}-{of.key}"
    _write(folder / "error.json", json.dumps({"stage": of.stage, "key": of.key, "reason": reason}))
    _write(folder / "log.txt", "Traceback")
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
