"""Cells whose predictions are equal: a switch that was meant to change something did not."""

from __future__ import annotations

import hashlib

from sfrbench.plan.graph import Link
from sfrbench.results.predicted import result_role
from sfrbench.run.experiment import Experiment


def equal_predictions(experiment: Experiment) -> list[str]:
    """Arms whose label maps are equal to the bit although their nodes differ."""
    store = experiment.store
    groups: dict[tuple[int, str], dict[Link, str]] = {}
    for cell in experiment.plan.cells:
        link = cell.nodes.get(result_role(cell))
        if link is not None and store.has(*link):
            files = store.get(*link).record["files"]
            marks = sorted(
                (name, entry["sha256"]) for name, entry in files.items() if name.endswith((".npy", ".npz"))
            )
            mark = hashlib.sha256(repr(marks).encode()).hexdigest()
            groups.setdefault((cell.seed, mark), {}).setdefault(link, cell.title)
    return [
        f"{' = '.join(links.values())}: the predictions are equal to the bit"
        for links in groups.values()
        if len(links) > 1
    ]
