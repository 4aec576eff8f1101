"""What is sent away: no folder, user or host of the machine; no formula; the rules of every protocol."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import socket
import struct
import zlib
from pathlib import Path

import pandas as pd
import pytest

from sfrbench.files.private import without_places
from sfrbench.files.sheets import csv_of, guarded, plain, unguarded
from sfrbench.report.notebook import PACKAGES
from tests.support.data_writers import write_decathlon
from tests.support.loaded import Process
from tests.support.runs import QUIET, environment

SPEC = """\
title: Two protocols
dataset: {name: decathlon, labeled: 1, unlabeled: 1}
base: {finetune: lora, foundation: sam_toy, stitch: grid, backbone: vnet, ssl: supervised, ssl.steps: 2}
arms:
  - {name: lb, label: "=1+1"}
  - {name: "-bad", label: "@SUM(A1)", stages: [finetune, predict, evaluate], foundation.canvas: 100}
axes: {protocol: [paper, strict]}
report: [{table: results, metrics: [dice]}, {pairs: [[lb, "-bad"]]}, {montage: 1}, {kde: dice}]
profiles: {smoke: {replace: {dataset: decathlon}, dataset.test_cases: 2}}
"""
USER, HOST = "zaphodx", "heartofgoldx"
#: What is embedded as base64, in one line or, in a notebook, in several.
PACKED = re.compile(r"(?:[A-Za-z0-9+/]|\\n){120,}={0,2}")


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, one arm of which fails, with data, a workspace, a home and a registry of telling names, its
    report and its notebook."""
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
    root = write_decathlon(home / "own data")
    options = ["--profile=smoke", f"--workspace={home}/runs", f"--registry={home}/own"]
    options += [f"--data=decathlon={root}"]
    for command in (["run", *QUIET], ["report", "--notebook", f"--out={home}/page"]):
        process = Process(
            command[0], str(home / "spec.yaml"), *command[1:], *options,
            cwd=home, env={**environment(), **places},
        )  # fmt: skip
        said = process.communicate(timeout=300)
        assert process.returncode == (command[0] == "run"), said
    return home / "page"


def said_in(path: Path) -> str:
    """The text of a file, what its embedded pictures say included."""
    if path.suffix == ".png":
        return said_in_png(path.read_bytes())
    return PACKED.sub(_unpacked, path.read_text(encoding="utf-8"))


def _unpacked(found: re.Match[str]) -> str:
    """The words of what is embedded as base64; its pixels and voxels have none."""
    text = found[0].replace("\\n", "")
    data = base64.b64decode(text[: len(text) // 4 * 4])
    if data.startswith(b"\x89PNG"):
        return said_in_png(data)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def said_in_png(data: bytes) -> str:
    """What a picture says beside its pixels: every other chunk, texts unpacked. Raises where it is cut."""
    place, said = 8, []
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        chunk = data[place + 8 : place + 8 + length]
        if kind in (b"zTXt", b"iTXt", b"iCCP"):  # a stream of zlib stands somewhere behind the name
            name, _, rest = chunk.partition(b"\0")
            packed = rest.find(b"\x78")
            chunk = name + b" " + (zlib.decompress(rest[packed:]) if packed >= 0 else rest)
        if kind != b"IDAT":
            said.append(f"{kind!r} {chunk.decode('utf-8', 'replace')}")
        place += 12 + length
    return "\n".join(said)


def test_what_a_picture_says_is_found(tmp_path: Path) -> None:
    from PIL import Image, PngImagePlugin

    texts = PngImagePlugin.PngInfo()
    texts.add_text("plain", f"/home/{USER}/a")
    texts.add_text("packed", f"by {HOST} " * 9, zip=True)
    texts.add_itxt("other", f"/data/{USER}/b", zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "x.png", pnginfo=texts)
    said = said_in(tmp_path / "x.png")
    packed = base64.b64encode((tmp_path / "x.png").read_bytes()).decode()
    (tmp_path / "x.html").write_text(f'<img src="data:image/png;base64,{packed}">')
    assert said in said_in(tmp_path / "x.html")
    for text in (f"/home/{USER}/a", f"by {HOST} ", f"/data/{USER}/b"):
        assert text in said


def test_a_report_names_no_place_of_the_machine(sent: Path) -> None:
    whole = [path for path in sent.rglob("*") if path.is_file()]
    assert {"index.html", "provenance.json", "report.ipynb", "spec.yaml"} <= {path.name for path in whole}
    assert {".png", ".svg", ".csv", ".tex", ".md"} <= {path.suffix for path in whole}
    for path in whole:
        text = said_in(path)
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
