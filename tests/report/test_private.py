"""What is sent away: no folder, user or host of the machine; no formula; the rules of every protocol."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sfrbench.files.private import without_places
from sfrbench.files.sheets import csv_of, guarded, plain, unguarded
from sfrbench.report.notebook import PACKAGES
from tests.test_run import environment

SPEC = """\
title: Two protocols
dataset: {name: phantom, labeled: 1, unlabeled: 1, max_test: 2, shape: [40, 40, 24]}
base: {finetune: lora, foundation: sam_toy, stitch: grid, backbone: vnet, ssl: supervised, ssl.steps: 2}
arms:
  - {name: lb, label: "=1+1"}
  - {name: "-bad", label: "@SUM(A1)", stages: [finetune, predict, evaluate], foundation.canvas: 100}
axes: {protocol: [paper, strict]}
report: [{table: results, metrics: [dice]}, {pairs: [[lb, "-bad"]]}]
"""
USER, HOST = "zaphodx", "heartofgoldx"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, one arm of which fails, with a workspace, a home and a registry of telling names, its report and
    its notebook."""
    for name in PACKAGES:
        pytest.importorskip(name, reason="the extra 'notebook' is not installed")
    home = tmp_path_factory.mktemp("home") / USER
    (home / "own" / "stitch").mkdir(parents=True)
    (home / "spec.yaml").write_text(SPEC.replace(", foundation.canvas: 100", ", stitch: breaks"))
    (home / "own" / "stitch" / "breaks.yaml").write_text(
        "target: breaks:Breaks\nsummary: Fails.\nlabel: Fails\n", encoding="utf-8"
    )
    (home / "breaks.py").write_text(
        "from sfrbench.components.stitch.grid import GridStitch\n"
        "class Breaks(GridStitch):\n"
        "    def training_canvas(self, *_, **__):\n"
        f"        raise RuntimeError('no {home}/x/scan.nii for {USER} at {HOST}')\n"
    )
    places = {"HOME": str(home), "USER": USER, "LOGNAME": USER, "HOSTNAME": HOST}
    places["PYTHONPATH"] = os.pathsep.join([environment()["PYTHONPATH"], str(home)])
    options = ["--profile=smoke", f"--workspace={home}/runs", f"--registry={home}/own"]
    for command in (["run", "--tracking-uri=none"], ["report", "--notebook", f"--out={home}/page"]):
        done = subprocess.run(
            [sys.executable, "-m", "sfrbench", command[0], str(home / "spec.yaml"), *command[1:], *options],
            capture_output=True, text=True, timeout=300, cwd=home, env={**environment(), **places},
        )  # fmt: skip
        assert done.returncode == (command[0] == "run"), done.stdout + done.stderr
    return home / "page"


def test_a_report_names_no_place_of_the_machine(sent: Path) -> None:
    whole = [path for path in sent.rglob("*") if path.is_file() and path.suffix not in (".png", ".svg")]
    assert {"index.html", "provenance.json", "report.ipynb", "spec.yaml"} <= {path.name for path in whole}
    for path in whole:
        text = path.read_text(encoding="utf-8")
        for name in (
            str(sent.parent),
            str(sent.parent.parent),
            USER,
            socket.gethostname(),
            "/tmp/",
            os.getcwd(),
        ):
            assert name not in text, (path.name, name, text[max(text.find(name) - 80, 0) :][:200])
    page = (sent / "index.html").read_text(encoding="utf-8")
    assert "…/scan.nii for USER" in page
    assert "store/failed/" in page


def test_the_notebook_has_read_what_the_report_reads(sent: Path) -> None:
    cells = json.loads((sent / "report.ipynb").read_text(encoding="utf-8"))["cells"]
    code = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "options = {'profile': 'smoke'}" in code
    assert "load_report('spec.yaml'" in code
    assert not [out for cell in cells for out in cell.get("outputs", ()) if out["output_type"] == "error"]


def test_the_page_has_the_rules_of_both_protocols(sent: Path) -> None:
    page = (sent / "index.html").read_text(encoding="utf-8")
    assert "Protocol paper: " in page
    assert "Protocol strict: " in page
    assert page.count("counts 0 in every metric, distances included") >= 1
    assert page.count("counts 0, in distances the image diagonal") >= 1
    rules = json.loads((sent / "provenance.json").read_text(encoding="utf-8"))["protocols"]
    assert {name: fields["empty"] for name, fields in rules.items()} == {
        "paper": "paper_zero",
        "strict": "worst",
    }


def test_labels_are_no_formulas_in_a_spreadsheet(sent: Path) -> None:
    with (sent / "tables" / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    texts = [text for row in rows for text in row.values() if text]
    assert "'=1+1" in texts
    assert "'@SUM(A1)" in texts
    assert not [text for text in texts if text[0] in "=+@"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("=1+1", "'=1+1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("'=x", "''=x"),
        ("＝x", "'＝x"),
        ("'x", "'x"),
        ("x=1", "x=1"),
        ("", ""),
        ("-0.5", "-0.5"),
        ("+1e-4", "+1e-4"),
        (-0.5, -0.5),
        (None, None),
    ],
)
def test_what_begins_like_a_formula(text: object, wanted: object) -> None:
    assert guarded(text) == wanted
    assert unguarded(guarded(text)) == text


def test_a_frame_comes_back_as_it_was(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"arm": ["=a", "-b", "c", None], "value": [-1.5, 2.0, float("nan"), 3.0], "@x": [1, 2, 3, 4]}
    )
    text = csv_of(frame)
    assert text.splitlines() == ["arm,value,'@x", "'=a,-1.5,1", "'-b,2.0,2", "c,,3", ",3.0,4"]
    (tmp_path / "frame.csv").write_text(text)
    pd.testing.assert_frame_equal(plain(pd.read_csv(tmp_path / "frame.csv")), frame, check_dtype=False)


def test_a_message_without_places() -> None:
    for text, wanted in (
        ("/home/me/x y/a.nii: bad", "…/x y/a.nii: bad"),
        ("no file '/data/la/1.h5', see ~/log.txt", "no file '…/1.h5', see …/log.txt"),
        (r"C:\Users\me\a.nii is cut", "…/a.nii is cut"),
        ("6/8 cases, 1/2 mm, a/b", "6/8 cases, 1/2 mm, a/b"),
        ("https://x.org/a/b", "https://x.org/a/b"),
        ("store/predict/12", "store/predict/12"),
    ):
        assert without_places(text) == wanted
