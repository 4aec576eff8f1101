"""What a report says beside the scores, from what is in an experiment's store. Runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sfrbench.files.private import without_places
from sfrbench.machine.needs import environment, git_state
from sfrbench.plan.budgets import seen_of
from sfrbench.plan.build import Cell
from sfrbench.plan.graph import Link
from sfrbench.report.facts.canvases import canvases_of
from sfrbench.report.facts.equal import equal_predictions
from sfrbench.report.facts.external import external_flags
from sfrbench.report.facts.features import features_of
from sfrbench.report.facts.info import Counted, Failure, ReportInfo, Reuse
from sfrbench.report.facts.pretraining import pretrained_of
from sfrbench.report.facts.prompts import prompted_of
from sfrbench.report.facts.protocols import mixed, protocols_of
from sfrbench.report.facts.rounds import ONLINE, rounds_of
from sfrbench.report.facts.setups import setups_of
from sfrbench.report.facts.sizes import size_of
from sfrbench.report.facts.volumes import artefact_of, artefacts_of, volumes_of
from sfrbench.results.grid import Missing
from sfrbench.results.predicted import is_external, result_role
from sfrbench.run.experiment import Entry, Experiment
from sfrbench.spec.model import Spec
from sfrbench.stages import roles
from sfrbench.stages.interact import recipe as interact
from sfrbench.stages.retrain import recipe as retrain
from sfrbench.store.store import Store

if TYPE_CHECKING:
    from sfrbench.plan.study import Study


def info_of(experiment: Experiment, study: Study | None) -> ReportInfo:
    """Everything that a report says beside the scores."""
    plan = experiment.plan
    spec = plan.spec
    journal = {(entry.stage, entry.key): entry for entry in experiment.journal()}
    protocols = protocols_of(plan)
    pseudo = _pseudo_scores(experiment)
    return ReportInfo(
        experiment=spec.name,
        title=spec.title,
        profile=spec.profile.name,
        protocol=" and ".join(protocols),
        arms=[(arm.name, arm.label) for arm in spec.arms],
        seeds=spec.seeds,
        items=entries_of(spec),
        description=spec.description,
        overridden=spec.overridden,
        paper=spec.paper,
        protocol_fields=next(iter(protocols.values())),
        protocols=protocols if len(protocols) > 1 else {},
        axes=spec.told,
        without={arm.name: arm.without for arm in spec.arms if arm.without},
        pseudo_arms=list({cell.arm: None for cell in plan.cells if roles.PSEUDO in cell.nodes}),
        missing=_missing(experiment),
        unscored=[*_online(experiment), *_unscored(pseudo)],
        rounds=rounds_of(experiment),
        prompted=prompted_of(experiment),
        pretrained=pretrained_of(plan),
        setups=setups_of(plan, experiment.catalog),
        patches=seen_of(plan),
        features=features_of(experiment),
        counted=[_counted(experiment, cell) for cell in plan.cells],
        excluded=plan.excluded,
        swaps=plan.swaps(),
        failures=_failures(experiment),
        flags=[
            *mixed(protocols),
            *plan.no_ops(),
            *equal_predictions(experiment),
            *_without_label(pseudo),
            *external_flags(experiment),
        ],
        reuse=_reuse(experiment, journal),
        montage=volumes_of(experiment),
        canvases=canvases_of(experiment),
        artefact=artefacts_of(experiment),
        environment=environment(),
        provenance=_provenance(experiment),
        study=study,
    )


def entries_of(spec: Spec) -> list[dict[str, Any]]:
    """What is shown: the entries of the report, and one for the search where there is one."""
    entries = [item.model_dump(exclude_unset=True) for item in spec.report]
    return [*entries, {"search": True}] if spec.search is not None else entries


def _missing(experiment: Experiment) -> list[Missing]:
    store, found = experiment.store, []
    for cell in experiment.plan.cells:
        # canvases are for pictures alone: without them every number of the cell is there
        needed = [link for role, link in cell.nodes.items() if role != "canvases"]
        absent = [link for link in needed if not store.has(*link)]
        if absent:
            failed = [reason for link in absent if (reason := _failure(store, link)) is not None]
            reason = f"failed: {failed[0].splitlines()[0]}" if failed else "not run yet"
            found.append(Missing(cell.arm, cell.axes, cell.seed, reason))
    return found


def _online(experiment: Experiment) -> list[Missing]:
    plan, found = experiment.plan, []
    for cell in plan.cells:
        link = cell.nodes.get(retrain.STAGE)
        settings = None if link is None else plan.nodes[link].settings
        if isinstance(settings, retrain.RetrainSettings) and settings.pseudo == "online":
            found.append(Missing(cell.arm, cell.axes, cell.seed, ONLINE))
    return found


def _pseudo_scores(experiment: Experiment) -> list[tuple[Cell, int, int]]:
    """Cells with scored pseudo-labels, and how many unlabelled cases have no label and have one."""
    found = []
    for cell in experiment.plan.cells:
        scored = artefact_of(experiment, cell, roles.PSEUDO)
        if scored is not None:
            ledger = scored.read_json("ledger.json")
            found.append((cell, len(ledger.get("without_label", ())), len(ledger["labels_opened"])))
    return found


def _unscored(told: Sequence[tuple[Cell, int, int]]) -> list[Missing]:
    reason = "no unlabelled case has a label"
    return [
        Missing(cell.arm, cell.axes, cell.seed, reason) for cell, bare, scored in told if bare and not scored
    ]


def _without_label(told: Sequence[tuple[Cell, int, int]]) -> list[str]:
    """A sentence for each number of unlabelled cases that no label is there for."""
    counts = dict.fromkeys((bare, bare + scored) for _, bare, scored in told if bare)
    said = "unlabelled cases have no label: their pseudo-labels are trained on, and cannot be scored"
    return [f"{bare} of {total} {said}" for bare, total in counts]


def _counted(experiment: Experiment, cell: Cell) -> Counted:
    """Parameters of the cell's models and the time of a prediction, and why they are not known where they are
    not."""
    last = "retrain" if "retrain" in cell.nodes else "finetune"
    tuned, last_model = artefact_of(experiment, cell, "finetune"), artefact_of(experiment, cell, last)
    counts = None if tuned is None else tuned.read_json("model.json")
    predicts = None if last_model is None else last_model.read_json("model.json")
    role = result_role(cell)
    predicted = artefact_of(experiment, cell, role)
    took = [] if predicted is None else list(predicted.read_json("index.json")["seconds_per_case"].values())
    return Counted(
        cell.arm,
        cell.axes,
        cell.seed,
        cell.id,
        finetune=None if counts is None else (counts["trainable"], counts["total"]),
        predicts=None if predicts is None else predicts["parameters" if last == "retrain" else "total"],
        why_finetune="" if counts else _why_not(experiment, cell, "finetune"),
        why_predicts="" if predicts else _why_not(experiment, cell, last),
        size=size_of(cell),
        nodes=[f"{part.stage}/{part.key}" for part in (tuned, last_model) if part is not None],
        seconds=sum(took) / len(took) if took else None,
        why_seconds="" if took else _why_not(experiment, cell, role),
        device="" if predicted is None else str(predicted.record.get("device", "")),
    )


def _why_not(experiment: Experiment, cell: Cell, role: str) -> str:
    """Why a stage of a cell has no result: itself, or one before it."""
    if is_external(cell):
        return "another tool's results: label maps alone are here"
    if role not in cell.nodes:
        if interact.STAGE in cell.nodes:
            return "a pretrained model that is prompted as it is"
        return "this arm does not predict" if role == "predict" else "this arm does not fine-tune"
    store, order = experiment.store, list(cell.nodes)
    for before in order[: order.index(role) + 1]:
        link = cell.nodes[before]
        reason = None if store.has(*link) else _failure(store, link)
        if reason is not None:
            return f"{before} failed: {reason.splitlines()[0]}"
    return "not run yet"


def _failure(store: Store, link: Link) -> str | None:
    """Why a node failed, without the names of folders: reports are sent away."""
    reason = store.failure(*link)
    return None if reason is None else without_places(reason)


def _failures(experiment: Experiment) -> list[Failure]:
    store, seen = experiment.store, {}
    for cell in experiment.plan.cells:
        for link in cell.nodes.values():
            reason = None if store.has(*link) else _failure(store, link)
            if reason is not None and link not in seen:
                log = store.failure_folder(*link).relative_to(store.root.parent) / "log.txt"
                seen[link] = Failure(cell.title, link[0], reason, f"{log.as_posix()} in the workspace")
    return list(seen.values())


def _reuse(experiment: Experiment, journal: Mapping[Link, Entry]) -> Reuse:
    plan = experiment.plan
    by_stage: dict[str, Counter[str]] = {}
    lines = []
    for link, node in plan.nodes.items():
        entry = journal.get(link)
        status = entry.status if entry else "not run"
        by_stage.setdefault(node.stage, Counter())[status] += 1
        by_stage[node.stage]["nodes"] += 1
        if entry:
            lines.append(f"{status} {node.stage} {node.key[:8]}  {without_places(entry.reason)}")
    total = Counter(entry.status for link, entry in journal.items() if link in plan.nodes)
    return Reuse(
        cells=len(plan.cells),
        nodes=len(plan.nodes),
        naive_nodes=plan.naive_nodes,
        reused=total["reused"],
        ran=total["ran"],
        failed=total["failed"] + total["blocked"],
        by_stage=by_stage,
        lines=lines,
    )


def _provenance(experiment: Experiment) -> dict[str, Any]:
    spec, store = experiment.plan.spec, experiment.store
    known = {link: node for link, node in experiment.plan.nodes.items() if store.has(*link)}
    records = {link: store.get(*link).record for link in known}
    return {
        "spec": spec.document.path.name,
        "spec_sha256": spec.document.sha256,
        "set": list(spec.overridden),
        "git_now": git_state(),
        "cells": {
            cell.id: {"arm": cell.arm, "label": cell.label, "axes": cell.axes, "seed": cell.seed}
            | {"score": cell.score}
            for cell in experiment.plan.cells
        },
        "nodes": {
            cell.id: {role: f"{stage}/{key}" for role, (stage, key) in cell.nodes.items()}
            for cell in experiment.plan.cells
        },
        "records": {
            "/".join(link): {
                "inputs": ["/".join(source) for source in node.inputs.values()],
                "version": (records[link].get("environment") or {}).get("sfrbench"),
                **{name: records[link].get(name) for name in ("git", "started", "seconds", "device")},
            }
            for link, node in known.items()
        },
    }
