"""The precision that a node's networks run in: the one asked for where the device does it rightly.

A processor that computes bf16 wrongly goes on in fp32, which costs it time alone. A GPU that must not be
asked for a precision, or computes it wrongly, is refused: what was planned for it has other sizes and times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from sfrbench.components.base import VIT, Component, Finetune, Foundation, Precision
from sfrbench.engine.compiling import compiles, lack
from sfrbench.errors import NotReadyError, Problem
from sfrbench.machine import selfcheck
from sfrbench.machine.card import Card, card_of, refusal
from sfrbench.machine.selfcheck import SelfCheck
from sfrbench.machine.selfcheck_fault import Fault, Shapes
from sfrbench.plan.graph import Node
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.settings import StageSettings

log = logging.getLogger("sfrbench")

_SHOWN = 5
#: Kinds whose networks run; the first of a node's is the one that trains, where it trains.
_NETWORKS = ("backbone", "foundation")


def _attention(device: str) -> str:
    from sfrbench.components.foundation import _grid

    return _grid.used(device)


@dataclass(frozen=True)
class Settled:
    """How a node runs here: its components, what its record says of precision, and whether what is float32
    is computed in TF32 around it."""

    components: dict[str, Component]
    record: dict[str, Any]
    tf32: bool = False


@dataclass
class Settler:
    """Decides for the nodes of one process. A processor is checked once, before the first node that runs a
    network in bf16 on it; for other nodes only what was found earlier counts. A GPU is checked before the
    first node of each size, in every precision that it has."""

    device: str
    check: Callable[[], SelfCheck] = selfcheck.on_cpu
    known: Callable[[], SelfCheck | None] = selfcheck.kept
    check_device: Callable[[str, Card | None, Shapes], SelfCheck] = selfcheck.on_device
    attention: Callable[[str], str] = _attention  # by which kernel SAM's global blocks attend
    _found: SelfCheck | None = field(default=None, init=False)
    _warned: set[str] = field(default_factory=set, init=False)

    @cached_property
    def card(self) -> Card | None:
        """The GPU, if it is one."""
        return card_of(self.device)

    def settle(self, stage: str, components: Mapping[str, Component], settings: StageSettings) -> Settled:
        """How a node runs here. Raises ``NotReadyError`` where its precision is refused."""
        if not recipe_of(stage).needs.network:
            return Settled(dict(components), {})
        asked = _asked(components, settings)
        noted: dict[str, Any] = {}
        if self.device == "cpu":
            ran = self._on_cpu(asked, noted)
        else:
            ran = self._on_device(asked, components, settings)
        if self.card is not None:
            noted["card"] = self.card.facts
            foundation = components.get("foundation")
            in_bf16 = ran.get("foundation") == "bf16"
            if in_bf16 and isinstance(foundation, Foundation) and foundation.image_encoder == VIT:
                noted["attention"] = self.attention(self.device)
        if asked:
            noted["precision"] = ran
        others = {kind: precision for kind, precision in asked.items() if precision != ran[kind]}
        if others:
            noted["precision_asked"] = others
        settled = {
            kind: part.model_copy(update={"precision": ran[kind]}) if kind in ran else part
            for kind, part in components.items()
        }
        leads = next((ran[kind] for kind in _NETWORKS if kind in ran), "fp32")
        return Settled(settled, noted, leads == "tf32")

    def refused(self, nodes: Iterable[Node]) -> list[Problem]:
        """What the card must not be asked for by these nodes, as far as is known without computing."""
        problems: dict[Problem, None] = {}
        for node in nodes:
            if self.card is not None and recipe_of(node.stage).needs.network:
                parts = {kind: resolved.component for kind, resolved in node.components.items()}
                found = _refusals(self.card, _asked(parts, node.settings), parts, node.settings)
                problems.update(dict.fromkeys(found))
        return list(problems)

    def _on_cpu(self, asked: Mapping[str, Precision], noted: dict[str, Any]) -> dict[str, Precision]:
        ran: dict[str, Precision] = {
            kind: "fp32" if precision == "tf32" else precision for kind, precision in asked.items()
        }
        check = self._look("bf16" in ran.values()) if asked else None
        if check is None:
            return ran
        if check.faults:
            noted["self_check_faults"] = [str(fault) for fault in check.faults]
        self._warn("this processor computes fp32 wrongly: results are not to be trusted", check.of("fp32"))
        if not check.of("bf16") or "bf16" not in ran.values():
            return ran
        self._warn("this processor computes bf16 wrongly: fp32 is used in its place", check.of("bf16"))
        return dict.fromkeys(ran, "fp32")

    def _on_device(
        self, asked: Mapping[str, Precision], components: Mapping[str, Component], settings: StageSettings
    ) -> dict[str, Precision]:
        """What runs on a GPU or another device: what is asked for; fp32 where it has no TF32."""
        card = self.card
        if card is not None:
            problems = _refusals(card, asked, components, settings)
            if problems:
                raise NotReadyError.of(problems)
        has_tf32 = card is not None and card.has_tf32
        ran: dict[str, Precision] = {
            kind: "fp32" if precision == "tf32" and not has_tf32 else precision
            for kind, precision in asked.items()
        }
        if asked:
            check = self.check_device(self.device, card, _shapes(components, settings))
            problems = [
                Problem(_field(kind, settings), self._wrong(precision, check.of(precision)), _hint(precision))
                for kind, precision in ran.items()
                if check.of(precision)
            ]
            if problems:
                raise NotReadyError.of(problems)
        return ran

    def _wrong(self, precision: Precision, faults: list[Fault]) -> str:
        name = self.device if self.card is None else self.card.name
        versions = "" if self.card is None else " (torch {torch}, cuDNN {cudnn})".format(**self.card.facts)
        return f"{name}{versions} computes {precision} wrongly: {'; '.join(_few(faults))}"

    def _look(self, now: bool) -> SelfCheck | None:
        if self._found is None:
            self._found = self.check() if now else self.known()
        return self._found

    def _warn(self, what: str, faults: list[Fault]) -> None:
        """Once in a process."""
        if not faults or what in self._warned:
            return
        self._warned.add(what)
        lines = "\n".join(f"  {line}" for line in _few(faults))
        log.warning("%s ('sfrbench doctor' says more)\n%s", what, lines)


def uncompiled(nodes: Iterable[Node], device: str) -> list[Problem]:
    """What a device lacks for compiled blocks, where one of these nodes runs such."""
    networks = [node for node in nodes if recipe_of(node.stage).needs.network]
    parts = [resolved.component for node in networks for resolved in node.components.values()]
    problem = lack(device) if compiles(parts) else None
    return [] if problem is None else [problem]


def _few(faults: list[Fault]) -> list[str]:
    rest = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return [*map(str, faults[:_SHOWN]), *rest]


def _hint(precision: Precision) -> str:
    if precision == "fp32":
        return "look for TORCH_ or NVIDIA_ variables in the environment; try another version of torch"
    return "ask for fp32 there, or try another version of torch or cuDNN"


def _asked(components: Mapping[str, Component], settings: StageSettings) -> dict[str, Precision]:
    """What each network of a node is asked to compute in: by its component, unless the settings say it."""
    own = {kind: getattr(components.get(kind), "precision", None) for kind in _NETWORKS}
    over = getattr(settings, "precision", None)
    return {kind: cast(Precision, over or asked) for kind, asked in own.items() if asked is not None}


def _field(kind: str, settings: StageSettings) -> str:
    """The field of a specification that asks."""
    return "protocol.precision" if getattr(settings, "precision", None) else f"{kind}.precision"


def _refusals(
    card: Card,
    asked: Mapping[str, Precision],
    components: Mapping[str, Component],
    settings: StageSettings,
) -> list[Problem]:
    tune, foundation = components.get("finetune"), components.get("foundation")
    volumetric = isinstance(tune, Finetune) and tune.volumetric
    sam_in_3d = isinstance(foundation, Foundation) and foundation.in_3d
    in_3d = {"backbone": True, "foundation": volumetric or sam_in_3d}
    found = [
        refusal(card, precision, _field(kind, settings), in_3d=in_3d[kind])
        for kind, precision in asked.items()
    ]
    return [problem for problem in found if problem is not None]


def _shapes(components: Mapping[str, Component], settings: StageSettings) -> Shapes:
    return Shapes(
        patch=getattr(settings, "patch", None) if "backbone" in components else None,
        filters=getattr(components.get("backbone"), "filters", None),
        canvas=getattr(components.get("foundation"), "canvas", None),
    )
