"""Signs of life: small files in the workspace by which anybody sees what works on what.

``<workspace>/working/<worker>.json``: what one process works on, at which step; written by that process
every few seconds, and gone when it ends. Nothing of a result depends on it; a file that cannot be read is
absent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfrbench.errors import problem_of
from sfrbench.files.atomic import read_state, read_states, state_files, write_atomic
from sfrbench.files.units import now
from sfrbench.plan.graph import Link, Node
from sfrbench.run.alive import SILENT_S, is_alive, since_s

log = logging.getLogger(__name__)

EVERY_S = 2.0  # between looks whether there is something new to write
BEAT_S = 10.0  # a file is written anew, even where nothing is new

#: A part of paths, and the files may come from a stranger.
Name = Annotated[str, Field(pattern=r"^[\w-]*$")]
Pid = Annotated[int, Field(gt=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Finite = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Sign(BaseModel):
    """What one process is doing. Times are UTC."""

    model_config = ConfigDict(ser_json_inf_nan="constants")  # a loss may be NaN

    worker: str
    run: str  # the run that it works for, as in ``running/<run>.json``
    host: str
    pid: Pid
    job: str = ""  # of a cluster
    machine: str = ""  # of a Ray cluster: its id there
    device: str = ""
    log: str = ""  # the file that its output goes to, where there is one
    beat: str = ""  # when it last gave a sign
    stage: Name = ""  # of the node that it works on; empty: none
    key: Name = ""
    title: str = ""
    since: str = ""
    done: Count = 0
    total: Count = 0
    rate: Finite = 0.0  # units of work in a second, since it began or went on; 0: not known
    values: dict[str, float] = {}

    @property
    def link(self) -> Link:
        return self.stage, self.key

    @property
    def age_s(self) -> float:
        return since_s(self.beat)

    @property
    def alive(self) -> bool:
        """Whether its process is there: asked of this machine, guessed of another one by its silence."""
        return is_alive(self.host, self.pid, self.age_s)

    @property
    def who(self) -> str:
        """Who it is, for people: ``job 4711 on node07``."""
        return f"job {self.job} on {self.host}" if self.job else f"process {self.pid} on {self.host}"

    @property
    def whom(self) -> str:
        """The same, with what it has done: ``job 4711 on node07, step 300 of 6000``."""
        step = f", step {self.done} of {self.total}" if self.total else ""
        return f"{self.who}{step}"

    @property
    def left_s(self) -> float | None:
        """How long its node will still take at the rate so far."""
        whole = self.whole_s
        if whole is None or self.total < self.done:
            return None
        return max(0.0, whole - self.done / self.rate - max(0.0, self.age_s))

    @property
    def whole_s(self) -> float | None:
        """How long all of its node takes at the rate so far."""
        return self.total / self.rate if self.rate > 1e-9 else None


_FRESH: dict[str, Any] = {"done": 0, "total": 0, "rate": 0.0, "values": {}}


class Signs:
    """Writes the sign of this process. A place that cannot be written to is said once, and ends nothing."""

    def __init__(
        self, workspace: Path, run: str, *, device: str = "", job: str = "", machine: str = "", log: str = ""
    ) -> None:
        host, pid = socket.gethostname(), os.getpid()
        where = {"job": job, "machine": machine, "device": device, "log": log}
        self._sign = Sign(worker=f"{host}-{pid}", run=run, host=host, pid=pid).model_copy(update=where)
        self.run = run
        self.path = workspace / "working" / f"{self._sign.worker}.json"
        self._lock = threading.Lock()
        self._from = (0, 0, 0.0)  # total, done and the moment from which the rate is taken
        self._new = False
        self._written = 0.0
        self._broken = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)

    def __enter__(self) -> Signs:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def computes_on(self, device: str) -> None:
        """What is known once torch is asked."""
        self._tell(device=device)

    def begins(self, node: Node) -> None:
        """It works on a node now; written at once."""
        self._tell(**_FRESH, stage=node.stage, key=node.key, title=node.title, since=now())
        self._from = (0, 0, 0.0)
        self._write()

    def progress(self, done: int, total: int, values: Mapping[str, float]) -> None:
        moment = time.monotonic()
        if self._from[0] != total or done < self._from[1]:  # a checkpoint's steps were made before
            self._from = (total, done, moment)
        _, first, since = self._from
        rate = (done - first) / (moment - since) if moment > since else 0.0
        self._tell(done=done, total=total, rate=rate, values=dict(values))

    def rests(self) -> None:
        """It works on no node."""
        self._tell(**_FRESH, stage="", key="", title="", since="")

    def _tell(self, **values: Any) -> None:
        with self._lock:
            self._sign = self._sign.model_copy(update=values)
            self._new = True

    def _beat(self) -> None:
        while not self._end.wait(EVERY_S):
            if self._new or time.monotonic() - self._written >= BEAT_S:
                self._write()

    def _write(self) -> None:
        with self._lock:
            self._sign = self._sign.model_copy(update={"beat": now()})
            self._new, self._written = False, time.monotonic()
            text = self._sign.model_dump_json()
        try:
            write_atomic(self.path, text)
        except OSError as error:
            if not self._broken:
                log.warning("what this process works on cannot be noted: %s", problem_of(error))
            self._broken = True


def working(workspace: Path) -> list[Sign]:
    """What the processes of a workspace work on, those that may be gone too; see ``Sign.alive``."""
    return list(read_states(workspace / "working", Sign).values())


def who_has(workspace: Path, link: Link) -> str:
    """Who works on a node, for people."""
    signs = [sign for sign in working(workspace) if sign.link == link and sign.alive]
    return signs[0].whom if signs else "another process"


def sweep(workspace: Path) -> None:
    """Remove the signs of processes of this machine that are gone, and of others that are long silent."""
    for path in state_files(workspace / "working"):
        sign = read_state(path, Sign)
        if sign is None or (not sign.alive and (sign.host == socket.gethostname() or sign.age_s > 24 * 3600)):
            with contextlib.suppress(OSError):
                path.unlink()
    for path in (workspace / "working").glob(".*.json"):  # half written by one that was killed
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > SILENT_S:
                path.unlink()


def forget(workspace: Path, run: str, link: Link) -> None:
    """Remove the signs of a run of work on a node whose process is known to be gone."""
    for sign in working(workspace):
        if sign.run == run and sign.link == link:
            with contextlib.suppress(OSError):
                (workspace / "working" / f"{sign.worker}.json").unlink()
