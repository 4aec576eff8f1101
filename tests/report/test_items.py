"""Kinds of report items: found by their folder, read with every fault at once, and added by one file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.report.items import every, item_of, kinds
from sfrbench.spec.reader import locate, read_spec

ROOT = Path(__file__).resolve().parents[2]
ITEM = '''
"""How many scores each arm has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from sfrbench.report.item import Context, OfArms
from sfrbench.report.render.parts import Part
from sfrbench.spec.model import Fault, Item, Known


class CountedItem(OfArms):
    kind: ClassVar[str] = "counted"
    heading: ClassVar[str] = "How many scores"

    counted: str = Field(description="an arm")
    decimals: int = Field(0, ge=0, le=3)

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        yield from known.arm_faults([self.counted], ("counted",), "counted: ")
        yield from super().faults(known, before)

    def asks(self, arm: str) -> Mapping[str, Mapping[str, int]]:
        return {"features": {"cases": 2, "voxels": 10}} if arm == self.counted else {}

    def make_of(self, context: Context) -> Part:
        from sfrbench.report.items.table.rows import counts_of
        from sfrbench.report.render.tables import Entry, Table
        from sfrbench.results.lines import lines

        own = [line for line in lines(context.frame, context.info.grid, "test") if line.arm == self.counted]
        rows = tuple((Entry(line.label), Entry(f"{int(counts_of(line, context.info)[0]):.{self.decimals}f}"))
                     for line in own)
        data = tuple({"arm": line.arm} for line in own)
        name = context.names.new("counted")
        table = Table(name, "Scored cases.", "Of the test.", ("Arm", "n"), rows, (), data)
        return Part([table], behind={table.name: own})
'''
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


def sfrbench(home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The command line of the package in ``home``."""
    environment = {**os.environ, "PYTHONPATH": str(home)}
    command = [sys.executable, "-m", "sfrbench", *args, "--profile", "smoke"]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one more file."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "sfrbench", folder / "sfrbench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("registry", "experiments", "reports"):
        (folder / name).symlink_to(shipped(name), target_is_directory=True)
    (folder / "sfrbench" / "report" / "items" / "counted.py").write_text(ITEM, encoding="utf-8")
    return folder


def test_one_file_adds_a_kind_from_the_specification_to_the_page(home: Path) -> None:
    report = "{counted: mt, decimals: 1, arms: [mt]}, {table: results}"
    (home / "new.yaml").write_text(SPEC.replace("REPORT", report), encoding="utf-8")
    done = sfrbench(home, "run", "new.yaml", "--workspace", "runs", "--tracking-uri", "none")
    assert done.returncode == 0, done.stderr
    page = (home / "runs" / "reports" / "new" / "smoke" / "index.html").read_text(encoding="utf-8")
    assert "<h2>How many scores</h2>" in page
    row = page.partition("<b>Scored cases.</b>")[2].partition("</table>")[0]
    assert "MT" in row
    assert ".0</a></td>" in row
    assert "Supervised" not in row
    asked = [
        path.parent for path in (home / "runs" / "store").rglob("record.json") if "features" in str(path)
    ]
    assert len(asked) == 1  # for one of two arms


def test_the_new_kind_is_checked_like_the_others(home: Path) -> None:
    report = "{counted: tm, decimal: 1}, {counted: tm}, {counter: mt}"
    (home / "wrong.yaml").write_text(SPEC.replace("REPORT", report), encoding="utf-8")
    done = sfrbench(home, "validate", "wrong.yaml")
    assert done.returncode == 2
    for said in (
        "wrong.yaml:9:24  no field 'report.0.decimal'",
        "did you mean 'decimals'?",
        "counted: no arm 'tm'",
        "no field 'report.2.counter'",
        "did you mean 'counted'?",
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
