"""``sfrbench list`` and ``show``: which components and experiments there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sfrbench.cli.data import REGISTRY
from sfrbench.errors import InputError
from sfrbench.files.terminal import echo


@click.command("list")
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


@click.command()
@click.argument("name", metavar="KIND/NAME")
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
def show(name: str, registry: Sequence[Path]) -> None:
    """Show one card: its fields with defaults and bounds, its citation."""
    from sfrbench.catalog.cards import Catalog
    from sfrbench.cli.text import card_page
    from sfrbench.machine import accelerator
    from sfrbench.machine.refusal import known

    kind, slash, own = name.partition("/")
    if not slash:
        raise InputError(f"'{name}': write KIND/NAME", hint="for example stitch/grid; see 'sfrbench list'")
    card = Catalog.read(registry).card(kind, own)
    problems = card.problems()
    if problems:
        raise InputError.of(problems)
    echo(card_page(card, known(accelerator.kept()) if "gpu" in card.needs else ""))
