"""The public functions: light to import, and the numbers of the report."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

import sfrbench
from sfrbench.api import Report
from sfrbench.errors import InputError
from sfrbench.report.build import build_report
from tests.support.demos import axis_demo, demo


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, sfrbench; assert sfrbench.__version__; "
        "heavy = ('pandas', 'torch', 'numpy', 'pydantic', 'matplotlib'); "
        "print([name for name in heavy if name in sys.modules]); "
        "from sfrbench import load_results, load_report, load_model; "
        "print([name for name in ('torch', 'mlflow', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "[]\n[]\n"
    assert set(sfrbench.__all__) <= {*dir(sfrbench), "Report", "load_model", "load_report", "load_results"}
    with pytest.raises(AttributeError, match="no attribute 'load_resluts'"):
        _ = sfrbench.load_resluts  # type: ignore[attr-defined]


@pytest.mark.parametrize("made", [demo, axis_demo])
def test_tables_and_figures_are_those_of_the_report(made, tmp_path) -> None:
    small = made()
    small.info = replace(small.info, items=small.info.items[:-1])  # without the slices, which take long
    build_report(small.frame, small.info, tmp_path)
    report = Report(small.frame, small.info)
    seen = set()
    for item in report.items:
        for table in report.tables(item):
            with (tmp_path / "tables" / f"{table.name}.csv").open(encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            numbers = table.numbers()
            for name in (column for column in rows[0] if column.endswith(("_mean", "_std"))):
                wanted = [float(row[name]) if row[name] else None for row in rows]
                assert numbers[name].astype(object).where(numbers[name].notna(), None).tolist() == wanted
            assert table._repr_markdown_() == (tmp_path / "tables" / f"{table.name}.md").read_text("utf-8")
            assert "<table>" in table._repr_html_()
            seen.add(table.name)
        for picture in report.figures(item):
            assert picture._repr_png_() == (tmp_path / "figures" / f"{picture.name}.png").read_bytes()
            saved = picture.save(tmp_path / "own.svg")
            assert saved.read_bytes() == (tmp_path / "figures" / f"{picture.name}.svg").read_bytes()
            with pytest.raises(ValueError, match=r"saved as \.png or \.svg"):
                picture.save("own.pdf")
            seen.add(picture.name)
    every = {path.stem for part in ("tables", "figures") for path in (tmp_path / part).iterdir()}
    assert seen == every


def test_a_part_of_the_frame_gives_tables_of_that_part() -> None:
    small = demo()
    report = Report(small.frame, small.info)
    item = {"table": "results", "metrics": ["dice"]}
    without = small.frame[small.frame["case"] != "case_000"]
    whole, part = report.tables(item)[0].numbers(), report.tables(item, without)[0].numbers()
    assert (whole["n"] - 1 == part["n"]).all()
    assert not pd.Series.equals(whole["dice_mean"], part["dice_mean"])


def test_wrong_input_is_said(tmp_path) -> None:
    with pytest.raises(InputError, match="no experiment 'quickstrat'"):
        sfrbench.load_results("quickstrat", profile="smoke", workspace=tmp_path)
    empty = sfrbench.load_report("quickstart", profile="smoke", workspace=tmp_path)
    assert len(empty.frame) == 0
    assert "No prediction or no volume" in empty.make({"montage": 1}).remark
    assert empty.figures({"montage": 1}) == []
