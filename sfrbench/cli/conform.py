"""The command that puts cards through the suites of their kind."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from sfrbench.cli import complete
from sfrbench.cli.data import REGISTRY, data_option
from sfrbench.files.terminal import echo
from sfrbench.files.units import counted


@click.command()
@click.argument("names", metavar="[KIND/NAME]...", nargs=-1, shell_complete=complete.cards)
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
@data_option
def conform(names: Sequence[str], registry: Sequence[Path], data: Mapping[str, Path]) -> None:
    """Try what every card of a kind must hold, on the cards named (KIND for all of a kind; none: all).

    A line for each check of each card. Cards that need weights or data that are not here are named and not
    tried. Exit status: 0 nothing is broken, 1 something does not hold, 2 the input is wrong.
    """
    from sfrbench.catalog.cards import Catalog
    from sfrbench.conformance.suites import Examination, chosen

    cards = chosen(Catalog.read(registry), names)
    examination = Examination(data)
    counts: Counter[str] = Counter()
    for card in cards:
        for result in examination.of(card):
            counts[result.status] += 1
            echo(result)
    broken, lacking = counts["does not hold"], counts["not ready here"]
    said = f"{counted(len(cards), 'card')}: {counts['holds']} checks hold, {broken} do not"
    echo(said + (f", {counted(lacking, 'card is', 'cards are')} not ready here" if lacking else ""))
    sys.exit(1 if broken else 0)
