"""Every shipped experiment runs to its report in profile smoke; those of the paper's tables have its rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.files.roots import shipped
from sfrbench.paper.tables import Published, published
from tests.support.browser import Browser, needs_browser
from tests.support.captions import check_page

EXPERIMENTS = sorted(shipped("experiments").glob("*.yaml"))
TABLES = {path.stem: int(path.stem[5:7]) for path in EXPERIMENTS if re.match(r"table\d\d_", path.stem)}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all experiments, so that what they share runs once."""
    return tmp_path_factory.mktemp("experiments")


def run(name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run an experiment and return the folder of its report."""
    monkeypatch.chdir(workspace)
    arguments = ["run", name, "--profile", "smoke", "--set", "seeds=0", "--workspace", "runs"]
    done = CliRunner().invoke(main, [*arguments, "--tracking-uri", "none"])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    assert " 0 failed, 0 blocked" in done.output
    assert "no effect" not in done.output
    return workspace / "runs" / "reports" / name / "smoke"


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_runs_to_its_report(path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(path.stem, workspace, monkeypatch)
    assert (report / "index.html").is_file()
    assert (report / "provenance.json").is_file()
    assert check_page(report / "index.html")
    if path.stem in TABLES:
        check_table(published(TABLES[path.stem]), path.stem[:7], report / "tables")


@needs_browser
def test_their_pages_work_in_a_browser(workspace: Path, tmp_path: Path) -> None:
    pages = sorted((workspace / "runs" / "reports").glob("*/smoke/index.html"))
    browser = Browser(tmp_path / "browser")
    try:
        for page in pages:
            browser.open(page)
            name = page.parts[-3]
            heads = browser.run("document.querySelectorAll('thead button').length")
            assert heads, name
            browser.run("document.querySelectorAll('thead button').forEach(head => head.click())")
            browser.run("document.querySelectorAll('.viewer input[type=range]').forEach(one => one.stepUp())")
            assert not browser.complaints, (name, browser.complaints)
            assert not browser.fetched(), name
    finally:
        browser.close()


def test_every_table_of_the_paper_is_an_experiment() -> None:
    assert sorted(TABLES.values()) == list(range(1, 16))


def check_table(table: Published, name: str, folder: Path) -> None:
    """The methods that stand in the paper's table without prompts are our rows, in its order, with the
    controls of SFR+; those with prompts are ours, too, each number of them; its metrics or organs are our
    columns; and all of its rows stand beside ours, those that have none with a reason."""
    ours = read(folder / "results.csv")
    metrics = dict.fromkeys(column.metric for column in table.columns.values() if column.metric != "params")
    assert [name.removesuffix("_mean") for name in ours[0] if name.endswith("_mean")] == list(metrics)
    for dataset in table.test_cases:
        theirs = [
            row.method
            for row in table.rows
            if not row.setting.prompt
            and any(row.values[name] for name in table.columns if table.dataset_of(name) == dataset)
        ]
        own = labels(
            [row for row in ours if not row.get("prompter.count") and not row.get("prompter.every")], dataset
        )
        assert [label for label in own if not label.endswith(", trained on")] == theirs
        plus = [label.removesuffix("+") for label in own if label.endswith("+")]
        assert [label.removesuffix(", trained on") for label in own if ", trained on" in label] == plus
        beside = read(folder / f"{name}_dice{f'_{dataset}' if len(table.test_cases) > 1 else ''}.csv")
        assert list(dict.fromkeys(row["row"] for row in beside if row["row"])) == [
            row.label for row in table.rows
        ]
        assert all(row["reason"] for row in beside if not row["arm"])
        prompted = {row.label for row in table.rows if row.setting.prompt}
        assert {row["row"] for row in beside if row["arm"] and row["row"] in prompted} == prompted
    if any(column.organ for column in table.columns.values()):
        first, *_ = (name for name in read(folder / "results_per_class.csv")[0] if name.endswith("_mean"))
        assert first == "AVG_mean"
        assert next(iter(table.columns)) == "AVG"


def labels(rows: Sequence[Mapping[str, str]], dataset: str) -> list[str]:
    """The labels on one dataset, those of the first labelled count first."""
    own = [row for row in rows if row.get("dataset", dataset) == dataset]
    counts = list(dict.fromkeys(row.get("dataset.labeled") for row in own))
    return [row["label"] for count in counts for row in own if row.get("dataset.labeled") == count]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
