"""Processes of the command line, forked from one that has loaded torch and the rest already.

Python takes seconds of a core to load them, and that is not what most tests of processes are about. One
process of each session of tests loads them, trains nothing, starts no thread, and forks: what it forks is
a process like any other, with folder, environment, pipes, signals and exit status of its own. Only what
Python draws once, the seed of its hashes, is the same in all of them.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

from filelock import FileLock

from tests.support.places import ROOT

#: What takes longest to load of what commands use.
MODULES = (
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna",
    "pandas",
    "scipy.ndimage",
    "scipy.stats",
    "sfrbench.cli.commands",
    "sfrbench.components.finetune._lora",
    "sfrbench.engine.training",
    "sfrbench.report.build",
    "sfrbench.report.items.montage.figure",
    "sfrbench.report.items.table.result",
    "sfrbench.run.experiment",
    "sfrbench.search.storage",
    "sfrbench.stages.predict.run",
    "sfrbench.stages.retrain.run",
)
#: Read when they are loaded.
FIXED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MPLBACKEND")


class Process:
    """``python -m sfrbench ARGUMENTS``, or of a ``script``; what the tests use of ``subprocess.Popen``, and
    like it.

    ``stderr`` is a pipe of its own, ``STDOUT`` or ``DEVNULL``; ``cores`` are those that it may use.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        cores: tuple[int, ...] = (),
        script: Path | None = None,
    ) -> None:
        self.args, self.returncode = arguments, None
        self._said: list[str] | None = None
        self._status, theirs = socket.socketpair()
        null = os.open(os.devnull, os.O_RDWR)
        self.stdout, out = _pipe(stdout, null)
        self.stderr, err = (None, out) if stderr == subprocess.STDOUT else _pipe(stderr, null)
        told = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "cores": cores}
        told["script"] = None if script is None else str(script)
        server = _server(tuple(env.get(name, "") for name in FIXED))
        request = json.dumps(told).encode()
        server.sendall(len(request).to_bytes(8, "big") + request)
        socket.send_fds(server, [b"."], [theirs.fileno(), null, out, err])
        theirs.close()
        for handle in {null, out, err}:
            os.close(handle)
        self._lines = self._status.makefile("r")
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._lines.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it says until it has ended, on its two pipes."""
        said = {"stdout": "", "stderr": ""}

        def read(name: str, stream: IO[str]) -> None:
            said[name] = stream.read()
            stream.close()

        pipes = {"stdout": self.stdout, "stderr": self.stderr}
        readers = [
            threading.Thread(target=read, args=(name, stream), daemon=True)
            for name, stream in pipes.items()
            if stream is not None and not stream.closed
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return said["stdout"], said["stderr"]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _pipe(wanted: int, null: int) -> tuple[IO[str] | None, int]:
    """Our end of a pipe, if one is wanted, and the end of the process."""
    if wanted == subprocess.DEVNULL:
        return None, null
    ours, theirs = os.pipe()
    return os.fdopen(ours, encoding="utf-8"), theirs


@cache
def _server(fixed: tuple[str, ...]) -> socket.socket:
    """A connection to a process that forks. All processes of a session of tests share it: it is started when
    one first wants it, and ends once none is connected."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", os.getpid())
    name = hashlib.sha256(repr((session, fixed)).encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"sfrbench-tests-{name}"
    ours = socket.socket(socket.AF_UNIX)
    with FileLock(place.with_name(f"sfrbench-tests-{os.getuid()}.lock")):
        try:
            ours.connect(str(place))
        except OSError:
            _start(place, ours, fixed)
    return ours


def _start(place: Path, ours: socket.socket, fixed: tuple[str, ...]) -> None:
    """Start a process that forks, and connect a socket to it."""
    known = {name: value for name, value in zip(FIXED, fixed, strict=True) if value}
    others = {name: value for name, value in os.environ.items() if name not in FIXED}
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(place))
        theirs.listen()
        ours.connect(str(place))  # waits there until it is accepted
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.loaded", str(theirs.fileno()), str(place)],
            cwd=ROOT, env={**others, **known, "PYTHONPATH": str(ROOT)}, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def _serve(listening: socket.socket, place: Path) -> str | None:
    """Fork at each request; returns in what was forked, as it is to be, and never here: the script to run, or
    None for the command line."""
    for name in MODULES:
        importlib.import_module(name)
    _warm()
    gc.collect()
    gc.freeze()  # else what is forked copies every page as soon as it looks for what is garbage
    assert threading.active_count() == 1, "locks that threads hold stay locked in what is forked"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    connected = [listening.accept()[0]]
    while connected or _last(listening, place):
        for ready in select.select([listening, *connected], [], [])[0]:
            if ready is listening:
                connected.append(listening.accept()[0])
            elif not (head := ready.recv(8, socket.MSG_WAITALL)):
                connected.remove(ready)
                ready.close()
            else:
                told = json.loads(ready.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
                _, handles, _, _ = socket.recv_fds(ready, 1, 4)
                if not os.fork():
                    for each in (listening, *connected):
                        each.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _keep(*handles)
                    script: str | None = told.pop("script")
                    _become(**told)
                    return script
                for handle in handles:
                    os.close(handle)
    os._exit(0)


def _last(listening: socket.socket, place: Path) -> bool:
    """Whether somebody has connected; nobody can any more."""
    place.unlink(missing_ok=True)
    return bool(select.select([listening], [], [], 0)[0])


def _warm() -> None:
    """What every command does once: read the cards, load their classes, and draw a first figure (fonts)."""
    from sfrbench.catalog.cards import Catalog
    from sfrbench.paper.tables import published
    from sfrbench.report.render import style
    from sfrbench.stages.finder import recipes

    for card in Catalog.read().cards():
        card.component_class.model_json_schema()
    recipes()
    published(1)
    with tempfile.TemporaryDirectory() as folder, style.canvas(2, 2, "first") as figure:
        axes = figure.subplots()
        axes.set_title("first")
        style.outline(axes, [[0, 0, 0], [0, 1, 0], [0, 0, 0]], "red", "solid", 1)
        style.save(figure, Path(folder), "first")


def _keep(status: int, *streams: int) -> None:
    """Fork once more, say which process that is and how it ends; returns in that one."""
    child = os.fork()
    if child:
        for handle in streams:
            os.close(handle)
        os.write(status, f"{child}\n".encode())
        os.write(status, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
        os._exit(0)
    os.close(status)
    for place, handle in enumerate(streams):
        os.dup2(handle, place)
    for handle in set(streams):
        os.close(handle)


def _become(arguments: list[str], cwd: str, env: dict[str, str], cores: list[int]) -> None:
    import numpy as np

    if cores:
        os.sched_setaffinity(0, cores)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = [cwd, *env.get("PYTHONPATH", "").split(os.pathsep), *sys.path[2:]]
    sys.argv[1:] = arguments
    tempfile.tempdir = None
    os.fsync = os.fstat  # type: ignore[assignment]  # as in the process of the tests
    np.random.seed()


def _run(script: str | None) -> None:
    """The command, and all that Python does at its end but for taking down what it has loaded: that takes
    seconds of a core, since every page is copied once more."""
    status = 0
    try:
        if script is None:
            runpy.run_module("sfrbench", run_name="__main__", alter_sys=True)
        else:
            sys.argv[0], sys.path[0] = script, str(Path(script).parent)
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = 1 if isinstance(end.code, str) else int(end.code or 0)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for its threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _run(_serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2])))
