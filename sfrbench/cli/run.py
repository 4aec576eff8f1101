"""``sfrbench run``: an experiment from its specification to its report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli import complete
from sfrbench.cli.common import (
    FAILED,
    INTERRUPTED,
    common,
    hear_signals,
    open_spec,
    print_missing,
    print_notes,
    tracking_option,
)
from sfrbench.cli.plan import print_changes, print_plan, print_warnings
from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.run.executors.choice import Name
    from sfrbench.run.experiment import Experiment
    from sfrbench.run.outcomes import Outcomes, Status


EXECUTORS = ("inline", "local", "slurm", "ray")


def executor_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where a run runs."""
    options = [
        click.option(
            "--executor",
            type=click.Choice(EXECUTORS),
            help="inline: this process; local: several (the default where more GPUs than one are seen); "
            "slurm: jobs of a cluster; ray: tasks of a Ray cluster, by RAY_ADDRESS, or of this machine",
        ),
        click.option(
            "--workers", type=click.IntRange(min=1), metavar="N", help="processes; more than 1: local"
        ),
        click.option("--gpus", default="", metavar="0,2", help="cards to use, one process each"),
        click.option("--detach", is_flag=True, help="submit the jobs and leave; the same command comes back"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _size(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    from sfrbench.files.units import bytes_of

    found = None if value is None else bytes_of(value)
    if value is not None and found is None:
        raise click.BadParameter(f"'{value}' is no size; write it as in 200GB or 1.5TB", context, option)
    return found


def limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a run may take."""
    hours = click.FloatRange(min=0, min_open=True)
    told = "refuse to start what is forecast to take longer, as 'plan' says it"
    more = "refuse to start what is forecast to keep more; else what clearly exceeds the free space"
    function = click.option("--max-disk", callback=_size, metavar="SIZE", help=more)(function)
    return click.option("--max-hours", type=hours, metavar="H", help=told)(function)


@click.command()
@click.argument("spec", shell_complete=complete.specs)
@common
@tracking_option
@click.option("--dry-run", is_flag=True, help="say what would run, and stop")
@limit_options
@executor_options
def run(
    spec: str,
    tracking_uri: str | None,
    dry_run: bool,
    max_hours: float | None,
    max_disk: int | None,
    executor: Name | None,
    workers: int | None,
    gpus: str,
    detach: bool,
    **options: Any,
) -> None:
    """Run what is missing of SPEC (a path or a shipped name), then write its report.

    Exit status: 0 all cells done, 1 some failed, 2 the input is wrong, 130 interrupted.
    """
    from sfrbench.cli import console
    from sfrbench.plan.reasons import changed_code, earlier
    from sfrbench.report.build import replaced_note, write_report
    from sfrbench.run.devices import slow_note
    from sfrbench.run.executors.choice import How, computes_here
    from sfrbench.run.experiment import execute
    from sfrbench.run.limits import check_limits
    from sfrbench.run.summary import summary

    how = How(executor, workers, tuple(part.strip() for part in gpus.split(",") if part.strip()), detach)
    at_once = workers or max(len(how.gpus), 1)
    experiment = open_spec(spec, options)
    note = earlier(experiment.store)
    if dry_run:
        print_plan(summary(experiment), experiment)
        print_missing([experiment], here=computes_here(how))
        print_notes([note])
        if max_hours is not None or max_disk is not None:
            print_notes(check_limits(experiment, max_hours, max_disk, at_once))
        return
    print_changes(experiment)
    print_warnings(experiment.plan.no_ops())
    print_warnings(changed_code(experiment.plan.nodes.values(), experiment.store))
    print_notes([note, *experiment.machine.remarks(experiment.plan)])
    print_notes([slow_note(experiment), replaced_note(experiment)])
    print_notes(check_limits(experiment, max_hours, max_disk, at_once))
    hear_signals()
    try:
        with console.listener(experiment.plan) as listener:
            outcomes = execute(experiment, listener, tracking_uri, how)
        if len(outcomes.by_link) < len(experiment.plan.nodes) and detach:
            echo("the jobs go on by themselves; 'sfrbench status' shows them, this command comes back")
            sys.exit(0)
        bad = _say_outcomes(experiment, outcomes)
        page = write_report(experiment, experiment.report_folder)
    except KeyboardInterrupt:
        echo("interrupted; the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
    echo(f"report: {page}")
    sys.exit(FAILED if bad else 0)


def _say_outcomes(experiment: Experiment, outcomes: Outcomes) -> bool:
    """Say how many nodes ran, and which cells failed, by reason; returns whether one did."""
    statuses: tuple[Status, ...] = ("ran", "reused", "elsewhere", "failed", "blocked")
    counts = {status: outcomes.count(status) for status in statuses}
    told = [f"{count} {status}" for status, count in counts.items() if count or status != "elsewhere"]
    echo(f"nodes: {', '.join(told)}")
    failed: dict[str, list[tuple[str, str]]] = {}
    for cell in experiment.plan.cells:
        if fault := outcomes.cell_fault(cell):
            failed.setdefault(f"{fault.node.stage}: {fault.reason}", []).append((cell.title, fault.log))
    for why, cells in failed.items():
        titles, logs = zip(*cells, strict=True)
        one = len(titles) == 1
        echo(f"FAILED {titles[0] if one else f'{len(titles)} cells'}: {why}", err=True)
        if not one:
            echo(f"    {', '.join(titles)}", err=True)
        for log in dict.fromkeys(filter(None, logs)):
            echo(f"    log: {log}", err=True)
    return bool(failed)
