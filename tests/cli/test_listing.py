"""``sfrbench list``: what is found, plain lines for pipes, and a table as wide as the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.cli import console, listing
from sfrbench.cli.listing import Entry
from sfrbench.plan.build import Plan
from tests.support.runs import here


def names(folder: Path, *words: str) -> list[str]:
    lines = here("list", *words, cwd=folder).stdout.splitlines()
    assert lines[0].startswith("cards from /")
    return [line.split()[0] for line in lines[1:]]


def test_piped_there_is_one_card_a_line(tmp_path: Path) -> None:
    cards = Catalog.read().cards()
    found = names(tmp_path)
    assert [name for name in found if not name.startswith("experiment/")] == [
        f"{c.kind}/{c.name}" for c in cards
    ]
    line = next(
        line for line in here("list", cwd=tmp_path).stdout.splitlines() if line.startswith("experiment/la_sc")
    )
    assert line.split(maxsplit=1)[1] == "One labelled case, left atrium"


def test_piped_summaries_start_in_one_column(tmp_path: Path) -> None:
    lines = here("list", "prompter", cwd=tmp_path).stdout.splitlines()[1:]
    assert max(len(line.split()[0]) for line in lines) > 28
    assert {line.index(line.split(maxsplit=1)[1]) for line in lines} == {
        max(len(line.split()[0]) for line in lines) + 2
    }


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["protocol"], ["protocol/medsam2", "protocol/nnunet", "protocol/paper", "protocol/strict"]),
        (["ssl", "sfr's", "mt"], ["ssl/mean_teacher"]),  # summary, and label
        (["la_STITCH"], ["experiment/la_stitch_scale"]),
        (["experiment", "brats"], ["experiment/table02_brats19", "experiment/table08_brats19_scarce"]),
    ],
)  # fmt: skip
def test_words_find_kinds_and_texts(tmp_path: Path, words: list[str], found: list[str]) -> None:
    listed = names(tmp_path, *words)
    assert set(found) <= set(listed)
    assert len(listed) <= len(found) + 1


def test_what_matches_nothing_says_what_is_near(tmp_path: Path) -> None:
    said = here("list", "techer", cwd=tmp_path, check=2).stderr
    assert said.startswith("no kind, name, label or summary has 'techer'\n    near: ssl/mean_teacher")
    assert "kinds: dataset, stitch, " in said
    assert "near: backbone" in here("list", "bakbone", cwd=tmp_path, check=2).stderr
    assert "near: kidneys   kinds: " in here("list", "kidneyz", cwd=tmp_path, check=2).stderr
    both = here("list", "stitch", "brats", cwd=tmp_path, check=2).stderr
    assert both.startswith("nothing has all of stitch, brats in its name, label or summary")


def test_cards_of_the_users_are_found_and_json_is_for_programs(tmp_path: Path) -> None:
    here("new", "ssl", "gentle", cwd=tmp_path)
    assert names(tmp_path, "gentle", "--registry", "registry") == ["ssl/gentle"]
    told = json.loads(here("list", "gentle", "--registry", "registry", "--json", cwd=tmp_path).stdout)
    assert [card["target"] for card in told["cards"]] == ["gentle:Gentle"]
    assert told["roots"][1] == "registry"


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table_fits_the_terminal_and_breaks_no_word(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    text = "Consistency of ever longer sentences, word by word, " * 5
    cards = Catalog.read().cards()
    odd = Entry("ssl", "odd", "[red]Odd\x1b[31m", text)
    listing.show([*listing.entries(cards), odd], ["/a/rather/long/path/of/a/registry" * 4])
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()  # bold, underlined
    *table, _ = lines
    assert max(map(len, table)) <= columns
    assert all(card.name in "\n".join(table) for card in cards)
    words = {word for line in table for word in line.split()}
    summaries = [word for card in cards for word in card.summary.split()]
    assert set(summaries) <= words
    assert ("[red]Odd\\x1b[31m" in "\n".join(table)) is (columns == 140)  # labels, where there is room


def test_a_narrow_terminal_has_whole_names_and_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    listing.show(
        [Entry("ssl", "a_name_of_many_letters", "A", "What it is."), Entry("ssl", "b", "B", "Or.")], ["/r"]
    )
    said = ["cards from /r", "ssl/a_name_of_many_letters  What it is.", "ssl/b  Or."]
    assert capsys.readouterr().out.splitlines() == said
    with console.listener(cast(Plan, None)) as made:
        assert isinstance(made, console.PlainListener)
