"""Kinds of report items: found by their folder, read with every fault at once, and added by one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.report.build import build_report
from sfrbench.report.items import every, item_of, kinds
from sfrbench.spec.extends import locate
from sfrbench.spec.reader import read_spec
from tests.support.contributing import copy_of_package, write_blocks
from tests.support.demos import Demo
from tests.support.places import ROOT
from tests.support.runs import cli

SPEC = """\
title: One new kind of item
dataset: {name: phantom, labeled: 1}
protocol: strict
base: {backbone: vnet, ssl: mean_teacher}
arms:
  - {name: mt, label: MT}
  - {name: sup, label: Supervised, ssl: supervised}
seeds: [0]
report: [REPORT]
"""


def test_one_file_is_checked_like_the_others(tmp_path: Path) -> None:
    """How the worked example comes to the page: tests/test_contributing.py."""
    home = copy_of_package(tmp_path)
    write_blocks(home, "sfrbench/report/items/")
    report = "{volumes: true, arm: [mt]}, {volumes: all}, {volumes: true, arms: [tm]}, {volume: true}"
    (home / "wrong.yaml").write_text(SPEC.replace("REPORT", report), encoding="utf-8")
    done = cli("validate", "wrong.yaml", "--profile", "smoke", cwd=home, package=home, check=2)
    for said in (
        "wrong.yaml:9:26  no field 'report.0.arm'",
        "did you mean 'arms'?",
        "report.1.volumes: input should be True, got 'all'",
        "arms: no arm 'tm'",
        "no field 'report.3.volume'",
        "did you mean 'volumes'?",
    ):
        assert said in done.stderr + done.stdout, said


def test_every_module_of_the_folder_is_a_kind() -> None:
    folder = ROOT / "sfrbench" / "report" / "items"
    assert every().keys() == {path.stem for path in folder.iterdir() if path.stem[0] != "_"}
    assert every().keys() - kinds().keys() == {"search"}  # not written in a report
    assert all(cls.kind in cls.model_fields and cls.heading for cls in every().values())


@pytest.mark.parametrize("path", sorted(shipped("experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_items_of_shipped_experiments_are_what_their_files_say(path: Path) -> None:
    spec = read_spec(locate(path.stem), "smoke", items=kinds())
    assert not spec.problems
    written = [item.model_dump(mode="json", exclude_unset=True) for item in spec.report]
    assert written == spec.document.data["report"]
    assert [item_of(entry) for entry in written] == list(spec.report)


@pytest.mark.parametrize("entry", [{}, {"pie": 1}, {"kde": "dice", "montage": 1}])
def test_an_entry_is_of_one_kind(entry: dict[str, object]) -> None:
    with pytest.raises(InputError, match="exactly one of"):
        item_of(entry)


def test_a_wrong_entry_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="did you mean 'metrics'"):
        item_of({"table": "results", "metric": ["dice"]})
    with pytest.raises(InputError, match="13 is above the bound 12"):
        item_of({"montage": 13})


def test_an_item_that_fails_leaves_the_page_to_the_others(
    small: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: object, context: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(every()["kde"], "make", fails)
    index = build_report(small.frame, small.info, tmp_path)[0]
    page = index.read_text(encoding="utf-8")
    assert page.count("This item could not be made: KeyError: &#x27;oops&#x27;.") + page.count(
        "This item could not be made: KeyError: 'oops'."
    ) == sum("kde" in item for item in small.info.items)
    assert "<h2>Results</h2>" in page
    assert "report, kde: this item could not be made" in caplog.text
    assert "test_items.py" in caplog.text  # where it failed
