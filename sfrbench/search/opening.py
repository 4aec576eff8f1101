"""Opens the study of an experiment, for who runs its trials and for who starts others that do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfrbench.errors import NotReadyError
from sfrbench.files.databases import Turn
from sfrbench.run.experiment import Experiment, claim, default_tracking_uri
from sfrbench.search.options import Options
from sfrbench.search.storage import faults_of, open_storage, storage_url, turn_of
from sfrbench.search.studies import make_pruner, search_of, study_name, view

if TYPE_CHECKING:
    import optuna
    from filelock import BaseFileLock

    from sfrbench.run.tracking.mlflow_log import Tracker


@dataclass(frozen=True)
class Opened:
    """``turn``: held by the one worker that asks the study for a trial."""

    url: str
    study: optuna.Study
    turn: BaseFileLock | Turn


def open_study(experiment: Experiment, options: Options) -> Opened:
    """The study, made where there is none.

    Raises ``NotReadyError`` where this machine lacks something, ``InputError`` where another specification
    uses the workspace, ``StoreError`` where what is in the database cannot be read.
    """
    from filelock import FileLock

    store, name = experiment.store, study_name(experiment)
    missing = experiment.machine.lacks(experiment.plan)
    if missing:
        raise NotReadyError.of(missing)
    claim(experiment)
    store.open()
    lock = FileLock(store.root / "locks" / f"search-{name}.lock")
    url = storage_url(experiment, options.storage)
    with lock, faults_of(url, reading=True):
        storage = open_storage(url, options.heartbeat)
        study = _study(experiment, name, storage)
        view(experiment, study)  # what was there before can be read
    return Opened(url, study, turn_of(storage, name) or lock)


def tracker_of(experiment: Experiment, options: Options) -> Tracker | None:
    """What logs the study in MLflow, where that is wanted."""
    from sfrbench.run.tracking.mlflow_log import Tracker

    workspace = experiment.machine.workspace
    uri = options.tracking_uri or default_tracking_uri(workspace)
    return Tracker(uri, workspace) if uri != "none" else None


def _study(experiment: Experiment, name: str, storage: optuna.storages.RDBStorage) -> optuna.Study:
    import optuna

    search = search_of(experiment)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize" if search.larger else "minimize",
        load_if_exists=True,
        pruner=make_pruner(experiment),
    )
    if "experiment" not in study.user_attrs:
        spec = experiment.plan.spec
        facts = {"experiment": spec.name, "profile": spec.profile.name, "metric": f"val.{search.metric}"}
        for key, value in {**facts, "arm": search.arm.name, "seeds": list(search.seeds)}.items():
            study.set_user_attr(key, value)
    return study
