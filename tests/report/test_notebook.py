"""The notebook of a report: what the template becomes, and that an executed one has the report's numbers."""

from __future__ import annotations

import ast
import csv
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.errors import InputError, NotReadyError
from sfrbench.report import notebook
from sfrbench.report.items import every

SPEC = """\
title: Ev<i>l & "small"
description: "Nothing\\n# but <script>alert(1)</script>"
dataset: {name: phantom, labeled: 1, train_cases: 2, test_cases: 2, shape: [32, 32, 16]}
protocol: strict
base: {backbone: vnet, ssl: supervised}
axes: {ssl.sup_ce: [0.5, 1]}
seeds: [0, 1]
report:
  - {table: results, metrics: [dice, hd95]}
  - {curve: {x: ssl.sup_ce, y: dice}}
  - {parameters: true}
  - {pseudo_labels: true}
profiles: {smoke: {backbone.filters: 4}}
"""
VALUES = {
    "TITLE": "A *b*",
    "DESCRIPTION": "",
    "STAMP": "s",
    "EXPERIMENT": "x'y",
    "OPTIONS": {"profile": "cpu"},
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    """A folder with a run in two steps, and its report with the executed notebook."""
    for name in notebook.PACKAGES:
        pytest.importorskip(name, reason="the extra 'notebook' is not installed")
    folder = tmp_path_factory.mktemp("notebook")
    spec = folder / "own.yaml"
    spec.write_text(SPEC)
    common = ["--profile", "smoke", "--workspace", str(folder / "runs"), "--set", "ssl.steps=2"]
    for command in (["run", "--tracking-uri", "none"], ["report", "--notebook"]):
        done = CliRunner().invoke(
            main, [command[0], str(spec), *command[1:], *common], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
    assert f"notebook: {folder}/runs/reports/own/smoke/report.ipynb" in done.output
    return folder


def outputs(path: Path) -> list[dict[str, str]]:
    """What every executed cell shows, as text by kind."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", ())]
    assert all(output["output_type"] != "error" for output in shown)
    return [
        {kind: "".join(text) for kind, text in output["data"].items()} for output in shown if "data" in output
    ]


def test_an_executed_notebook_has_the_numbers_of_the_report(reported):
    folder = reported / "runs" / "reports" / "own" / "smoke"
    shown = outputs(folder / "report.ipynb")
    markdown = [output["text/markdown"] for output in shown if "text/markdown" in output]
    written = {path.stem: path for path in (folder / "tables").glob("*.md")}
    assert set(written) == {"results", "parameters"}
    assert sorted(markdown) == sorted(path.read_text(encoding="utf-8") for path in written.values())
    with (folder / "tables" / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    results = next(text for text in markdown if "Dice" in text)
    lines = [line.replace("*", "").replace("<u>", "").replace("</u>", "") for line in results.splitlines()]
    lines = [line for line in lines if line.startswith("| ")][2:]
    assert len(rows) == len(lines) == 2
    for row, line in zip(rows, lines, strict=True):
        assert f"| {row['dice_mean']} ± {row['dice_std']} | {row['hd95_mean']} ± {row['hd95_std']} |" in line
    pictures = [output["image/png"] for output in shown if "image/png" in output]
    assert len(pictures) == 1
    assert shown[-1]["text/html"].count("p100000") == 1  # the table from the frame alone


def test_names_of_users_are_text_and_no_folder_is_named(reported):
    path = reported / "runs" / "reports" / "own" / "smoke" / "report.ipynb"
    head = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    assert head.startswith('# Ev&lt;i&gt;l &amp; "small"\n')
    assert "<script" not in head
    assert "\n# but" not in head
    assert "scaled down" in head
    assert str(reported) not in path.read_text(encoding="utf-8")  # the folder can be moved


def test_a_cell_that_fails_is_said_and_kept(reported):
    template = reported / "mine.py"
    template.write_text(
        "# %%\nimport ipykernel\nipykernel.get_connection_info(unpack=True)['transport']\n\n# %%\n1 / 0\n"
    )
    out = reported / "failed"
    options = ["--profile", "smoke", "--workspace", str(reported / "runs"), "--set", "ssl.steps=2"]
    command = ["report", str(reported / "own.yaml"), "--template", str(template), "--out", str(out), *options]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 2
    assert "ZeroDivisionError: division by zero" in done.stderr
    kept = (out / "report.ipynb").read_text(encoding="utf-8")
    assert "1 / 0" in kept
    assert ("'tcp'" if os.name == "nt" else "'ipc'") in kept  # no port is open to others on the machine


def test_the_template_is_filled_item_by_item():
    long = {"pairs": [[f"an_arm_with_a_long_name_{index}", "another"] for index in range(4)]}
    items = [long, {"table": "results"}, {"curve": {"x": "a", "y": "dice"}}, {"search": True}]
    cells = notebook.fill(notebook.read_template(None), VALUES, items)
    assert [cell.source for cell in cells if cell.source.startswith("## ")][:4] == [
        f"## {every()[kind].heading}" for kind in ("pairs", "table", "curve", "search")
    ]
    assert cells[0].source.startswith("# A \\*b\\*\n")
    assert """sfrbench.load_report("x'y", **options)""" in cells[1].source
    made = [cell.source.partition("\nmade = ")[0] for cell in cells if "report.make" in cell.source]
    assert made[1:] == [f"item = {item}" for item in items[1:]]
    assert ast.literal_eval(made[0].removeprefix("item = ")) == long
    assert "\n                  ['an_arm_with_a_long_name_1'" in made[0]
    for cell in cells:
        assert cell.text or compile(cell.source, "cell", "exec")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# no cell\n", "has no cell"),
        ("# %%\n1\n# %% for each\n2\n", "begins no cell"),
    ],
)
def test_a_template_that_is_none_is_refused(text, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        notebook.read_template(path)
    with pytest.raises(InputError, match="no such template"):
        notebook.read_template(tmp_path / "other.py")


def test_missing_packages_are_said(monkeypatch):
    monkeypatch.setattr(notebook, "PACKAGES", ("no_such_package",))
    with pytest.raises(NotReadyError, match="no_such_package"):
        notebook.check_packages()


def test_a_database_can_be_named_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert notebook._database("sqlite:///s.db") == f"sqlite:///{tmp_path}/s.db"
    assert notebook._database("postgresql://host/db") == "postgresql://host/db"
    assert notebook._database(None) is None


def test_what_a_cell_prints_names_no_folder() -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra 'notebook' is not installed")
    told = "/home/zaphod/venv/tqdm/auto.py:21: TqdmWarning: IProgress not found\n"
    outputs = [
        nbformat.v4.new_output("stream", name="stderr", text=told),
        nbformat.v4.new_output("error", ename="E", evalue=told, traceback=[f"\x1b[31m{told}"]),
        nbformat.v4.new_output("execute_result", data={"text/plain": told, "image/png": "/home/not/a/path"}),
    ]
    for output in outputs:
        notebook.without_machine(output)
    clean = "…/auto.py:21: TqdmWarning: IProgress not found\n"
    assert (
        outputs[0].text
        == outputs[1].evalue
        == outputs[1].traceback[0]
        == outputs[2].data["text/plain"]
        == clean
    )
    assert outputs[2].data["image/png"] == "/home/not/a/path"
