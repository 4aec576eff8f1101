"""Samples of the segmenters' features, as their nodes left them."""

from __future__ import annotations

import numpy as np

from sfrbench.report.facts.info import Features
from sfrbench.run.experiment import Experiment


def features_of(experiment: Experiment) -> list[Features]:
    """Every sample of features that the store holds for the cells of an experiment."""
    store, features = experiment.store, []
    for cell in experiment.plan.cells:
        link = cell.nodes.get("features")
        if link is None or not store.has(*link):
            continue
        artefact = store.get(*link)
        index = artefact.read_json("index.json")
        groups = [
            {
                case: (
                    np.load(artefact.path(f"samples/{case}.npy")),
                    np.load(artefact.path(f"counts/{case}.npy")),
                )
                for case in index[group]
            }
            for group in ("labelled", "unlabelled")
        ]
        features.append(Features(cell.arm, cell.axes, cell.seed, cell.id, link[1], index["classes"], *groups))
    return features
