"""How the cells of each arm are made, in the words of the paper's tables, to be compared with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from sfrbench.catalog import Catalog
from sfrbench.components.base import Dataset, Finetune, Optim, Protocol, Selector, Ssl
from sfrbench.plan import Cell, Plan
from sfrbench.reasons import flatten
from sfrbench.report.info import Setup
from sfrbench.report.style import axis_text
from sfrbench.resolve import Resolved

_EMPTY = {
    "paper_zero": "0 where the prediction is empty",
    "skip": "left out where the prediction is empty",
    "worst": "the image diagonal where the prediction is empty",
}
_ASD = {"pred_to_gt": "ASD from prediction to truth", "gt_to_pred": "ASD from truth to prediction"}
_CHECKPOINT = {"last": "the last", "best_val": "the best on validation cases"}


def setups_of(plan: Plan, catalog: Catalog) -> list[Setup]:
    """One for each arm and point of the axes; all seeds share it."""
    found: dict[tuple[str, str], Setup] = {}
    for cell in plan.cells:
        key = (cell.arm, repr(cell.axes))
        if key not in found:
            found[key] = _setup(cell, catalog)
    return list(found.values())


def _setup(cell: Cell, catalog: Catalog) -> Setup:
    own = cell.components["dataset"]
    dataset = cast(Dataset, own.component)
    grid = changed(own, catalog, dataset.late_fields)
    return Setup(
        arm=cell.arm,
        axes=cell.axes,
        dataset=own.chosen or own.card.name,
        labeled=dataset.labeled,
        unlabeled=dataset.unlabeled,
        grid=_named(own, grid) if grid or _swapped(own) else "",
        facts=dict(_facts(cell, catalog, dataset)),
    )


def changed(own: Resolved, catalog: Catalog, leave: frozenset[str] = frozenset()) -> str:
    """The fields that differ from the card that the specification names, as ``filters 8, norm instance``."""
    card = catalog.card(own.card.kind, own.chosen or own.card.name)
    leave = leave | own.component.unkeyed_fields
    if card.component_class is not type(own.component):
        return ""  # another class: the name says it
    plain = flatten(card.component({}).model_dump(exclude=set(leave)))
    actual = flatten(own.component.model_dump(exclude=set(leave)))
    return ", ".join(
        f"{path} {axis_text(value)}" for path, value in actual.items() if value != plain.get(path)
    )


def _swapped(own: Resolved) -> bool:
    return own.chosen not in ("", own.card.name)


def _named(own: Resolved, fields: str) -> str:
    name = f"{own.card.name} in the place of {own.chosen}" if _swapped(own) else own.card.label
    return f"{name} ({fields})" if fields else name


def _facts(cell: Cell, catalog: Catalog, dataset: Dataset) -> Iterator[tuple[str, str]]:
    own = cell.components
    protocol = cast(Protocol, own["protocol"].component)
    yield "annotations", f"{dataset.labeled} labelled"
    if "foundation" in own:
        yield "foundation", _named(own["foundation"], changed(own["foundation"], catalog))
    if "backbone" in own:
        yield "backbone", _named(own["backbone"], changed(own["backbone"], catalog))
        stride = protocol.stride or dataset.stride
        yield "window", f"stride {', '.join(map(str, stride))}"
    yield "patch", " × ".join(map(str, dataset.patch))
    after = "largest component of each class" if protocol.largest_component else "without post-processing"
    yield "checkpoint", f"{_CHECKPOINT[protocol.checkpoint]}, {after}"
    unit = "" if protocol.spacing == "voxel" else f", in {protocol.spacing}"
    yield "distances", f"{_ASD[protocol.asd]}, {_EMPTY[protocol.empty]}{unit}"
    yield "average", "the plain mean over the organs"
    if "ssl" in own:
        ssl = cast(Ssl, own["ssl"].component)
        batch = f"batch {ssl.batch_labeled}"
        batch += f" + {ssl.batch_unlabeled}" if ssl.uses_unlabelled else ""
        yield "training", f"{ssl.steps} steps, {batch}, {_optim(ssl.optim)}"
    if "finetune" in own:
        tune = cast(Finetune, own["finetune"].component)
        what = own["finetune"].card.label
        yield "fine-tuning", f"{what}, {tune.steps} steps, batch {tune.batch}, {_optim(tune.optim)}"
    if "selector" in own:
        yield "SFR+", _rounds(own["selector"])


def _optim(optim: Optim) -> str:
    name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[optim.optimiser]
    return f"{name} {optim.lr:g}, {optim.schedule}"


def _rounds(own: Resolved) -> str:
    selector = cast(Selector, own.component)
    common: Mapping[str, Any] = Selector.model_fields
    extra = [f"{name} {axis_text(value)}" for name, value in selector if name not in common]
    steps = f"{selector.finetune_steps} and {selector.retrain_steps} steps of SAM and segmenter"
    return f"{', '.join(extra) or own.card.name}; {selector.rounds} rounds of {steps}"
