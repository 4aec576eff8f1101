"""A study and its trials as runs of MLflow."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sfrbench.plan.study import Study, Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000  # metrics in one request, MLflow's limit


def study_run(client: MlflowClient, experiment: str, study: Study) -> str:
    runs = client.search_runs([experiment], f"tags.`sfrbench.study` = '{study.name}'", max_results=1)
    if runs and runs[0].info.status == "FINISHED":
        return str(runs[0].info.run_id)
    for half in runs:  # its process was killed, or its server went away
        client.delete_run(half.info.run_id)
    tags = {
        "sfrbench.role": "study",
        "sfrbench.study": study.name,
        "mlflow.runName": study.name,
        "sfrbench.sampler": f"{study.sampler}, pruner {study.pruner}, optuna {study.optuna}",
    }
    run_id = str(client.create_run(experiment, tags=tags).info.run_id)
    for path, values in study.space.items():
        client.log_param(run_id, f"space.{path}", str(values.choices or asdict(values))[:6000])
    client.set_terminated(run_id)
    return run_id


def log_trial(client: MlflowClient, experiment: str, parent: str, study: Study, trial: Trial) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    nodes = {
        f"sfrbench.node.{seed}.{role}": link[1]
        for seed, roles in trial.facts.get("nodes", {}).items()
        for role, link in roles.items()
    }
    tags = {
        "mlflow.parentRunId": parent,
        "mlflow.runName": f"trial {trial.number}",
        "sfrbench.role": "trial",
        "sfrbench.trial": str(trial.number),
        "sfrbench.state": trial.state,
        "sfrbench.note": trial.note[:5000],
        **nodes,
    }
    run_id = client.create_run(experiment, tags=tags).info.run_id
    metrics = [Metric("retrain/val_dice", value, now, step) for step, value in trial.curve.items()]
    metrics += [Metric(f"nodes/{name}", trial.facts.get(name, 0), now, 0) for name in ("ran", "reused")]
    if trial.value is not None:
        metrics.append(Metric(f"val/{study.metric}", trial.value, now, 0))
    params = [Param(path, str(value)[:6000]) for path, value in trial.values.items()]
    client.log_batch(run_id, metrics=metrics[:BATCH], params=params)
    client.set_terminated(run_id, {"failed": "FAILED", "pruned": "KILLED"}.get(trial.state, "FINISHED"))
