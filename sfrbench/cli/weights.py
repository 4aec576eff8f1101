"""The commands that look after weights."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sfrbench.cli import complete
from sfrbench.files.terminal import echo


def register(weights: click.Group) -> None:
    """Hang the commands on the command line."""
    for command in (weights_list, weights_get, weights_add, weights_remove, weights_check):
        weights.add_command(command)


@click.command("list")
def weights_list() -> None:
    """Weight files, their licence, and whether they are here."""
    from sfrbench.places import weights

    for entry in weights.listing():
        echo(entry)


@click.command("get")
@click.argument("name", shell_complete=complete.fetched)
def weights_get(name: str) -> None:
    """Fetch weight file NAME where that can be done, and verify it."""
    from sfrbench.places import weights

    echo(f"{name}: {weights.get(name)}")


@click.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--link", is_flag=True, help="Link to FILE where it is; without, it is copied.")
def weights_add(name: str, file: Path, link: bool) -> None:
    """Take weight FILE of your own into the folder of weights, as NAME.

    FILE is a checkpoint in segment-anything's layout (.pth, .pt, .safetensors): a state dict, or one under
    'model' or 'state_dict'. Nothing in it is run. Its hash is kept and is part of every key; a specification
    then says foundation: {name: sam_vit_b, checkpoint: NAME}.
    """
    from sfrbench.machine import own_weights

    for line in own_weights.add(name, file.expanduser(), link=link):
        echo(line)


@click.command("remove")
@click.argument("name", shell_complete=complete.added)
def weights_remove(name: str) -> None:
    """Delete weight file NAME, which was added; of a link only the link. Results stay."""
    from sfrbench.machine import own_weights

    echo(f"{name}: removed from {own_weights.remove(name)}")


@click.command("check")
@click.argument("name", required=False, shell_complete=complete.weights)
def weights_check(name: str | None) -> None:
    """Verify the weight files that are here (or file NAME) by size and hash."""
    from sfrbench.errors import SfrbenchError
    from sfrbench.machine import own_weights
    from sfrbench.places import weights

    bad = False
    for each in [name] if name else list(weights.known()):
        try:
            if not weights.entry(each).sha256:
                echo(f"{each}: {own_weights.unpublished(each)}")
                continue
            path = weights.check(each)
            echo(f"{each}: {'no hash is known' if weights.is_in_folder(path) else 'sound'}, {path}")
        except SfrbenchError as error:
            bad = bad or name is not None
            echo(f"{each}: {error}")
    sys.exit(1 if bad else 0)
