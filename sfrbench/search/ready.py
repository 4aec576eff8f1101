"""What a search finds out before its first trial: whether all is here, and on which device trials run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sfrbench.errors import NotReadyError
from sfrbench.run.devices import slow_note
from sfrbench.run.executors.choice import How, choose
from sfrbench.run.experiment import Experiment
from sfrbench.search.studies import reference_plan


@dataclass(frozen=True)
class Ready:
    """The experiment on the device that its trials have here; ``cards`` for several workers to share, as
    CUDA_VISIBLE_DEVICES names them."""

    experiment: Experiment
    cards: Sequence[str]
    notes: Sequence[str]


def ready(experiment: Experiment, workers: int) -> Ready:
    """Raises ``NotReadyError`` with all that this machine lacks."""
    machine, profile = experiment.machine, experiment.plan.spec.profile
    missing = machine.lacks(experiment.plan)
    how = How("local", workers) if workers > 1 else How("inline")
    try:
        chosen = choose(how, machine, profile.name if profile.needs_gpu else "")
    except NotReadyError as error:
        raise NotReadyError.of([*missing, *error.problems]) from error
    if missing:
        raise NotReadyError.of(missing)
    slow = slow_note(replace(experiment, plan=reference_plan(experiment)), what="a trial")
    return Ready(replace(experiment, machine=chosen.machine), chosen.cards, [*chosen.notes, slow])
