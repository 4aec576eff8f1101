"""One node, run by one process, and what its driver hears of it: the same for every executor."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sfrbench.engine.context import Pruned, Stopped
from sfrbench.errors import no_room, stopped, told
from sfrbench.plan.graph import Link, Node
from sfrbench.run.outcomes import Status
from sfrbench.store.store import Busy

if TYPE_CHECKING:
    from sfrbench.run.executors.node import Worker


@dataclass(frozen=True)
class Began:
    """A process makes the node now; no other one can."""

    link: Link


@dataclass(frozen=True)
class Step:
    """A part of a node is done; ``values`` are losses and scores."""

    link: Link
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """A process has let go of a node.

    ``busy``: another one works on it, and holds ``lock``. ``lost``: its process is gone. ``stopped``: its
    process was told to stop, and left a checkpoint. ``no_room``: it failed because a disk is full.
    """

    link: Link
    status: Status | Literal["busy", "lost", "stopped"]
    reason: str = ""
    seconds: float = 0.0
    log: str = ""
    host: str = ""
    job: str = ""
    lock: Link = ("", "")
    no_room: bool = False


Event = Began | Step | Ended
Hear = Callable[[Event], None]


def attempt(worker: Worker, node: Node, hear: Hear) -> Ended:
    """Run a node and say what became of it. A fault of the node is kept in the store, and never raised."""
    link, began = (node.stage, node.key), False

    def begins() -> None:
        nonlocal began
        began = True
        hear(Began(link))

    def progress(done: int, total: int, **values: float) -> None:
        hear(Step(link, done, total, values))

    try:
        artefact = worker.run(node, progress, begins)
    except Busy as other:
        return Ended(link, "busy", lock=other.lock)
    except Stopped:
        return Ended(link, "stopped")
    except Pruned as stop:
        return Ended(link, "pruned", str(stop))
    except Exception as error:  # whatever it is, it must not stop the other cells; it is kept and shown
        if stopped(error):
            raise KeyboardInterrupt from error
        log = worker.store.note_failure(node.stage, node.key, told(error), traceback.format_exc())
        return Ended(link, "failed", told(error), log=str(log or ""), no_room=no_room(error))
    if began:
        return Ended(link, "ran", seconds=artefact.record["seconds"])
    twin = artefact.record.get("equal_to")
    if twin is not None:
        return Ended(link, "reused", f"the same work as {node.stage} {twin[:8]}")
    return Ended(link, "elsewhere", "another process has just made it")
