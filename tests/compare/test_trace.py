"""From a number in a report back to what it was made of."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sfrbench.cli import main
from sfrbench.compare.trace import described, find, open_report
from sfrbench.errors import InputError
from sfrbench.files.atomic import sha256_of
from sfrbench.plan.resolve import digest
from sfrbench.report.build import build_report
from sfrbench.report.facts.info import Setup
from sfrbench.run.tracking.mlflow_log import Tracker, logged_in
from tests.support.demos import ARMS, axis_demo, demo
from tests.support.values import mutants, places

GIT = {"clean": {"commit": "a" * 40, "dirty": False}, "dirty": {"commit": "b" * 40, "dirty": True}}


def provenance(workspace: Path, spec: Path, cells: list[str]) -> dict[str, Any]:
    """As a real run leaves it: prepare, retrain, predict, evaluate, and a node that nothing hangs on."""
    nodes: dict[str, Any] = {}
    records: dict[str, Any] = {}
    for cell in cells:
        chain = {"prepare": "prepare/p", **{s: f"{s}/{s[0]}{cell}" for s in ("retrain", "predict")}}
        chain |= {"evaluate": f"evaluate/k{cell}", "evaluate_pseudo": f"evaluate/p{cell[-1]}"}
        nodes[cell] = chain
        before: list[str] = []
        for role, link in chain.items():
            state = GIT["dirty" if role == "retrain" else "clean"]
            records[link] = {
                "inputs": before,
                "git": state,
                "started": "2026-01-02T03:04:05",
                "seconds": 61.0,
            }
            records[link]["device"] = "cpu x2"
            before = [link] if role in ("prepare", "retrain", "predict") else [chain["prepare"]]
    return {
        "spec": str(spec), "spec_sha256": sha256_of(spec),
        "cells": {}, "nodes": nodes, "records": records,
    }  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trace")
    spec = folder / "demo.yaml"
    spec.write_text("title: x\n", encoding="utf-8")
    cells = [f"{arm}-{seed}" for arm, _ in ARMS for seed in (0, 1)]
    small = demo(
        provenance=provenance(folder, spec, cells),
        setups=tuple(Setup(arm, {}, "la", 1) for arm, _ in ARMS),
        items=(
            {"table": "results", "metrics": ["dice", "asd"]},
            {"pairs": [["sfr_mt", "mt"]], "metrics": ["dice", "asd"]},
            {"pseudo_labels": True},
            {"parameters": True},
            {"published": "table07", "metrics": ["dice"], "unbuilt": {"ACMT": "too long"}},
        ),
    )
    build_report(small.frame, small.info, folder / "out")
    there = folder / "store" / "evaluate" / "kmt-0"
    there.mkdir(parents=True)
    (there / "record.json").write_text("{}", encoding="utf-8")
    return folder / "out"


def test_a_number_leads_to_its_runs_nodes_and_code(report: Path) -> None:
    opened = open_report(report)
    told = described(opened, find(opened, "MT", "dice", "results"))
    assert [run["cell"] for run in told["runs"]] == ["mt-0", "mt-1"]
    nodes = told["runs"][0]["nodes"]
    assert [node["node"] for node in nodes] == [
        "prepare/p",
        "retrain/rmt-0",
        "predict/pmt-0",
        "evaluate/kmt-0",
    ]
    assert [node["gave_the_number"] for node in nodes] == [False, False, False, True]
    assert [node["there"] for node in nodes] == [False, False, False, True]
    assert [node["git"]["dirty"] for node in nodes] == [False, True, False, False]
    (number,) = told["numbers"]
    assert number["dice_mean"] == next(r for r in opened.csv("results") if r["arm"] == "mt")["dice_mean"]
    assert "asd_mean" not in number
    assert told["spec"]["now"] == "unchanged"
    assert told["protocol"]["name"] == "strict"


def test_a_row_by_label_arm_and_case(report: Path) -> None:
    opened = open_report(report / "provenance.json")
    rows = [find(opened, name, None, "results").row for name in ("SFR_MT", "sfr_mt", "Sfr_Mt")]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["cells"] == {"0": "sfr_mt-0", "1": "sfr_mt-1"}


def test_each_kind_of_table(report: Path) -> None:
    opened = open_report(report)
    pair = described(opened, find(opened, "SFR_MT - MT", "asd"))
    assert [(line["a"], line["b"], line["metric"]) for line in pair["numbers"]] == [("sfr_mt", "mt", "asd")]
    assert [run["cell"] for run in pair["runs"]] == ["sfr_mt-0", "sfr_mt-1", "mt-0", "mt-1"]
    organ = find(opened, "mt", "posterior", "results_per_class")
    assert organ.numbers[0]["posterior_mean"]
    pseudo = described(opened, find(opened, "sfr_mt", None, "pseudo_labels"))
    assert [n["node"] for n in pseudo["runs"][0]["nodes"] if n["gave_the_number"]] == ["evaluate/p0"]
    assert find(opened, "sfr_mt", "predicts", "parameters").numbers[0]["predicts"] == "9448866"
    theirs = find(opened, "MT (1/79)", "difference")
    assert theirs.table == "table07_dice"
    assert float(theirs.numbers[0]["difference"])
    unbuilt = described(opened, find(opened, "ACMT (1/79)"))
    assert (unbuilt["reason"], unbuilt["runs"]) == ("too long", [])
    missing = described(opened, find(opened, "sfr_ft", "dice", "results"))
    assert missing["missing"] == {"sfr_ft seed 1": "finetune failed: loss is not finite at step 40"}


def test_points_of_an_axis_are_rows(tmp_path: Path) -> None:
    scales = axis_demo(seeds=(0,))
    spec = tmp_path / "spec.yaml"
    spec.write_text("title: x\n", encoding="utf-8")
    facts = provenance(tmp_path, spec, list(scales.frame["cell"].unique()))
    info = replace(scales.info, provenance=facts, items=({"table": "t", "metrics": ["dice"]},))
    build_report(scales.frame, info, tmp_path / "out")
    spec.write_text("title: y\n", encoding="utf-8")
    opened = open_report(tmp_path / "out")
    with pytest.raises(InputError, match=r"7 rows 'base'.*\n.*SFR_FT, stitch.scale 4"):
        find(opened, "base")
    found = find(opened, "SFR_FT, stitch.scale 4", "dice")
    assert float(found.numbers[0]["dice_mean"]) > 60
    assert described(opened, found)["spec"]["now"] == "changed since the report"
    spec.unlink()
    assert described(opened, found)["spec"]["now"] == "not here"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("MTT", None, None), ["no row 'MTT'", "did you mean 'MT'"]),
        (("MT", None, "result"), ["no table 'result'", "did you mean 'results'"]),
        (("MT", "dise", "results"), ["no column 'dise'", "dice_mean"]),
        (
            ("MT", "dice", None),
            ["3 tables have a row 'MT'", "--table: results, results_per_class, table07_dice"],
        ),
    ],
)
def test_what_is_not_there_or_not_clear(report: Path, asked: Any, told: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        find(open_report(report), *asked)
    assert [part for part in told if part not in str(caught.value)] == []


def test_a_provenance_of_another_shape_is_refused_or_told(report: Path, tmp_path: Path) -> None:
    """Never a traceback, whatever one value of it is."""
    shutil.copytree(report, tmp_path / "copy")
    file = tmp_path / "copy" / "provenance.json"
    whole = json.loads(file.read_text())
    every = sorted(places(whole), key=lambda path: digest(list(map(str, path))))
    assert len(every) > 200
    for path, changed in mutants(whole, every[:150]):
        file.write_text(json.dumps(changed))
        for asked in ([], ["--row", ARMS[0][0], "--table", "results"]):
            done = CliRunner().invoke(main, ["trace", str(tmp_path / "copy"), *asked])
            assert done.exit_code in (0, 2), (path, done.exception)


def test_no_report_or_an_old_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report here"):
        open_report(tmp_path)
    (tmp_path / "provenance.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="write the report again"):
        open_report(tmp_path)


def test_the_command(report: Path) -> None:
    def run(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["trace", str(report), *args])
        assert done.exit_code == code, done.output
        return done.output

    assert "results: V-Net (LB); MT; SFR_FT; SFR_MT" in run()
    text = run("--row", "mt", "--col", "dice", "--table", "results")
    for part in ("profile cpu (scaled down)", f"commit {'b' * 10} with changes", "run mt-0: mt, seed 0",
                 "→ evaluate", "(gone)", "61 s on cpu x2"):  # fmt: skip
        assert part in text
    told = json.loads(run("--row", "mt", "--col", "dice", "--table", "results", "--json"))
    assert told["runs"][1]["seed"] == "1"
    assert "did you mean" in run("--row", "mtt", code=2)


@pytest.mark.parametrize(("version", "said"), [("0.1.0", "0.1.0"), (None, "of an unknown version")])
def test_an_installed_package_is_named_by_its_version(
    report: Path, tmp_path: Path, version: str | None, said: str
) -> None:
    shutil.copytree(report, tmp_path, dirs_exist_ok=True)
    written = tmp_path / "provenance.json"
    whole = json.loads(written.read_text(encoding="utf-8"))
    for record in whole["records"].values():
        record |= {"git": {}} | ({"version": version} if version else {})
    written.write_text(json.dumps(whole), encoding="utf-8")
    done = CliRunner().invoke(
        main, ["trace", str(tmp_path), "--row", "mt", "--col", "dice", "--table", "results"]
    )
    assert f"code        sfrbench {said}, installed\n" in done.output


def test_mlflow_is_named_where_exactly_this_was_logged(report: Path) -> None:
    opened = open_report(report)
    found = find(opened, "mt", "dice", "results")
    workspace = report.parent
    links = [tuple(link.split("/")) for link in opened.whole["nodes"]["mt-0"].values()]
    from sfrbench.run.tracking import mlflow_log as track

    marks = {"demo/mt-0": track._mark("demo", links), "demo/mt-1": "of other nodes"}
    tracker = Tracker("sqlite:///x.db", workspace)
    tracker.state_path.write_text(json.dumps({tracker.uri: marks}), encoding="utf-8")
    try:
        runs = described(opened, found)["runs"]
        assert runs[0]["mlflow"] == [
            {"uri": "sqlite:///x.db", "experiment": "demo [cpu]", "filter": "tags.`sfrbench.cell` = 'mt-0'"}
        ]
        assert runs[1]["mlflow"] == []
        assert logged_in(workspace, "demo", "mt-0", []) == []
    finally:
        tracker.state_path.unlink()
