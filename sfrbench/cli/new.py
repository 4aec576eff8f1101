"""``sfrbench new``: files to begin with, which work as they are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sfrbench.cli import complete
from sfrbench.cli.common import WRONG, tell
from sfrbench.cli.data import REGISTRY, workspace
from sfrbench.errors import InputError
from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.errors import Problem

KINDS = ("experiment", "ssl", "stitch", "backbone", "finetune", "dataset", "item")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--into", "folder", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="else: here"
)
@click.option(
    "--from",
    "base",
    metavar="SPEC",
    help="of an experiment: what it goes on from",
    shell_complete=complete.specs,
)
@click.option(
    "--data", metavar="NAME", help="of an experiment: another dataset", shell_complete=complete.datasets
)
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
def new(
    kind: str, name: str, folder: Path, base: str | None, data: str | None, registry: Sequence[Path]
) -> None:
    """Write what a new experiment or component begins with, and say how to go on.

    A component (ssl, stitch, backbone, finetune, dataset) is a class, its card and its test; an item of
    reports a class and its test, in a checkout. All of them pass their tests as they are written. Files that
    are there are never touched. Where an experiment inherits faults, it is written, they are told, and the
    exit status is 2.
    """
    from sfrbench.scaffold.writing import write_new

    if kind == "experiment":
        from sfrbench.scaffold.experiment import experiment

        made = experiment(name, base or "quickstart", data, registry, folder)
    else:
        from sfrbench.scaffold.parts import part

        for option, value in (("--from", base), ("--data", data), ("--registry", registry)):
            if value:
                raise InputError("this is for experiments", where=option, hint="leave it out")
        made = part(kind, name, folder)
    write_new(folder, made.files)
    wide = max(map(len, made.told))
    echo("written:")
    for path, what in made.told.items():
        echo(f"  {path:<{wide}}  {what}")
    for note in made.notes:
        echo(f"note: {note}")
    echo("go on with:")
    if folder != Path():
        echo(f"  cd {shlex.quote(str(folder))}", fold=False)
    for command in made.commands:
        echo(f"  {command}", fold=False)
    faults = _faults(folder / f"{name}.yaml", registry) if kind == "experiment" else []
    if faults:
        echo("it is not sound yet; mend this first:", err=True)
        tell(faults)
        sys.exit(WRONG)


def _faults(spec: Path, registry: Sequence[Path]) -> list[Problem]:
    """What is wrong with a specification in the profiles in which it is tried first."""
    from sfrbench.machine.needs import Machine
    from sfrbench.report.items import kinds
    from sfrbench.run.experiment import open_experiment

    found: dict[Problem, None] = {}
    for profile in ("cpu", "smoke"):
        try:
            open_experiment(str(spec), profile, Machine(workspace()), items=kinds(), registry=registry)
        except InputError as error:
            found |= dict.fromkeys(error.problems)
    return list(found)
