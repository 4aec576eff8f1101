"""The command that searches hyper-parameters."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli.common import (
    FAILED,
    INTERRUPTED,
    STORAGE,
    TRACKING,
    common,
    interrupt,
    open_spec,
    print_notes,
    storage_option,
    tracking_option,
)
from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.plan.study import Study
    from sfrbench.run.experiment import Experiment
    from sfrbench.search.trials import Options

PARENT = "SFRBENCH_PARENT"  # tells a worker which process started it
GONE = 3  # status of a worker that found the studies removed: its starter says so, once for all


class Hours(click.FloatRange):
    """A length of time that ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        hours = float(super().convert(value, param, ctx))
        if not math.isfinite(hours):
            self.fail(f"{value} never ends; give a number of hours, as 0.5", param, ctx)
        return hours


@click.command()
@click.argument("spec")
@common
@storage_option
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="processes here")
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
def search(
    spec: str,
    storage: str | None,
    workers: int,
    trials: int | None,
    hours: float | None,
    heartbeat: int,
    tracking_uri: str | None,
    write_best: Path | None,
    worker: bool,
    **options: Any,
) -> None:
    """Search the hyper-parameters that SPEC names under 'search', on validation cases.

    The same command goes on where it was, and is another worker where one runs already; with one --storage
    on several machines, too. Exit status: 0 the budget is spent and there is a best trial, 1 otherwise, 2 the
    input is wrong, 130 interrupted.
    """
    from sfrbench.files.children import end_with_parent
    from sfrbench.plan.reasons import earlier
    from sfrbench.search.ready import ready
    from sfrbench.search.storage import StudiesRemoved
    from sfrbench.search.studies import search_of
    from sfrbench.search.trials import Options

    experiment = open_spec(spec, options)
    search_of(experiment)
    if not worker:
        print_notes([earlier(experiment.store)])
    how = Options(storage, tracking_uri, heartbeat, trials, hours)
    signal.signal(signal.SIGTERM, interrupt)
    started = worker and PARENT in os.environ
    if started:
        end_with_parent(int(os.environ[PARENT]))
    try:
        here = ready(experiment, workers)
        experiment = here.experiment
        if not worker:
            print_notes(here.notes)
        if workers > 1:
            command = _command(spec, how, options, experiment.machine.device)
            _spawn(experiment, _environments(workers, how, here.cards), how, command)
        else:
            _work(experiment, how)
    except StudiesRemoved:
        if started:
            sys.exit(GONE)
        raise
    except KeyboardInterrupt:
        echo("interrupted; the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
    if not worker:
        sys.exit(_finish(experiment, how, write_best))


def _work(experiment: Experiment, how: Options) -> None:
    from sfrbench.cli import console
    from sfrbench.search.trials import work

    work(experiment, how, lambda number: console.PlainListener(f"trial {number}  "), console.say)


def _command(spec: str, how: Options, options: dict[str, Any], device: str) -> list[str]:
    """This command as one worker; addresses go by ``_environments``."""
    given = {
        "--profile": options["profile"],
        "--workspace": options["workspace"],
        "--device": device,
        "--trials": how.trials,
        "--hours": how.hours,
        "--heartbeat": how.heartbeat,
    }
    parts = [f"{name}={value}" for name, value in given.items() if value is not None]
    parts += [f"--set={text}" for text in options["sets"]]
    parts += [f"--data={name}={folder}" for name, folder in options["data"].items()]
    parts += [f"--registry={folder}" for folder in options["registry"]]
    return [sys.executable, "-m", "sfrbench", "search", spec, "--worker", *parts]


def _environments(workers: int, how: Options, cards: Sequence[str]) -> list[dict[str, str]]:
    """What else each worker gets: its share of the cores and a card, who started it, where studies and MLflow
    are."""
    from sfrbench.machine.accelerator import alone

    threads = str(max(1, (os.cpu_count() or 1) // workers))
    addresses = {STORAGE: how.storage or "", TRACKING: how.tracking_uri or ""}
    shared = {"OMP_NUM_THREADS": threads, **os.environ, **addresses, PARENT: str(os.getpid())}
    return [shared | (alone(cards[number % len(cards)]) if cards else {}) for number in range(workers)]


def _spawn(
    experiment: Experiment, environments: Sequence[dict[str, str]], how: Options, command: list[str]
) -> None:
    """Run a worker in each environment and wait for them; one that dies is survived by the others."""
    from sfrbench.search.storage import StudiesRemoved, storage_url

    started = [subprocess.Popen(command, env=environment) for environment in environments]
    try:
        codes = [process.wait() for process in started]
    except KeyboardInterrupt:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
        raise
    if GONE in codes:
        raise StudiesRemoved.at(storage_url(experiment, how.storage))
    for process, code in zip(started, codes, strict=True):
        if code:
            echo(f"worker {process.pid} ended with status {code}", err=True)


def _finish(experiment: Experiment, how: Options, write_best: Path | None) -> int:
    """Say what came out, write the report and the best specification; returns the exit status."""
    from sfrbench.report.build import write_report
    from sfrbench.search.best import write_best_spec
    from sfrbench.search.studies import read_study, search_of
    from sfrbench.search.trials import Budget

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
            f"{best.facts['cases']} validation cases: {values}"
        )
