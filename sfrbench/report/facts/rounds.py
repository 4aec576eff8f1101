"""The rounds of SFR+: confidence of every unlabelled case, and which cases were confident."""

from __future__ import annotations

import csv
from typing import cast

import numpy as np

from sfrbench.components.base import Selector
from sfrbench.report.facts.info import Round
from sfrbench.run.experiment import Experiment
from sfrbench.stages.roles import in_round

ONLINE = "pseudo: online: SAM labels each crop as re-training asks for it, and nothing is stored to score"


def rounds_of(experiment: Experiment) -> list[Round]:
    """Every round whose confidences and whose update of SAM are in the store."""
    store, rounds = experiment.store, []
    for cell in experiment.plan.cells:
        if "selector" not in cell.components:
            continue
        selector = cast(Selector, cell.components["selector"].component)
        for number_ in range(1, selector.rounds + 1):
            select, tune = (cell.nodes.get(in_round(stage, number_)) for stage in ("select", "finetune"))
            if select is None or tune is None or not (store.has(*select) and store.has(*tune)):
                continue
            with store.get(*select).path("confidence.csv").open(encoding="utf-8", newline="") as stream:
                confidence = {row["case"]: float(row[selector.over]) for row in csv.DictReader(stream)}
            chosen = store.get(*tune).record["notes"]["selection"]
            rounds.append(
                Round(
                    cell.arm,
                    cell.axes,
                    cell.seed,
                    cell.id,
                    number_,
                    float(chosen["threshold"]),
                    confidence,
                    frozenset(chosen["confident"]),
                    select[1],
                    selector.both,
                    selector.unit == "crop" and bool(np.isfinite(float(chosen["threshold"]))),
                    in_round("pseudolabel", number_) not in cell.nodes,
                    selector.labels_all,
                )
            )
    return rounds
