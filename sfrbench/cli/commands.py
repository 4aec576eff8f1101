"""The command line: parses, calls, prints. Everything else is elsewhere."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sfrbench.cli import compare as compare_command
from sfrbench.cli import conform as conform_command
from sfrbench.cli import data as data_commands
from sfrbench.cli import deploy, machine
from sfrbench.cli import plan as plan_commands
from sfrbench.cli import search as search_command
from sfrbench.cli import trace as trace_command
from sfrbench.cli.common import (
    FAILED,
    INTERRUPTED,
    common,
    fail,
    interrupt,
    open_spec,
    print_damage,
    print_note,
    storage_option,
    tracking_option,
)
from sfrbench.cli.data import REGISTRY
from sfrbench.cli.plan import print_changes, print_notes, print_plan, print_warnings
from sfrbench.errors import InputError, SfrbenchError, problem_of, short_of
from sfrbench.files.terminal import clean_log, echo
from sfrbench.version import __version__

if TYPE_CHECKING:
    from sfrbench.run.executors.inline import Outcomes
    from sfrbench.run.experiment import Experiment


class _Commands(click.Group):
    """Turns the errors that a user can cause into one message and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        try:
            clean_log()
            # not standalone: click would print what was typed as it is
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except (click.Abort, KeyboardInterrupt):  # the first, a RuntimeError, is click's word for Ctrl-C
            echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            said = io.StringIO()
            if isinstance(error, click.UsageError) and error.ctx is not None:
                error.ctx.color = True  # click would leave out what was typed in colour
            error.show(said)
            echo(said.getvalue(), err=True, end="")
            sys.exit(error.exit_code)
        except SfrbenchError as error:
            fail(error)
        except BrokenPipeError:  # the reader of a pipe went away
            _drop_output()
            sys.exit(FAILED)
        except OSError as error:
            _drop_output()
            fail(InputError.of([problem_of(error)]))
        except Exception as error:  # of a library that wraps what the machine is short of
            short = short_of(error)
            if short is None:
                raise
            fail(InputError.of([short]))


def _drop_output() -> None:
    """What could not be written to the terminal, a pipe or a file is not tried again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sfrbench")
def main() -> None:
    """Ablations and benchmarks for SFR: stitching, fine-tuning, re-training.

    A first try:  sfrbench run quickstart --profile cpu
    """


@main.command()
@click.argument("spec")
@common
@click.option("--executor", type=click.Choice(["inline"]), default="inline", show_default=True)
@tracking_option
@click.option("--dry-run", is_flag=True, help="say what would run, and stop")
def run(spec: str, executor: str, tracking_uri: str | None, dry_run: bool, **options: Any) -> None:
    """Run what is missing of SPEC (a path or a shipped name), then write its report.

    Exit status: 0 all cells done, 1 some failed, 2 the input is wrong, 130 interrupted.
    """
    from sfrbench.cli import console
    from sfrbench.plan.reasons import changed_code, earlier
    from sfrbench.report.build import write_report
    from sfrbench.run.experiment import execute, summary

    experiment = open_spec(spec, options)
    note = earlier(experiment.store)
    if dry_run:
        print_plan(summary(experiment), experiment)
        print_note(note)
        return
    print_changes(experiment)
    print_warnings(experiment.plan.no_ops())
    print_warnings(changed_code(experiment.plan.nodes.values(), experiment.store))
    print_note(note)
    print_notes(experiment.machine.remarks(experiment.plan))
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with console.listener(experiment.plan) as listener:
            outcomes = execute(experiment, listener, tracking_uri)
        bad = _say_outcomes(experiment, outcomes)
        page = write_report(experiment, experiment.report_folder)
    except KeyboardInterrupt:
        echo("interrupted; the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
    echo(f"report: {page}")
    sys.exit(FAILED if bad else 0)


def _say_outcomes(experiment: Experiment, outcomes: Outcomes) -> bool:
    """Say how many nodes ran, and each cell that failed; returns whether one did."""
    counts = ", ".join(
        f"{outcomes.count(status)} {status}" for status in ("ran", "reused", "failed", "blocked")
    )
    echo(f"nodes: {counts}")
    faults = [(cell, outcomes.cell_fault(cell)) for cell in experiment.plan.cells]
    for cell, fault in faults:
        if fault is None:
            continue
        echo(f"FAILED {cell.title}: {fault.node.stage}: {fault.reason}", err=True)
        if fault.log:
            echo(f"    log: {fault.log}", err=True)
    return any(fault is not None for _, fault in faults)


@main.command("list")
@click.argument("kind", required=False)
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
@click.option("--json", "as_json", is_flag=True, help="for programs")
def list_(kind: str | None, registry: Sequence[Path], as_json: bool) -> None:
    """List the components (of one KIND) and the experiments."""
    import json

    from sfrbench.catalog.cards import Catalog
    from sfrbench.components.base import KINDS
    from sfrbench.errors import did_you_mean
    from sfrbench.files.roots import shipped

    if kind is not None and kind not in (*KINDS, "experiment"):
        raise InputError(f"no kind '{kind}'", hint=did_you_mean(kind, (*KINDS, "experiment")))
    catalog = Catalog.read(registry)
    cards = [card for card in catalog.cards() if kind in (None, card.kind)]
    experiments = sorted(path.stem for path in shipped("experiments").glob("*.yaml"))
    if as_json:
        rows = [{"kind": card.kind, "name": card.name, **card.model_dump(mode="json")} for card in cards]
        echo(json.dumps({"roots": [str(root) for root in catalog.roots], "cards": rows}, indent=1))
        return
    echo("cards from " + ", ".join(str(root) for root in catalog.roots))
    for card in cards:
        echo(f"{card.kind + '/' + card.name:<28} {card.summary}")
    if kind in (None, "experiment"):
        echo("experiments: " + ", ".join(experiments))


@main.command()
@click.argument("name", metavar="KIND/NAME")
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
def show(name: str, registry: Sequence[Path]) -> None:
    """Show one card: its fields with defaults and bounds, its citation."""
    from sfrbench.catalog.cards import Catalog
    from sfrbench.cli.text import card_page

    kind, slash, own = name.partition("/")
    if not slash:
        raise InputError(f"'{name}': write KIND/NAME", hint="for example stitch/grid; see 'sfrbench list'")
    card = Catalog.read(registry).card(kind, own)
    problems = card.problems()
    if problems:
        raise InputError.of(problems)
    echo(card_page(card))


@main.command()
@click.argument("spec")
@common
@click.option("--format", "format_", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="file; csv goes to the terminal without it")
@click.option("--labels", type=click.Path(path_type=Path), help="write label maps (NIfTI) here instead")
def results(spec: str, format_: str, out: Path | None, labels: Path | None, **options: Any) -> None:
    """Write the tidy frame of SPEC: one row per cell, case, class and metric."""
    from sfrbench.files.atomic import atomic_file
    from sfrbench.files.sheets import csv_of
    from sfrbench.results.frame import load_frame

    if format_ == "parquet" and out is None and labels is None:
        raise InputError("parquet needs a file", hint="give --out FILE.parquet")
    experiment = open_spec(spec, options)
    if labels is not None:
        from sfrbench.results.labels import write_labels

        echo(f"{write_labels(experiment, labels)} label maps: {labels}")
        print_damage(experiment)
        return
    frame = load_frame(experiment)
    print_damage(experiment)
    if out is None:
        echo(csv_of(frame), end="")
        return
    with atomic_file(out) as file:
        if format_ == "parquet":
            frame.to_parquet(file, index=False)
        else:
            file.write_text(csv_of(frame), encoding="utf-8", newline="")
    echo(f"{len(frame)} rows: {out}")


@main.command()
@click.argument("spec")
@common
@click.option("--out", type=click.Path(path_type=Path), help="folder; default: in the workspace")
@storage_option
@click.option("--notebook", is_flag=True, help="and a notebook of it, executed (needs the extra 'notebook')")
@click.option("--template", type=click.Path(path_type=Path), help="of the notebook; see reports/notebook.py")
def report(
    spec: str, out: Path | None, storage: str | None, notebook: bool, template: Path | None, **options: Any
) -> None:
    """Write the report of SPEC, and of its search, from what is in the store; runs nothing."""
    from sfrbench.report import notebook as notebooks
    from sfrbench.report.build import write_report
    from sfrbench.run.experiment import claim

    if notebook or template:
        notebooks.check_storage(storage)
        notebooks.check_packages()
        notebooks.read_template(template)
    experiment = open_spec(spec, options)
    if out is None:
        claim(experiment)
    folder = out or experiment.report_folder
    print_damage(experiment)
    echo(f"report: {write_report(experiment, folder, storage)}")
    if notebook or template:
        made = notebooks.write_notebook(
            experiment, folder, sets=options["sets"], storage=storage, template=template
        )
        echo(f"notebook: {made}")


@main.command()
@click.argument("spec")
@common
@tracking_option
@click.option("--rebuild", is_flag=True, help="log every finished cell again")
def track(spec: str, tracking_uri: str | None, rebuild: bool, **options: Any) -> None:
    """Log the finished cells of SPEC to MLflow, from the store."""
    from sfrbench.files.urls import masked
    from sfrbench.run.experiment import claim, default_tracking_uri
    from sfrbench.run.tracking.mlflow_log import Tracker

    experiment = open_spec(spec, options)
    claim(experiment)
    uri = tracking_uri or default_tracking_uri(options["workspace"])
    tracker = Tracker(uri, options["workspace"])
    if rebuild:
        tracker.forget(experiment.plan)
    store = experiment.store
    done = [cell for cell in experiment.plan.cells if all(store.has(*link) for link in cell.nodes.values())]
    logged = tracker.log_cells(experiment.plan, store, done, ask=True)
    there = len(done) - logged
    echo(f"{logged} cells logged to {masked(uri)}, {there} were there, {tracker.broken or 'no fault'}")
    sys.exit(FAILED if tracker.broken else 0)


@main.group()
def data() -> None:
    """Where datasets lie, and what is wrong with them."""


@main.group()
def weights() -> None:
    """Where pretrained weights lie, and how to get them."""


data_commands.register(data)
machine.register(main, weights)
main.add_command(search_command.search)
main.add_command(plan_commands.plan)
main.add_command(plan_commands.validate)
main.add_command(conform_command.conform)
main.add_command(trace_command.trace)
main.add_command(compare_command.compare)
main.add_command(deploy.predict)
main.add_command(deploy.export)
