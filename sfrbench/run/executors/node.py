"""Runs one node: the same for every executor."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sfrbench.components.base import Component, Stitch
from sfrbench.engine.arithmetic import arithmetic
from sfrbench.engine.compiling import compiled_code
from sfrbench.engine.context import Progress, StageContext, Stopped, goes_on, no_progress, watch_nothing
from sfrbench.errors import CheckpointError
from sfrbench.machine.needs import Machine, environment, git_state
from sfrbench.places import weights
from sfrbench.plan.graph import Node
from sfrbench.run.executors import memory
from sfrbench.run.executors.equal import copy_files, work_of
from sfrbench.run.executors.precision import Settler
from sfrbench.stages.finder import behaviour, recipe_of
from sfrbench.stages.settings import StageSettings
from sfrbench.store.store import Artefact, Store

log = logging.getLogger(__name__)

#: What a record says about the work itself, whoever did it.
_MEASURED = ("started", "seconds", "cpu_seconds", *memory.MEASURED, "device", "threads")
_PRECISION = ("precision", "precision_asked", "self_check_faults", "card", "attention", "arithmetic")


@dataclass(frozen=True)
class Worker:
    """What every node of a run shares."""

    store: Store
    machine: Machine
    profile: str
    device: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    watch: Callable[[Node, int, float], bool] | None = None  # told (node, step, validation Dice); true: stop
    stopping: Callable[[], bool] = goes_on  # true: this process has to end

    @classmethod
    def of(cls, store: Store, machine: Machine, profile: str, needs_gpu: bool = False) -> Worker:
        """A worker of a run, whose profile may need an accelerator. Raises ``NotReadyError`` where the device
        that is asked for is not here."""
        facts = {"environment": environment(), "git": git_state()}
        memory.keep_freed()
        return cls(store, machine, profile, machine.torch_device(profile if needs_gpu else ""), facts)

    @cached_property
    def precision(self) -> Settler:
        return Settler(self.device)

    def run(
        self, node: Node, progress: Progress = no_progress, begins: Callable[[], None] = lambda: None
    ) -> Artefact:
        """Make the artefact of ``node``, or take the one that another process has just published.

        ``begins`` is called where this process does the work, once no other one can. Raises ``Busy`` where
        another one does it, and ``Stopped`` where this process has to end.
        """
        with self.store.lock(node.stage, node.key, wait=False):
            if self.store.has(node.stage, node.key):
                return self.store.get(node.stage, node.key)
            self.store.check(node.stage, node.key)
            out = self.store.new_folder()
            try:
                context = self._context(node, out, self._stoppable(progress))
                work = work_of(node, context, self.profile)
                if work is None:
                    begins()
                    return self.store.publish(node.stage, node.key, out, self._run(node, context))
                with self.store.lock("work", work, wait=False):
                    twin = self.store.twin(node.stage, work)
                    if twin is None:
                        begins()
                    record = self._run(node, context) if twin is None else self._take(node, context, twin)
                    return self.store.publish(node.stage, node.key, out, record, work)
            finally:
                self.store.discard(out)

    def _stoppable(self, progress: Progress) -> Progress:
        """Between two units of work a stage may be stopped; a training has left its checkpoint by then."""

        def told(done: int, total: int, **values: float) -> None:
            progress(done, total, **values)
            if done < total and self.stopping():
                raise Stopped

        return told

    def _context(self, node: Node, out: Path, progress: Progress) -> StageContext[StageSettings]:
        scratch = self.store.scratch(node.stage, node.key)
        scratch.mkdir(parents=True, exist_ok=True)
        dataset = node.components.get("dataset")
        watch = self.watch
        return StageContext(
            components=self._components(node),
            settings=node.settings,
            inputs={role: self.store.get(*link) for role, link in node.inputs.items()},
            seed=node.seed or 0,
            out=out,
            scratch=scratch,
            device=self.device,
            data_root=self.machine.root(dataset) if dataset else None,
            weights=weights.check,
            progress=progress,
            stopping=self.stopping,
            watch=watch_nothing if watch is None else lambda step, dice: watch(node, step, dice),
        )

    def _components(self, node: Node) -> dict[str, Component]:
        own = {kind: resolved.component for kind, resolved in node.components.items()}
        if "stitch" in own and recipe_of(node.stage).needs.training_canvases:
            own["stitch"] = cast(Stitch, own["stitch"]).located(self.machine.folder)
        return own

    def _take(self, node: Node, context: StageContext[StageSettings], twin: Artefact) -> dict[str, Any]:
        """The record of a node whose work another node has done; what it took stands for both."""
        copy_files(twin, context.out)
        taken = {name: twin.record[name] for name in _MEASURED if name in twin.record}
        taken |= {name: twin.record[name] for name in _PRECISION if name in twin.record}
        return {
            **self._described(node),
            **taken,
            "notes": {**twin.record["notes"], **context.notes},
            "equal_to": twin.key,
        }

    def _run(self, node: Node, context: StageContext[StageSettings]) -> dict[str, Any]:
        stage = behaviour(node.stage)
        settled = self.precision.settle(node.stage, context.components, node.settings)
        memory.reset_peaks(self.device)
        started, clock, cpu = datetime.now(UTC), time.monotonic(), time.process_time()
        context = replace(context, components=settled.components)
        network = recipe_of(node.stage).needs.network
        parts = context.components.values() if network else ()
        with (
            compiled_code(parts, self.device),
            arithmetic(tf32=settled.tf32) if network else nullcontext() as held,
        ):
            try:
                stage(context)
            except CheckpointError as error:
                _set_aside(error, context)
                stage(context)
            except RuntimeError as error:
                short = memory.explained(error, node.stage, context)
                if short is None:
                    raise
                raise short from error
        return {
            **self._described(node),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            **memory.peaks(self.device),
            "device": _device_name(self.device),
            "threads": _threads(),
            **settled.record,
            **({"arithmetic": held} if held else {}),
            "notes": context.notes,
        }

    def _described(self, node: Node) -> dict[str, Any]:
        return {**node.described(), "key": node.key, "profile": self.profile, **self.facts}


def _set_aside(error: CheckpointError, context: StageContext[StageSettings]) -> None:
    """Rename a damaged checkpoint, so that the node starts again, and empty what was written of it."""
    path = Path(error.path)
    kept = path.with_name(f"{path.name}.damaged")
    log.warning("%s\n    it is set aside as %s, and the node starts again", error, kept.name)
    os.replace(path, kept)
    shutil.rmtree(context.out)
    context.out.mkdir()


def _threads() -> int:
    """How many threads torch computes with: the bits of a CPU depend on it."""
    import torch

    return torch.get_num_threads()


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return f"{device} {torch.cuda.get_device_name(device)}"
    if device == "mps":
        return f"mps {platform.machine()}"
    return f"cpu x{os.cpu_count()}"
