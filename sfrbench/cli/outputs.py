"""``sfrbench results``, ``report`` and ``track``: what is made of finished cells; these run nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sfrbench.cli import complete
from sfrbench.cli.common import FAILED, common, open_spec, print_damage, storage_option, tracking_option
from sfrbench.errors import InputError
from sfrbench.files.terminal import echo


@click.command()
@click.argument("spec", shell_complete=complete.specs)
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
        echo(csv_of(frame), end="", fold=False)
        return
    with atomic_file(out) as file:
        if format_ == "parquet":
            frame.to_parquet(file, index=False)
        else:
            file.write_text(csv_of(frame), encoding="utf-8", newline="")
    echo(f"{len(frame)} rows: {out}")


@click.command()
@click.argument("spec", shell_complete=complete.specs)
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


@click.command()
@click.argument("spec", shell_complete=complete.specs)
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
