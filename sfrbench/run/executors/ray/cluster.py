"""Joining a Ray cluster, or making one of this machine for as long as a run lasts."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfrbench.errors import NotReadyError, shorter
from sfrbench.files.urls import ADDRESSES
from sfrbench.machine.needs import cores
from sfrbench.machine.selfcheck import VARIABLES
from sfrbench.run.executors.local import GRACE_S, THREADS
from sfrbench.run.executors.ray.settings import Joined, Size

ANSWER_S = 5.0  # for a cluster to answer
MACHINE_GONE = "its machine of the Ray cluster is gone"
_OBJECTS = 80 * 2**20  # bytes of shared memory: only keys travel
#: Read by Ray when it is imported. No report to its makers; a wrong token is tried four times, a second each;
#: nothing that its machines say goes to the terminal.
_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "4",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}
#: What a worker has to know of this process's environment, beside what begins with SFRBENCH_.
_PASSED = (*VARIABLES, "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CUBLAS_WORKSPACE_CONFIG")


@dataclass(frozen=True)
class Lost:
    """A task whose process is gone."""

    why: str


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined; ``folder`` holds the files of one that it has made."""

    folder: Path | None = None
    _known: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False)

    def machines(self) -> dict[str, Size]:
        """What the machines that are there have, by Ray's ids of them."""
        import ray

        found = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        return {each: Size(has.get("CPU", 0.0), has.get("GPU", 0.0)) for each, has in found.items()}

    def address(self) -> str:
        """host:port of its head."""
        import ray

        return str(ray.get_runtime_context().gcs_address)

    def launch(self, function: Callable[..., Any], name: str, size: Size, *arguments: Any) -> Any:
        """A call of a function as a task of this size; returns what stands for it."""
        import ray

        if function not in self._known:
            self._known[function] = ray.remote(function)
        task = self._known[function].options(
            name=name,
            num_cpus=size.cpus,
            num_gpus=size.gpus,
            max_retries=0,  # who launches it does so again
            runtime_env={"env_vars": dict.fromkeys(THREADS, str(int(size.cpus)))},
        )
        return task.remote(*arguments)

    def done(self, refs: Sequence[Any], seconds: float) -> list[Any]:
        """Those of some tasks that have ended; waits so long at most for one."""
        import ray

        done, _ = ray.wait(refs, num_returns=1, timeout=seconds)
        return list(ray.wait(refs, num_returns=len(refs), timeout=0)[0]) if done else []

    def outcome(self, ref: Any) -> Any:
        """What a task that has ended returns, or ``Lost``. Raises ``NotReadyError`` where none can start, or
        where that is what it returns."""
        import ray

        try:
            found = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise NotReadyError(f"a Ray worker cannot start: {error.cause}") from error
        except ray.exceptions.RayError as error:
            return Lost(_why(error))
        if isinstance(found, NotReadyError):
            raise found
        return found

    def ask_anew(self) -> None:
        """Ray asks for room by function, and not again while an answer is still to come, as from a machine
        that has fallen silent. What is launched from now on is new to it."""
        self._known.clear()

    def cancel(self, ref: Any) -> None:
        """Tell a task to end."""
        import ray

        ray.cancel(ref, recursive=False)

    def end(self, refs: Sequence[Any]) -> None:
        """Tell tasks to end, and give them the time to leave their checkpoints."""
        import ray

        for ref in refs:
            self.cancel(ref)
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=GRACE_S)

    def leave(self) -> None:
        """End what still runs of this process there, and the cluster if this process has made it."""
        import ray

        ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def join(named: Joined | None, workers: int | None, cards: tuple[str, ...]) -> Cluster:
    """Join the cluster that is named, else make one of this machine, with these cards.

    Raises ``NotReadyError`` where Ray is not installed, or the cluster does not answer, or not to us.
    """
    os.environ.update(_RAY)
    if named is None or "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
    try:
        import ray
    except ImportError as error:
        raise NotReadyError("Ray is not installed", hint="pip install 'sfrbench[ray]'") from error
    how: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
        "runtime_env": {"env_vars": _environment()},
    }
    if named is not None:
        _reach(named)
        with _quiet():
            _join(ray, named, how)
        return Cluster()
    with _quiet():
        return Cluster(_make(ray, workers, cards, how))


def _join(ray: Any, named: Joined, how: dict[str, Any]) -> None:
    try:
        ray.init(address=named.address, **how)
    except ray.exceptions.AuthenticationError as error:
        what = "the token of the Ray cluster is not known here"
        raise NotReadyError(what, where=named.where, hint=_TOKEN) from error
    except ConnectionError as error:
        what = "no Ray cluster lets us in"
        raise NotReadyError(what, where=named.where, hint=_TOKEN) from error
    except Exception as error:
        what = f"the Ray cluster cannot be joined: {error}"
        raise NotReadyError(what, where=named.where, hint="see 'ray status'") from error


_TOKEN = (
    "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or keep it in ~/.ray/auth_token; a cluster without tokens: "
    "RAY_AUTH_MODE=disabled"
)


def _make(ray: Any, workers: int | None, cards: tuple[str, ...], how: dict[str, Any]) -> Path:
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # a short path: sockets lie in it
    folder = Path(tempfile.mkdtemp(prefix="sfrbench-ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp")))
    if cards:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
    try:
        ray.init(
            address="local",
            num_cpus=max(cores(), workers or 1),
            num_gpus=len(cards),
            include_dashboard=False,
            object_store_memory=_OBJECTS,
            _temp_dir=str(folder),
            **how,
        )
    except Exception as error:
        ray.shutdown()
        what = f"Ray cannot be started on this machine: {error}"
        raise NotReadyError(what, hint=f"its logs: {folder}; --executor local needs no Ray") from error
    return folder


def _reach(named: Joined) -> None:
    """Raises ``NotReadyError`` where nobody answers: Ray itself would try for minutes."""
    if named.address == "auto":
        return
    fault = silence(named.address)
    if fault:
        hint = "start one with 'ray start --head', or leave the address out: one of this machine is made"
        raise NotReadyError(f"no Ray cluster answers there: {fault}", where=named.where, hint=hint)


def silence(address: str) -> str:
    """Why nobody answers at an address; empty: somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def _environment() -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name.startswith("SFRBENCH_")}
    own = {name: value for name, value in given.items() if name not in ADDRESSES}  # Ray logs them
    own |= {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**own, "PYTHONPATH": os.pathsep.join(_folders())}


def _folders() -> list[str]:
    """Where this process finds packages beside the installed ones: users' own components lie there."""
    installed = [Path(place).resolve() for place in sysconfig.get_paths().values()]
    found = [Path(part).resolve() for part in sys.path if Path(part).is_dir()]
    return [str(part) for part in found if not any(part.is_relative_to(place) for place in installed)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's core writes past Python off the terminal while it starts, and our handler of SIGTERM,
    for which it puts its own."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    ours = signal.getsignal(signal.SIGTERM)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


def _why(error: Exception) -> str:
    """What ended a task, in Ray's own first line."""
    import ray

    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "Ray ended its process: the machine lacks memory"
    if isinstance(error, ray.exceptions.NodeDiedError):
        return MACHINE_GONE
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "its process in the Ray cluster is gone"
    return f"Ray has lost it: {shorter((str(error).strip() or type(error).__name__).splitlines()[0], 200)}"
