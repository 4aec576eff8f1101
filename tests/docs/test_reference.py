"""The pages that are made from the code say all that it says, and nothing of this machine."""

from __future__ import annotations

import re
from pathlib import Path

import click
import griffe
import numpy as np
import pytest

from docs.tools import commands, hooks, pictures, reference, words
from docs.tools.comments import Comments
from sfrbench.catalog.cards import Card, Catalog
from sfrbench.catalog.fields import field_paths
from sfrbench.catalog.schema import Definitions
from sfrbench.components.base import KINDS
from sfrbench.report.items import kinds
from tests.support.places import ROOT

CARDS = Catalog.read().cards()
EVERYTHING = {**reference.pages(), **reference.tables()}


def section(card: Card) -> str:
    """What stands under the heading of a card."""
    page = reference.pages()[f"reference/components/{card.kind}.md"]
    return page.partition(f"## {card.name} {{#{card.name}}}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_card_has_a_section_with_its_facts(kind: str) -> None:
    for card in (each for each in CARDS if each.kind == kind):
        text = section(card)
        assert words.plain(" ".join(card.summary.split())) in text
        assert f"`{card.target}`, version {card.component_class.version}" in text
        assert all(f"search range of `{path}`" in text for path in card.search)
        assert card.cite is None or f"`{card.cite}`" in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_stands_on_the_page_of_its_kind(kind: str) -> None:
    page = reference.pages()[f"reference/components/{kind}.md"]
    for card in (each for each in CARDS if each.kind == kind):
        assert [path for path in field_paths(card.component_class) if f"| `{path}` |" not in page] == []


def test_a_card_shows_default_bounds_and_meaning_of_a_field() -> None:
    (card,) = (each for each in CARDS if (each.kind, each.name) == ("ssl", "bcp"))
    row = next(line for line in section(card).splitlines() if line.startswith("| `u_weight`"))
    assert row == "| `u_weight` | `0.5` | number ≥ 0, ≤ 10 | weight of voxels with pseudo-labels |"


def test_a_second_card_of_a_class_refers_to_the_first() -> None:
    (card,) = (each for each in CARDS if (each.kind, each.name) == ("ssl", "bcp_source"))
    assert "Of the class of [`bcp`](#bcp)" in section(card)
    assert "`batch_labeled`: `4`" in section(card)


def test_every_command_has_a_page_with_every_option() -> None:
    found = dict(commands.commands())
    assert ("run",) in found
    assert ("data", "check") in found
    for names, command in found.items():
        page = reference.pages()[f"reference/commands/{'-'.join(names)}.md"]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert all(f"`{name}`" in page for name in option.opts), (names, option.name)
        assert f"({'-'.join(names)}.md)" in reference.tables()["commands"]


def test_every_experiment_and_report_item_is_listed() -> None:
    for path in (ROOT / "experiments").glob("*.yaml"):
        assert f"## {path.stem} {{#{path.stem}}}" in reference.tables()["experiments"]
    for kind in kinds():
        assert f"## {kind} {{#{kind}}}" in reference.tables()["items"]


def test_nothing_is_said_of_this_machine() -> None:
    for name, text in EVERYTHING.items():
        assert str(ROOT) not in text, name
        assert str(Path.home()) not in text, name


def test_written_pages_ask_for_what_is_made_and_all_that_is_made_is_asked_for() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    asked = {name for text in pages for name in re.findall(r"^<!-- made: (.*) -->$", text, re.MULTILINE)}
    assert asked - {"pictures"} == set(reference.tables()) - {"pictures"}


def test_every_page_of_the_reference_is_in_its_order() -> None:
    def flat(entry: object) -> list[str]:
        if isinstance(entry, dict):
            return [name for inner in entry.values() for name in flat(inner)]
        return [name for inner in entry for name in flat(inner)] if isinstance(entry, list) else [str(entry)]

    listed = flat(reference.nav())
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs/reference").rglob("*.md")]
    assert sorted(listed) == sorted({*written, *reference.pages(), "memory.md"})


def test_pages_of_a_folder_follow_one_another_by_name(tmp_path: Path) -> None:
    for name in ("02-later", "01-first", "index"):
        (tmp_path / "tutorials").mkdir(exist_ok=True)
        (tmp_path / "tutorials" / f"{name}.md").write_text(f"# {name}\n")
    names = ["tutorials/index.md", "tutorials/01-first.md", "tutorials/02-later.md"]
    assert hooks._section(tmp_path, "Tutorials", "tutorials") == [{"Tutorials": names}]
    assert hooks._section(tmp_path, "How-to", "how-to") == []


def test_pages_stand_under_the_headings_of_their_index(tmp_path: Path) -> None:
    (tmp_path / "how-to").mkdir()
    for name in ("index", "a", "b", "c"):
        (tmp_path / "how-to" / f"{name}.md").write_text("# x\n")
    text = "# How-to\n\nSee [a](a.md).\n\n## Begin\n\n- [B](b.md), then [A](a.md)\n- [A](a.md)\n\n## Later\n"
    (tmp_path / "how-to" / "index.md").write_text(text)
    pages = ["how-to/index.md", "how-to/c.md", {"Begin": ["how-to/b.md", "how-to/a.md"]}]
    assert hooks._section(tmp_path, "How-to", "how-to") == [{"How-to": pages}]


def test_the_index_of_the_how_to_pages_lists_each_once() -> None:
    (section,) = hooks._section(ROOT / "docs", "How-to", "how-to")
    first, *groups = section["How-to"]
    assert first == "how-to/index.md"
    listed = [name for group in groups for names in group.values() for name in names]
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / "how-to").glob("*.md")]
    assert sorted([first, *listed]) == sorted(written)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "whole number ≥ 1, ≤ 9"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}, "number > 0 or none"),
        ({"enum": ["a", "b"]}, "`a` or `b`"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, "list: text (one at least)"),
        ({"type": "array", "prefixItems": [{"type": "integer"}] * 3}, "list of 3: whole number"),
        ({"$ref": "#/$defs/flag"}, "true or false"),
        ({}, "anything"),
    ],
)
def test_what_may_stand_somewhere_is_said_in_words(schema: dict[str, object], told: str) -> None:
    assert words.may_be(schema, Definitions()) == told


def test_text_of_the_code_is_not_taken_for_markdown() -> None:
    assert words.plain("a_b * <root> {x: 1} ``c_d``") == r"a\_b \* &lt;root> \{x: 1\} ``c_d``"
    assert words.value({"lr": 1e-4, "on": True, "of": [1, None]}) == "`{lr: 0.0001, on: true, of: [1, null]}`"


def test_comments_are_shown_as_docstrings(tmp_path: Path) -> None:
    source = (
        "class A:\n    #: Said above,\n    #: in two lines.\n    x: int = 1\n    y: int = 2  # said behind\n"
    )
    (tmp_path / "commented.py").write_text(source)
    extensions = griffe.load_extensions(Comments)
    module = griffe.load("commented", search_paths=[tmp_path], extensions=extensions)
    said = {name: module[f"A.{name}"].docstring.value for name in ("x", "y")}
    assert said == {"x": "Said above, in two lines.", "y": "said behind"}


def test_pictures_are_of_the_stitching_that_they_name() -> None:
    made = dict(pictures.pictures())
    assert list(made) == list(pictures.CAPTIONS)
    grid, slices = made["grid"], made["slices"]
    assert grid.shape == (pictures.CANVAS, pictures.CANVAS, 3)
    cell = grid[52 + 2 : 104 - 2, 2:50]  # the first of the second row: slice 4
    np.testing.assert_array_equal(cell, slices[2:50, 4 * 52 + 2 : 5 * 52 - 2])
    assert (grid[:2] == pictures.PADDING).all()
    off = made["back"][:, 2 * 52 + 2 : -2, 0]
    assert not off[2:50].any()  # pixel for pixel
    assert off[54:102].max() > 50  # resized
