"""``sfrbench schema``: what may stand in a YAML file, for editors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sfrbench.cli.data import REGISTRY
from sfrbench.files.terminal import echo

WHAT = ("spec", "card", "dataset", "config")


@click.command()
@click.argument("what", type=click.Choice(WHAT), default="spec")
@click.option("--registry", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help=REGISTRY)
def schema(what: str, registry: Sequence[Path]) -> None:
    """Print the JSON Schema of a file: a specification, any card, a dataset's card, the configuration.

    An editor that knows it completes names and fields: sfrbench schema > spec.schema.json, and as the first
    line of a specification: # yaml-language-server: $schema=spec.schema.json
    """
    from sfrbench.catalog.schema import dumped

    echo(dumped(schema_of(what, registry)), end="", fold=False)


def schema_of(what: str, registry: Sequence[Path] = ()) -> dict[str, object]:
    """One of ``WHAT``, for the shipped components and those of further folders."""
    from sfrbench.catalog.cards import Catalog
    from sfrbench.catalog.schema import card_schema
    from sfrbench.report.items import kinds
    from sfrbench.run.executors.schema import config_schema
    from sfrbench.spec.schema import spec_schema

    if what == "config":
        return config_schema()
    catalog = Catalog.read(registry)
    if what == "spec":
        return spec_schema(catalog, kinds())
    return card_schema(catalog, ["dataset"]) if what == "dataset" else card_schema(catalog)
