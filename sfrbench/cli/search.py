"""The command that searches hyper-parameters."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli import complete
from sfrbench.cli.common import (
    FAILED,
    INTERRUPTED,
    common,
    hear_signals,
    open_spec,
    print_notes,
    storage_option,
    tracking_option,
)
from sfrbench.files.terminal import echo
from sfrbench.files.units import counted

if TYPE_CHECKING:
    from sfrbench.plan.study import Study
    from sfrbench.run.experiment import Experiment
    from sfrbench.search.ending import Ending
    from sfrbench.search.options import Options
    from sfrbench.search.ready import Ready
    from sfrbench.search.workers.choice import Executor, Where
    from sfrbench.search.workers.order import Order


class Hours(click.FloatRange):
    """A length of time that ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        hours = float(super().convert(value, param, ctx))
        if not math.isfinite(hours):
            self.fail(f"{value} never ends; give a number of hours, as 0.5", param, ctx)
        return hours


@click.command()
@click.argument("spec", shell_complete=complete.specs)
@common
@storage_option
@click.option(
    "--executor",
    type=click.Choice(("local", "slurm", "ray")),
    default="local",
    show_default=True,
    help="local: processes of this machine; slurm: jobs of a cluster; ray: tasks of a Ray cluster, by "
    "RAY_ADDRESS, or of this machine",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="processes, jobs or tasks, each of which runs trials",
)
@click.option("--detach", is_flag=True, help="submit the jobs and leave; the same command comes back")
@click.option("--trials", type=click.IntRange(min=1), help="budget of the study, instead of the SPEC's")
@click.option("--hours", type=Hours(min=0, min_open=True), help="the same, in hours of trials")
@click.option(
    "--heartbeat",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="SECONDS",
    help="a trial that is silent for three of them is run again by another worker",
)
@tracking_option
@click.option(
    "--write-best", type=click.Path(path_type=Path), metavar="FILE", help="write SPEC with the best values"
)
@click.option("--worker", is_flag=True, hidden=True, help="run trials, and leave the rest to the starter")
@click.option("--within", type=click.Choice(("local", "slurm", "ray")), hidden=True, help="what started it")
@click.option("--job", nargs=2, default=("", ""), hidden=True, help="its job, and the file of its output")
def search(
    spec: str,
    storage: str | None,
    executor: Executor,
    workers: int,
    detach: bool,
    trials: int | None,
    hours: float | None,
    heartbeat: int,
    tracking_uri: str | None,
    write_best: Path | None,
    worker: bool,
    within: Executor | None,
    job: tuple[str, str],
    **options: Any,
) -> None:
    """Search the hyper-parameters that SPEC names under 'search', on validation cases.

    The same command goes on where it was, and is another worker where one runs already; with one --storage
    on several machines, too. Exit status: 0 the budget is spent and there is a best trial, 1 otherwise, 2 the
    input is wrong, 130 interrupted.
    """
    from sfrbench.plan.reasons import earlier
    from sfrbench.search.options import Options
    from sfrbench.search.ready import ready
    from sfrbench.search.studies import search_of
    from sfrbench.search.workers.choice import Where

    where = Where(executor, workers, detach)
    how = Options(storage, tracking_uri, heartbeat, trials, hours, within or "inline", job)
    if within:
        _serve(spec, how, options)
        return
    experiment = open_spec(spec, options)
    search_of(experiment)
    if not worker:
        print_notes([earlier(experiment.store)])
    hear_signals()
    try:
        here = ready(experiment, where.how)
        experiment = here.experiment
        if not worker:
            print_notes(here.notes)
        if where.executor == "local" and workers == 1:
            _work(experiment, how)
        elif not _start(here, where, how, _command(spec, how, options)):
            return
    except KeyboardInterrupt:
        echo("interrupted; the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
    if not worker:
        sys.exit(_finish(experiment, how, write_best))


def _serve(spec: str, how: Options, options: dict[str, Any]) -> None:
    """Run trials for a process that has started this one."""
    from sfrbench.files.children import PARENT, end_with_parent
    from sfrbench.search.ending import Ending
    from sfrbench.search.storage import StudiesRemoved
    from sfrbench.search.workers.order import REMOVED

    ending = Ending()
    try:
        ending.listen()
        end_with_parent(int(os.environ[PARENT]))
        _work(open_spec(spec, options), how, ending)
    except StudiesRemoved:
        sys.exit(REMOVED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _work(experiment: Experiment, how: Options, ending: Ending | None = None) -> None:
    from sfrbench.cli import console
    from sfrbench.search.trials import work

    work(experiment, how, lambda number: console.PlainListener(f"trial {number}  "), console.say, ending)


def _command(spec: str, how: Options, options: dict[str, Any]) -> Order:
    """This command as one worker, but for its device. Its starter writes to MLflow."""
    from sfrbench.search.workers.order import Order

    given = {
        "--profile": options["profile"],
        "--workspace": options["workspace"],
        "--trials": how.trials,
        "--hours": how.hours,
        "--heartbeat": how.heartbeat,
        "--tracking-uri": "none",
    }
    parts = [f"{name}={value}" for name, value in given.items() if value is not None]
    parts += [f"--set={text}" for text in options["sets"]]
    parts += [f"--data={name}={folder}" for name, folder in options["data"].items()]
    parts += [f"--registry={folder}" for folder in options["registry"]]
    return Order(("search", spec, "--worker", *parts), how.storage, Path.cwd())


def _start(here: Ready, where: Where, how: Options, order: Order) -> bool:
    """Have workers spend the budget; returns false where they are left to do that by themselves."""
    from sfrbench.cli import console
    from sfrbench.search.opening import open_study, tracker_of
    from sfrbench.search.options import Budget
    from sfrbench.search.storage import storage_url
    from sfrbench.search.studies import search_of, view
    from sfrbench.search.workers.choice import open_crew
    from sfrbench.search.workers.keep import Progress, keep

    experiment = here.experiment
    print_notes([where.check_studies(storage_url(experiment, how.storage))])
    opened = open_study(experiment, how)
    budget = Budget.of(search_of(experiment), experiment.plan.space, how)
    progress = Progress(experiment, opened, tracker_of(experiment, how))
    if budget.next_step(view(experiment, opened.study)) == "done":
        progress.look(now=True)
        return True
    crew = open_crew(where, here, order, console.say)
    return keep(crew, where, progress, console.say)


def _finish(experiment: Experiment, how: Options, write_best: Path | None) -> int:
    """Say what came out, write the report and the best specification; returns the exit status."""
    from sfrbench.report.build import write_report
    from sfrbench.search.best import write_best_spec
    from sfrbench.search.options import Budget
    from sfrbench.search.studies import read_study, search_of

    study = read_study(experiment, how.storage)
    if study is None:
        echo("no trial was run", err=True)
        return FAILED
    _summary(study)
    echo(f"report: {write_report(experiment, experiment.report_folder, how.storage)}")
    if write_best is not None and study.best is not None:
        echo(f"best values: {write_best_spec(experiment, study, write_best)}")
    budget = Budget.of(search_of(experiment), experiment.plan.space, how)
    whole = budget.next_step(study) == "done"
    if not whole:
        echo("the budget is not spent; the same command goes on from here", err=True)
    return 0 if whole and study.best is not None else FAILED


def _summary(study: Study) -> None:
    counts = ", ".join(
        f"{len(trials)} {state}"
        for state, trials in (
            ("complete", study.of("complete")),
            ("pruned", study.of("pruned")),
            ("failed", study.of("failed")),
            ("run again", study.of("retried")),
        )
    )
    echo(f"study {study.name}: {counts}")
    for trial in study.of("failed"):
        echo(f"FAILED trial {trial.number}: {trial.note}", err=True)
    echo(f"nodes shared: {study.shared} of {study.nodes}")
    best = study.best
    if best is not None and best.value is not None:
        values = ", ".join(f"{path} {value}" for path, value in best.values.items())
        echo(
            f"best trial {best.number}: {study.metric} {best.value:.2f} {study.unit} on "
            f"{counted(best.facts['cases'], 'validation case')}: {values}"
        )
        if study.tie:
            echo(f"warning: {study.tie}")
