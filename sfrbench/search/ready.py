"""What a search finds out before its first trial: whether all is here, and on which device trials run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sfrbench.errors import NotReadyError
from sfrbench.run.devices import slow_note
from sfrbench.run.executors.choice import Chosen, How, choose
from sfrbench.run.experiment import Experiment
from sfrbench.search.studies import sample_plan


@dataclass(frozen=True)
class Ready:
    """The experiment on the device that its trials have here, and the executor of its workers."""

    experiment: Experiment
    chosen: Chosen
    notes: Sequence[str]


def ready(experiment: Experiment, how: How) -> Ready:
    """Raises ``NotReadyError`` with all that this machine lacks."""
    machine, profile = experiment.machine, experiment.plan.spec.profile
    missing = machine.lacks(experiment.plan)
    try:
        chosen = choose(how, machine, profile.name if profile.needs_gpu else "")
    except NotReadyError as error:
        raise NotReadyError.of([*missing, *error.problems]) from error
    if missing:
        raise NotReadyError.of(missing)
    slow = slow_note(replace(experiment, plan=sample_plan(experiment)), what="a trial")
    return Ready(replace(experiment, machine=chosen.machine), chosen, [*chosen.notes, slow])
