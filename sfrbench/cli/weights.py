"""The commands that look after weights."""

from __future__ import annotations

import sys

import click

from sfrbench.files.terminal import echo


def register(weights: click.Group) -> None:
    """Hang the commands on the command line."""
    for command in (weights_list, weights_get, weights_check):
        weights.add_command(command)


@click.command("list")
def weights_list() -> None:
    """Weight files, their licence, and whether they are here."""
    from sfrbench.places import weights

    for entry in weights.listing():
        echo(entry)


@click.command("get")
@click.argument("name")
def weights_get(name: str) -> None:
    """Fetch weight file NAME where that can be done, and verify it."""
    from sfrbench.places import weights

    echo(f"{name}: {weights.get(name)}")


@click.command("check")
@click.argument("name", required=False)
def weights_check(name: str | None) -> None:
    """Verify the weight files that are here (or file NAME) by size and hash."""
    from sfrbench.errors import SfrbenchError
    from sfrbench.places import weights
    from sfrbench.places.weight_files import CATALOGUE

    bad = False
    for each in [name] if name else list(CATALOGUE):
        try:
            path = weights.check(each)
            echo(f"{each}: {'no hash is known' if weights.is_in_folder(path) else 'sound'}, {path}")
        except SfrbenchError as error:
            bad = bad or name is not None
            echo(f"{each}: {error}")
    sys.exit(1 if bad else 0)
