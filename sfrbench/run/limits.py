"""Refuses a run that would take more time or disk than it may, before its first node."""

from __future__ import annotations

from sfrbench.errors import NotReadyError, Problem
from sfrbench.files.units import duration, size
from sfrbench.plan.schedule import inputs_of, makespan
from sfrbench.run.experiment import Experiment
from sfrbench.run.forecast import HOWS
from sfrbench.run.summary import Sum, free_bytes, sums_of, total_of

#: How far a forecast must be beyond the free space for a run to be refused.
CLEARLY = 1.1


def check_limits(
    experiment: Experiment, hours: float | None, disk: int | None, workers: int = 1
) -> list[str]:
    """Raises ``NotReadyError`` where what is to run is forecast to take more than ``hours`` on ``workers``,
    or to keep more than ``disk`` bytes; without ``disk``, clearly more than is free. Unknown parts refuse
    nothing: returns a line for each limit that does not cover some."""
    todo = experiment.left()
    if not todo:
        return []
    forecast = experiment.forecast(workers=workers)
    total = total_of(sums_of(forecast, todo))
    problems = []
    if hours is not None:
        seconds = {link: forecast.seconds(link) or 0.0 for link in todo}
        needed = makespan(inputs_of(todo), seconds, workers)
        if needed > hours * 3600:
            shared = f" on {workers} workers" if workers > 1 else ""
            what = f"{len(todo)} nodes take about {duration(needed)}{shared} on {forecast.target.told}"
            hint = "allow more hours, run fewer cells (--set seeds=[0]), or take more workers; see 'plan'"
            problems.append(Problem(f"--max-hours {hours:g}", f"{what} ({told(total, 'time')})", hint))
    free = free_bytes(experiment.machine.workspace)
    what = f"{len(todo)} nodes keep about {size(total.bytes)} ({told(total, 'disk')})"
    if disk is not None and total.bytes > disk:
        hint = "allow more, or run fewer cells (--set seeds=[0]); 'plan' says which stage keeps how much"
        problems.append(Problem(f"--max-disk {size(disk)}", what, hint))
    elif disk is None and free is not None and total.bytes > CLEARLY * free:
        hint = f"give a --workspace on a larger disk, or insist with --max-disk '{size(1.05 * total.bytes)}'"
        problems.append(Problem("disk", f"{what}, and {size(free)} are free", hint))
    if problems:
        raise NotReadyError.of(problems)
    return _unknown(total, hours is not None, disk is not None)


def told(total: Sum, what: str) -> str:
    """How a sum is known, such as ``12 measured, 3 estimated nodes``."""
    known = total.hows if what == "time" else total.kept
    return ", ".join(f"{known[how]} {how}" for how in HOWS if known[how])


def _unknown(total: Sum, hours: bool, disk: bool) -> list[str]:
    lines = []
    for asked, option, what, known in (
        (hours, "--max-hours", "time", total.hows),
        (disk, "--max-disk", "disk", total.kept),
    ):
        if asked and known["unknown"]:
            lines.append(f"{option} does not cover {known['unknown']} nodes whose {what} is unknown")
    return lines
