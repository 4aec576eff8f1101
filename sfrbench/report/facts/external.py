"""What is to be said of another tool's label maps: cases without one, and what of them is not scored."""

from __future__ import annotations

from sfrbench.errors import few
from sfrbench.report.facts.volumes import artefact_of
from sfrbench.run.experiment import Experiment
from sfrbench.stages.external import recipe as external


def external_flags(experiment: Experiment) -> list[str]:
    """A sentence for each fault of the arms of other tools that changes how their numbers are read."""
    texts: dict[str, None] = {}
    for cell in experiment.plan.cells:
        artefact = artefact_of(experiment, cell, external.STAGE)
        said = {} if artefact is None else artefact.read_json("index.json")["said"]
        missing = [case for case, one in said.items() if one["missing"]]
        outside = {case: one["outside"] for case, one in said.items() if one["outside"]}
        if missing:
            what = f"{len(missing)} of {len(said)} cases have no label map and count as empty: {few(missing)}"
            texts[f"{cell.label}: {what}"] = None
        if outside:
            count = f"{sum(outside.values())} foreground voxels of {len(outside)} cases"
            where = "lie outside of the part that the volumes are cropped to, and are not scored"
            texts[f"{cell.label}: {count} {where}: {few(list(outside))}"] = None
    return list(texts)
