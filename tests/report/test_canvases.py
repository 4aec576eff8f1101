"""Canvases in a report: what they show, and what is said where there are none."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from sfrbench.report.build import build_report
from sfrbench.report.facts.canvases import through
from sfrbench.report.facts.info import Canvas
from sfrbench.report.items.canvases.figure import canvases_figure
from sfrbench.report.render.page import _picture
from tests.support.captions import faults


def canvas(role: str, rng: np.random.Generator, side: int = 64) -> Canvas:
    truth = np.zeros((side, side), np.uint8)
    truth[10:30, 10:30] = 1
    maps = {"truth": truth} | ({"prediction": np.roll(truth, 4, 1)} if role != "train" else {})
    image = rng.integers(0, 255, (1, side, side)).astype(np.uint8)
    return Canvas(f"case_<{role}>", role, 1, 3, image, maps)


def of(cell: str) -> list[Canvas]:
    rng = np.random.default_rng(0)
    return [] if cell.startswith("mt") else [canvas("train", rng), canvas("test", rng), canvas("test", rng)]


def test_each_arm_with_canvases_has_a_row(small, tmp_path):
    info = replace(small.info, canvases=of)
    figure = canvases_figure(small.frame, info, "canvases", tmp_path)
    assert figure is not None
    assert [line.arm for line in figure.lines] == ["supervised", "sfr_ft", "sfr_mt"]
    assert "3 of 4 lines" in figure.notes[-1]
    assert "SAM's own" in figure.notes[1]
    assert not faults(figure.caption)
    svg = (tmp_path / "canvases.svg").read_text(encoding="utf-8")
    for said in ("training, canvas 2 of 3", "test, canvas 2 of 3", "missed", "added"):
        assert f"<!-- {said}" in svg


def test_without_canvases_the_report_says_so(small, tmp_path):
    for known in (None, lambda cell: []):
        info = replace(small.info, canvases=known, items=({"canvases": 1},))
        page = build_report(small.frame, info, tmp_path)[0]
        assert "run the experiment once more" in page.read_text(encoding="utf-8")


def test_a_heavy_picture_travels_as_jpeg(tmp_path):
    rng = np.random.default_rng(0)
    for side, kind in ((100, "png"), (800, "jpeg")):
        path = tmp_path / f"{side}.png"
        Image.fromarray(rng.integers(0, 255, (side, side), np.uint8)).save(path)
        start, _, data = _picture(path).partition(";base64,")
        assert start == f"data:image/{kind}"
        assert Image.open(BytesIO(base64.b64decode(data))).size == (side, side)


def test_a_label_map_is_looked_up_voxel_by_voxel():
    volume = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(through(volume, np.array([[-1, 5], [23, 0]])), [[0, 5], [23, 0]])
