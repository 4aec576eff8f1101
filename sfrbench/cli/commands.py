"""The command line: parses, calls, prints. Everything else is elsewhere."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, NoReturn

import click

from sfrbench.cli import cancel as cancel_command
from sfrbench.cli import cards, complete, deploy, outputs
from sfrbench.cli import clean as clean_command
from sfrbench.cli import compare as compare_command
from sfrbench.cli import conform as conform_command
from sfrbench.cli import data as data_commands
from sfrbench.cli import doctor as doctor_command
from sfrbench.cli import new as new_command
from sfrbench.cli import plan as plan_commands
from sfrbench.cli import run as run_command
from sfrbench.cli import schema as schema_command
from sfrbench.cli import search as search_command
from sfrbench.cli import status as status_command
from sfrbench.cli import trace as trace_command
from sfrbench.cli import weights as weights_commands
from sfrbench.cli.common import (
    FAILED,
    INTERRUPTED,
    fail,
)
from sfrbench.errors import InputError, SfrbenchError, problem_of, short_of
from sfrbench.files.terminal import clean_log, echo
from sfrbench.version import __version__


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


@main.group()
def data() -> None:
    """Where datasets lie, and what is wrong with them."""


@main.group()
def weights() -> None:
    """Where pretrained weights lie, and how to get them."""


data_commands.register(data)
weights_commands.register(weights)
main.add_command(doctor_command.doctor)
main.add_command(cards.list_)
main.add_command(cards.show)
main.add_command(new_command.new)
main.add_command(complete.completion)
main.add_command(schema_command.schema)
main.add_command(run_command.run)
main.add_command(cancel_command.cancel)
main.add_command(outputs.results)
main.add_command(outputs.report)
main.add_command(outputs.track)
main.add_command(status_command.status)
main.add_command(search_command.search)
main.add_command(plan_commands.plan)
main.add_command(plan_commands.validate)
main.add_command(conform_command.conform)
main.add_command(trace_command.trace)
main.add_command(compare_command.compare)
main.add_command(clean_command.clean)
main.add_command(deploy.predict)
main.add_command(deploy.export)
