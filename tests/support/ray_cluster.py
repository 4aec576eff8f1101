"""A Ray cluster of two machines, which are both this one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.processes import children, wait_until_gone
from tests.support.runs import environment


class Cluster:
    """A head, and a node on another address of the loopback device; a core each. ``address``: of the head."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a short path: sockets lie in it
        options = ("--head", "--port", "0", "--include-dashboard=false", "--temp-dir", str(self.folder))
        self._started = {"head": self._start("head", *options)}
        try:
            self.address = self._said("head", "--address='").split("'")[0]
            self.add()
        except BaseException:
            self.stop()
            raise

    def add(self) -> None:
        options = ("--address", self.address, "--node-ip-address", "127.0.0.2")
        self._started["node"] = self._start("node", *options)
        self._said("node", "Ray runtime started")

    def on_node(self, machine: str) -> bool:
        """Whether the node has an id that Ray has given, and not the head."""
        return any(machine in _command(each) for each in _all_of(self._started["node"].pid))

    def kill(self) -> None:
        """End the node and all that runs on it, as a machine without power does."""
        _kill(self._started.pop("node"))

    def stop(self) -> None:
        for started in self._started.values():
            _kill(started)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, *options: str) -> subprocess.Popen[str]:
        command = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1")
        with (self.folder / f"{name}.log").open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                [*command, "--object-store-memory", str(80 * 2**20), *options],
                env=environment(), stdout=log, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip

    def _said(self, name: str, what: str) -> str:
        """What one of them says after some words; waits for them."""
        log = self.folder / f"{name}.log"
        while what not in (said := log.read_text()):
            assert self._started[name].poll() is None, said
            time.sleep(0.05)
        return said.split(what)[1]


def _all_of(process: int) -> list[int]:
    return [process, *(each for child in children(process) for each in _all_of(child))]


def _command(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""


def _kill(started: subprocess.Popen[str]) -> None:
    hit = _all_of(started.pid)
    for process in hit:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    started.wait()
    wait_until_gone(hit)
