"""The precision that a node's networks run in: the one asked for, or fp32 where a CPU does bf16 wrongly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfrbench.components.base import Component
from sfrbench.machine import selfcheck
from sfrbench.machine.selfcheck import SelfCheck
from sfrbench.machine.selfcheck_fault import Fault
from sfrbench.stages.finder import recipe_of

log = logging.getLogger("sfrbench")

_SHOWN = 5


@dataclass
class Precision:
    """Decides for the nodes of one process. The processor is checked once, before the first node that runs
    a network in bf16 on it; for nodes in fp32 only what was found earlier counts. A GPU is not checked."""

    device: str
    check: Callable[[], SelfCheck] = selfcheck.on_cpu
    known: Callable[[], SelfCheck | None] = selfcheck.kept
    _found: SelfCheck | None = field(default=None, init=False)
    _warned: set[str] = field(default_factory=set, init=False)

    def settle(
        self, stage: str, components: Mapping[str, Component]
    ) -> tuple[dict[str, Component], dict[str, Any]]:
        """The components as they run here, and what the record says of it: nothing where none has one."""
        asked = {kind: getattr(part, "precision", None) for kind, part in components.items()}
        asked = {kind: precision for kind, precision in asked.items() if precision is not None}
        if not asked or not recipe_of(stage).needs.network:
            return dict(components), {}
        if self.device != "cpu":
            return dict(components), {"precision": asked}
        check = self._look("bf16" in asked.values())
        if check is None:
            return dict(components), {"precision": asked}
        wrong = [str(fault) for fault in check.faults]
        noted: dict[str, Any] = {"self_check_faults": wrong} if wrong else {}
        self._warn("this processor computes fp32 wrongly: results are not to be trusted", check.of("fp32"))
        if not check.of("bf16") or "bf16" not in asked.values():
            return dict(components), {"precision": asked, **noted}
        self._warn("this processor computes bf16 wrongly: fp32 is used in its place", check.of("bf16"))
        settled = {
            kind: part.model_copy(update={"precision": "fp32"}) if kind in asked else part
            for kind, part in components.items()
        }
        fell_back = {kind: precision for kind, precision in asked.items() if precision != "fp32"}
        return settled, {"precision": dict.fromkeys(asked, "fp32"), "precision_asked": fell_back, **noted}

    def _look(self, now: bool) -> SelfCheck | None:
        if self._found is None:
            self._found = self.check() if now else self.known()
        return self._found

    def _warn(self, what: str, faults: list[Fault]) -> None:
        """Once in a process."""
        if not faults or what in self._warned:
            return
        self._warned.add(what)
        lines = [f"  {fault}" for fault in faults[:_SHOWN]]
        lines += [f"  and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        log.warning("%s ('sfrbench doctor' says more)\n%s", what, "\n".join(lines))
