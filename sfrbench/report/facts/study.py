"""What provenance.json says of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfrbench.report.facts.info import ReportInfo


def provenance_of(info: ReportInfo) -> dict[str, Any] | None:
    """The trials, with the nodes behind each."""
    study = info.study
    if study is None:
        return None
    return {
        "name": study.name,
        "optuna": study.optuna,
        "trials": [
            {
                "number": trial.number,
                "state": trial.state,
                "values": dict(trial.values),
                "value": trial.value,
                "nodes": trial.facts.get("nodes", {}),
            }
            for trial in study.trials
        ],
    }
