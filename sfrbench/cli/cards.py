"""``sfrbench list`` and ``show``: which components and experiments there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sfrbench.cli import complete
from sfrbench.cli.data import REGISTRY, profile_option
from sfrbench.errors import InputError
from sfrbench.files.terminal import echo
from sfrbench.spec.shipped import ENDINGS


@click.command("list")
@click.argument("words", nargs=-1, metavar="[KIND|WORD]...", shell_complete=complete.kinds)
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
@click.option("--json", "as_json", is_flag=True, help="for programs")
def list_(words: Sequence[str], registry: Sequence[Path], as_json: bool) -> None:
    """List components and experiments: all, those of a KIND, or those with a WORD in name, label or summary.

    A table on a terminal; a line for each, to be searched, where the output goes elsewhere.
    """
    import json

    from sfrbench.catalog.cards import Catalog
    from sfrbench.cli import listing

    catalog = Catalog.read(registry)
    found = listing.chosen(listing.entries(catalog.cards()), words)
    if not as_json:
        listing.show(found, catalog.roots)
        return
    own = {(entry.kind, entry.name) for entry in found}
    cards = [card for card in catalog.cards() if (card.kind, card.name) in own]
    rows = [{"kind": card.kind, "name": card.name, **card.model_dump(mode="json")} for card in cards]
    echo(json.dumps({"roots": [str(root) for root in catalog.roots], "cards": rows}, indent=1), fold=False)


@click.command()
@click.argument("name", metavar="KIND/NAME|SPEC", shell_complete=complete.shown)
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
@profile_option("of an experiment")
@click.option("--resolved", is_flag=True, help="an experiment whole, as YAML, with where each value stands")
def show(name: str, registry: Sequence[Path], profile: str, resolved: bool) -> None:
    """Show one card: its fields with defaults and bounds, its citation; or one experiment.

    An experiment is experiment/NAME, or the path of a specification.
    """
    kind, slash, own = name.partition("/")
    if name.endswith(ENDINGS) or kind == "experiment":
        _show_experiment(
            own if kind == "experiment" and not Path(name).is_file() else name, profile, resolved
        )
        return
    if not slash:
        hint = "for example stitch/grid, or experiment/quickstart; see 'sfrbench list'"
        raise InputError(f"'{name}': write KIND/NAME", hint=hint)
    if resolved:
        raise InputError("this is for experiments", where="--resolved", hint="leave it out")
    _show_card(kind, own, registry)


def _show_card(kind: str, name: str, registry: Sequence[Path]) -> None:
    from sfrbench.catalog.cards import Catalog
    from sfrbench.cli.text import card_page
    from sfrbench.machine import accelerator
    from sfrbench.machine.refusal import known

    card = Catalog.read(registry).card(kind, name)
    problems = card.problems()
    if problems:
        raise InputError.of(problems)
    echo(card_page(card, known(accelerator.kept()) if "gpu" in card.needs else ""))


def _show_experiment(spec: str, profile: str, resolved: bool) -> None:
    from sfrbench.cli.spec_page import resolved_page, spec_page
    from sfrbench.report.items import kinds
    from sfrbench.spec.extends import load_spec, locate
    from sfrbench.spec.reader import read_spec

    if resolved:
        echo(resolved_page(load_spec(locate(spec))), end="", fold=False)
        return
    read = read_spec(locate(spec), profile, items=kinds())
    if read.problems:
        raise InputError.of(read.problems)
    echo(spec_page(read))
