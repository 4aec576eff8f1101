"""Whether a run has the accelerator that it is for: said beforehand from what is known, without torch."""

from __future__ import annotations

from sfrbench.errors import Problem
from sfrbench.files.units import duration
from sfrbench.machine import accelerator
from sfrbench.machine.refusal import UNTESTED, Wish, refusal
from sfrbench.run.executors.precision import uncompiled
from sfrbench.run.experiment import Experiment
from sfrbench.run.summary import sums_of, total_of


def foreseen(experiment: Experiment) -> tuple[list[Problem], list[str]]:
    """What a run on this machine would be refused for, and notes: by what torch said when it was asked."""
    problems, notes = _accelerator(experiment)
    return [*problems, *_compiler(experiment)], notes


def _compiler(experiment: Experiment) -> list[Problem]:
    """What compiled blocks lack; of a device that only torch could name, nothing is known yet."""
    device, answer = experiment.machine.device, accelerator.kept()
    if device == "auto" and answer is not None:
        device = answer.device(device)
    return [] if device == "auto" else uncompiled(experiment.plan.nodes.values(), device)


def _accelerator(experiment: Experiment) -> tuple[list[Problem], list[str]]:
    wish = Wish(experiment.machine.device, experiment.needing())
    if not wish.insists:
        return [], []
    answer = accelerator.kept()
    if answer is None:
        who = f"profile '{wish.profile}' needs a GPU" if wish.device == "auto" else f"--device {wish.device}"
        return [], [f"{who}: not known yet whether torch sees one here; 'sfrbench doctor' asks it"]
    problem = refusal(answer, wish)
    if problem is not None:
        return [problem], []
    return [], [] if answer.usable and wish.device != "mps" else [UNTESTED]


def slow_note(experiment: Experiment, what: str = "it") -> str:
    """How long ``what`` takes on the processor, which the profile is not for; empty for other profiles."""
    if experiment.machine.device != "cpu" or not experiment.needing():
        return ""
    forecast = experiment.forecast()
    total = total_of(sums_of(forecast, experiment.left()))
    unknown = total.hows["unknown"]
    long = f"about {duration(total.seconds)} on {forecast.target.told}, as 'plan' forecasts"
    if unknown == total.nodes:
        long = "a time that 'plan' cannot forecast"
    elif unknown:
        long += f", and what {unknown} of its {total.nodes} nodes take is unknown"
    return f"profile '{experiment.profile}' is for a GPU; with --device cpu {what} takes {long}"
