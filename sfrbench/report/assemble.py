"""The report of an experiment from what is in its store. Runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sfrbench.components.base import Dataset
from sfrbench.engine.volumes import EVALUATE, Volumes, harden, split_of
from sfrbench.files.atomic import sha256_of
from sfrbench.files.private import without_places
from sfrbench.machine.needs import environment, git_state
from sfrbench.plan.build import Cell
from sfrbench.plan.graph import Link
from sfrbench.report.canvases import collect as collect_canvases
from sfrbench.report.equal import equal_predictions
from sfrbench.report.features import collect as collect_features
from sfrbench.report.frame import load_frame
from sfrbench.report.info import Counted, Failure, Missing, ReportInfo, Reuse
from sfrbench.report.protocols import mixed, protocols_of
from sfrbench.report.published import size_of
from sfrbench.report.round_labels import ONLINE
from sfrbench.report.rounds import collect
from sfrbench.report.setups import setups_of
from sfrbench.run.experiment import Entry, Experiment
from sfrbench.search.studies import read_study
from sfrbench.stages.retrain import recipe as retrain
from sfrbench.store.store import Artefact, Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sfrbench.plan.study import Study
    from sfrbench.report.montage import MontageCase

__all__ = ["load_frame", "write_report"]


def write_report(experiment: Experiment, out: Path, storage: str | None = None) -> Path:
    """Write tables, figures, page and provenance into ``out``; returns the page. ``storage`` is the database
    of studies, where it is not the workspace's."""
    from sfrbench.report.build import build_report

    frame = load_frame(experiment)
    return build_report(frame, info_of(experiment, read_study(experiment, storage)), out)[0]


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
        items=[item.model_dump(exclude_unset=True) for item in spec.report],
        description=spec.description,
        paper=spec.paper,
        protocol_fields=next(iter(protocols.values())),
        protocols=protocols if len(protocols) > 1 else {},
        axes=spec.told,
        pseudo_arms=list({cell.arm: None for cell in plan.cells if "evaluate_pseudo" in cell.nodes}),
        missing=_missing(experiment),
        unscored=[*_online(experiment), *_unscored(pseudo)],
        rounds=collect(experiment),
        setups=setups_of(plan, experiment.catalog),
        features=collect_features(experiment),
        counted=[_counted(experiment, cell) for cell in plan.cells],
        excluded=plan.excluded,
        swaps=plan.swaps(),
        failures=_failures(experiment),
        flags=[*mixed(protocols), *plan.no_ops(), *equal_predictions(experiment), *_without_label(pseudo)],
        reuse=_reuse(experiment, journal),
        montage=_montage(experiment),
        canvases=collect_canvases(experiment),
        environment=environment(),
        provenance=_provenance(experiment),
        searched=spec.search is not None,
        study=study,
    )


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
        scored = _artefact(experiment, cell, "evaluate_pseudo")
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
    tuned, last_model = _artefact(experiment, cell, "finetune"), _artefact(experiment, cell, last)
    counts = None if tuned is None else tuned.read_json("model.json")
    predicts = None if last_model is None else last_model.read_json("model.json")
    predicted = _artefact(experiment, cell, "predict")
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
        why_seconds="" if took else _why_not(experiment, cell, "predict"),
        device="" if predicted is None else str(predicted.record.get("device", "")),
    )


def _why_not(experiment: Experiment, cell: Cell, role: str) -> str:
    """Why a stage of a cell has no result: itself, or one before it."""
    if role not in cell.nodes:
        return "this arm does not predict" if role == "predict" else "this arm does not fine-tune"
    store, roles = experiment.store, list(cell.nodes)
    for before in roles[: roles.index(role) + 1]:
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
    return {
        "spec": spec.document.path.name,
        "spec_sha256": sha256_of(spec.document.path),
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
                **{
                    name: store.get(*link).record.get(name)
                    for name in ("git", "started", "seconds", "device")
                },
            }
            for link, node in known.items()
        },
    }


def _montage(experiment: Experiment) -> Callable[[str, str, str], MontageCase | None]:
    """Gives the volumes of one cell and case, where the store has them."""
    cells = {cell.id: cell for cell in experiment.plan.cells}
    opened: dict[Link, Volumes] = {}

    def case_of(cell_id: str, case: str, subset: str) -> MontageCase | None:
        from sfrbench.report.montage import MontageCase

        cell, store = cells[cell_id], experiment.store
        if not store.has(*cell.nodes["prepare"]):
            return None
        link = cell.nodes["prepare"]
        if link not in opened:
            opened[link] = Volumes(store.get(*link))
        volumes = opened[link]
        labels = volumes.labels([case], f"{EVALUATE}: picture")
        predicted = None if subset.startswith("unlabelled") else _artefact(experiment, cell, "predict")
        _, in_round, number = subset.partition("unlabelled round ")
        role = f"pseudolabel_{number}" if in_round else "pseudolabel"
        pseudo = _artefact(experiment, cell, role) if case in _unlabelled(cell, volumes) else None
        return MontageCase(
            image=lambda: volumes.image(case),
            truth=lambda: labels[case],
            prediction=None if predicted is None else lambda: _load(predicted, f"labels/{case}.npy"),
            pseudo=None
            if pseudo is None
            else lambda: harden(_load(pseudo, f"probs/{case}.npy"), len(volumes.classes)),
            spacing=volumes.case(case).spacing,
        )

    return case_of


def _unlabelled(cell: Cell, volumes: Volumes) -> tuple[str, ...]:
    data = cast(Dataset, cell.components["dataset"].component)
    return split_of(data, volumes).unlabelled


def _artefact(experiment: Experiment, cell: Cell, role: str) -> Artefact | None:
    link = cell.nodes.get(role)
    return experiment.store.get(*link) if link is not None and experiment.store.has(*link) else None


def _load(artefact: Artefact, name: str) -> NDArray[Any]:
    import numpy as np

    return cast("NDArray[Any]", np.load(artefact.path(name), mmap_mode="r", allow_pickle=False))
