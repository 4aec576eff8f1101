"""What the commands share: options, exit codes, how a specification is opened and an error is said."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sfrbench.cli import complete
from sfrbench.cli import data as data_commands
from sfrbench.cli.data import REGISTRY
from sfrbench.files.terminal import echo
from sfrbench.files.urls import STORAGE, TRACKING

if TYPE_CHECKING:
    from sfrbench.errors import Problem, SfrbenchError
    from sfrbench.machine.needs import Machine
    from sfrbench.run.experiment import Experiment

FAILED, WRONG, INTERRUPTED = 1, 2, 130
MOST = 100  # problems that are listed

tracking_option = click.option(
    "--tracking-uri",
    envvar=TRACKING,
    help=f"MLflow tracking store; default: ${TRACKING}, or SQLite in the workspace; 'none': off",
)
storage_option = click.option(
    "--storage",
    envvar=STORAGE,
    metavar="URL",
    help=f"database of studies; default: ${STORAGE}, or SQLite in the workspace",
)


def fail(error: SfrbenchError) -> NoReturn:
    """Say everything that is wrong, and end."""
    from sfrbench.errors import NotReadyError

    if isinstance(error, NotReadyError):
        echo("not ready here:", err=True)
    tell(error.problems)
    sys.exit(WRONG)


def tell(problems: Sequence[Problem]) -> None:
    """List problems, but for those that nobody reads any more."""
    for problem in problems[:MOST]:
        echo(problem, err=True)
    if len(problems) > MOST:
        echo(f"and {len(problems) - MOST} more", err=True)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that reads a specification."""
    options = [
        data_commands.profile_option("paper, released, cpu or smoke"),
        click.option(
            "--workspace",
            type=click.Path(path_type=Path),
            default=data_commands.workspace,
            show_default=data_commands.WORKSPACE,
        ),
        click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="override one choice"),
        data_commands.data_option,
        click.option(
            "--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="auto, cpu, cuda[:n] or mps",
            shell_complete=complete.devices,
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def open_spec(spec: str, options: dict[str, Any]) -> Experiment:
    """The experiment that the common options mean."""
    from sfrbench.report.items import kinds
    from sfrbench.run.experiment import open_experiment

    return open_experiment(
        spec,
        options["profile"],
        machine_of(options),
        items=kinds(),
        sets=options["sets"],
        registry=options["registry"],
    )


def machine_of(options: dict[str, Any]) -> Machine:
    """The machine that the common options mean."""
    from sfrbench.machine.needs import Machine

    return Machine(options["workspace"], options["data"], options.get("device", "auto"))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def hear_signals() -> None:
    """Have SIGTERM end the command as Ctrl-C does, and neither of them lost.

    Python drops what is raised inside a callback of its garbage collector, or where an object is deleted, and
    goes on; torch has such a callback. What was dropped there is sent once more.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    others = sys.unraisablehook

    def once_more(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            others(dropped)
            return
        later = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        later.daemon = True
        later.start()

    sys.unraisablehook = once_more


def print_notes(lines: Iterable[str]) -> None:
    """Print what the user should know; an empty line says nothing."""
    for line in filter(None, lines):
        echo(f"note: {line}")


def print_missing(experiments: Iterable[Experiment], *, here: bool = True) -> None:
    """What this machine lacks for experiments, each thing once; not ``here``: others compute."""
    from sfrbench.run.devices import foreseen

    missing: dict[Problem, None] = {}
    notes: dict[str, None] = {}
    for one in experiments:
        refused, said = foreseen(one) if here else ([], [])
        missing |= dict.fromkeys((*one.machine.lacks(one.plan), *refused, *one.machine.lacks_place()))
        notes |= dict.fromkeys(said)
    if missing:
        echo("not ready here:")
    for problem in missing:
        echo(f"  {problem}")
    print_notes(notes)


def print_damage(experiment: Experiment) -> None:
    """Which nodes are left out because files of theirs are missing or damaged."""
    for node in experiment.plan.nodes.values():
        damage = experiment.store.damage(node.stage, node.key)
        if damage:
            told = f"left out: {node.stage} {node.key[:8]}: {damage}; 'sfrbench run' makes it anew"
            echo(told, err=True)
