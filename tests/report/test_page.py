"""The page in a real browser: tables, viewer and dialog work, nothing complains, nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sfrbench.report.build import build_report
from sfrbench.report.facts.volumes import MontageCase
from sfrbench.report.items.montage import viewer
from sfrbench.report.render.page import embedded
from tests.support.browser import Browser, needs_browser
from tests.support.demos import Demo

EVIL = "</script><script>window.evil=1</script><img src=x onerror='window.evil=1'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    one = Browser(tmp_path_factory.mktemp("browser"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def page(small, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page")
    return build_report(small.frame, small.info, out)[0]


def column(browser: Browser, index: int) -> list[str]:
    script = (
        f"[...document.querySelectorAll('table')[0].tBodies[0].rows].map(r => r.cells[{index}].innerText)"
    )
    return [text.rstrip("†‡§¶") for text in browser.run(script)]


def press(browser: Browser, index: int) -> str | None:
    """Click the head of a column of the first table; what it then says of its order."""
    head = f"document.querySelectorAll('table')[0].tHead.rows[0].cells[{index}]"
    browser.run(f"{head}.querySelector('button').click()")
    return browser.run(f"{head}.ariaSort")


@needs_browser
def test_tables_sort_by_value_and_filter(page, browser):
    browser.open(page)
    assert column(browser, 0) == ["V-Net (LB)", "MT", "SFR_FT", "SFR_MT"]
    assert press(browser, 1) == "descending"  # of Dice, more is better
    assert column(browser, 0)[0] == "SFR_MT"
    assert press(browser, 1) == "ascending"
    values = [float(text.split(" ±")[0]) for text in column(browser, 1)]
    assert values == sorted(values)
    assert press(browser, 1) is None
    assert column(browser, 0) == ["V-Net (LB)", "MT", "SFR_FT", "SFR_MT"]
    browser.run("document.querySelector('.sort').focus()")  # by keyboard
    browser.key("Enter", 13, "\r")
    assert column(browser, 0) == ["MT", "SFR_FT", "SFR_MT", "V-Net (LB)"]
    box = "document.querySelector('input[type=search]')"
    browser.run(f"{box}.value = 'sfr mt'; {box}.dispatchEvent(new Event('input'))")
    script = "[...document.querySelectorAll('table')[0].tBodies[0].rows].filter(r => !r.hidden).length"
    assert browser.run(script) == 1
    assert browser.run(f"{box}.closest('.controls').innerText").endswith("1 of 4 rows")
    assert (browser.complaints, browser.fetched()) == ([], [])


@needs_browser
def test_numbers_are_sorted_as_numbers_and_dashes_come_last(page, browser, tmp_path):
    texts = ["9.50 ± 0.10", "—", "10.25 ± 9.00", "<0.001", "−2.00", "3,931,374", "—", "1e-3"]
    rows = "".join(f"<tr><th scope=row>r{i}</th><td>{text}</td></tr>" for i, text in enumerate(texts))
    whole = page.read_text(encoding="utf-8")
    start, end = whole.index("<tbody>"), whole.index("</tbody>")
    (tmp_path / "index.html").write_text(whole[:start] + f"<tbody>{rows}" + whole[end:], encoding="utf-8")
    browser.open(tmp_path / "index.html")
    up = ["−2.00", "<0.001", "1e-3", "9.50 ± 0.10", "10.25 ± 9.00", "3,931,374"]
    press(browser, 1)
    assert column(browser, 1) == [*reversed(up), "—", "—"]
    press(browser, 1)
    assert column(browser, 1) == [*up, "—", "—"]


@needs_browser
def test_the_viewer_goes_through_slices_and_cases(page, browser):
    browser.open(page)
    browser.wait("document.querySelector('.viewer').dataset.ready === '0'")
    z = "Number(document.querySelector('.viewer canvas').dataset.slice)"
    first = browser.run(z)
    browser.run("document.querySelector('.stage').focus()")
    browser.key("ArrowUp", 38)
    assert browser.run(z) == first + 1
    browser.key("Home", 36)
    assert browser.run(z) == 0
    canvas = "document.querySelector('.viewer canvas')"
    browser.run(f"{canvas}.scrollIntoView({{block: 'center'}})")
    box = browser.run(f"JSON.stringify({canvas}.getBoundingClientRect())")
    at = {"x": json.loads(box)["x"] + 20, "y": json.loads(box)["y"] + 20}
    browser.call("Input.dispatchMouseEvent", type="mouseWheel", deltaX=0, deltaY=100, **at)
    browser.wait(f"{z} === 1")
    slider = "document.querySelector('.viewer input[type=range]')"
    browser.run(f"{slider}.value = {first}; {slider}.dispatchEvent(new Event('input'))")
    assert browser.run(z) == first
    assert browser.run("document.querySelectorAll('.viewer')[0].querySelectorAll('canvas').length") == 4
    picture = "document.querySelector('.viewer canvas').toDataURL()"
    before = browser.run(picture)
    browser.key("e", 69, "e")
    with_errors = browser.run(picture)
    browser.key("p", 80, "p")
    assert len({before, with_errors, browser.run(picture)}) == 3
    choice = "document.querySelector('.viewer select')"
    browser.run(f"{choice}.value = '2'; {choice}.dispatchEvent(new Event('change'))")
    browser.wait("document.querySelector('.viewer').dataset.ready === '2'")
    assert browser.run(f"{choice}.selectedOptions[0].text").startswith("worst: case_")
    assert (browser.complaints, browser.fetched()) == ([], [])


@needs_browser
def test_figures_open_large_and_numbers_lead_to_their_cells(page, browser):
    browser.open(page)
    browser.run("document.querySelector('.zoom').focus()")
    browser.key("Enter", 13, "\r")
    assert browser.run("document.querySelector('dialog').open")
    browser.key("Escape", 27)
    browser.wait("!document.querySelector('dialog').open")
    assert browser.run("document.activeElement.className") == "zoom"
    browser.run("document.querySelector('a.src').focus()")
    browser.run("scrollBy(0, 30), new Promise(done => setTimeout(done, 100))")  # it stays beside its number
    assert "supervised-0" in browser.run("document.querySelector('#tip').innerText")
    box = "document.querySelector('{}').getBoundingClientRect()"
    assert 0 < browser.run(f"{box.format('#tip')}.top - {box.format('a.src')}.bottom") < 10
    browser.key("Enter", 13, "\r")
    browser.wait("location.hash !== ''")
    entry = browser.run("document.querySelector(location.hash).innerText")
    assert "V-Net (LB)" in entry
    assert "evaluate/ksupervised-1" in entry
    assert (browser.complaints, browser.fetched()) == ([], [])


@needs_browser
def test_a_phone_and_paper_need_no_sideways_scrolling(page, browser):
    browser.open(page, width=360, height=740)
    assert browser.run("document.documentElement.scrollWidth") == 360
    sticky = "getComputedStyle(document.querySelector('tbody th')).position"
    assert browser.run(sticky) == "sticky"
    browser.call("Emulation.setEmulatedMedia", media="print")
    every = "[...document.querySelectorAll('{}')].every(e => getComputedStyle(e).{} === '{}')"
    assert browser.run(every.format(".controls, nav", "display", "none"))
    assert browser.run(every.format(".wide", "overflowX", "visible"))
    browser.call("Emulation.setEmulatedMedia", media="")


def _wide(demo: Demo, folder: Path) -> Path:
    """A page whose first table is too wide for any screen: thirty organs."""
    dice = demo.frame[(demo.frame["metric"] == "dice") & (demo.frame["subset"] == "test")]
    one = dice[dice["class"] == "anterior"]
    organs = [one.assign(**{"class": f"organ number {index}"}) for index in range(30)]
    info = replace(demo.info, items=({"table": "results", "metrics": ["dice"]},), montage=None)
    return build_report(pd.concat(organs), info, folder)[0]


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1600, False), (1600, True), (390, False), (390, True)])
def test_a_wide_table_keeps_its_first_column_in_sight(small, tmp_path, browser, width, dark):
    """Scrolled to its end, the names still stand at the left edge, over what lies beneath, on every row."""
    browser.open(_wide(small, tmp_path), width=width, height=800, dark=dark)
    box = "[...document.querySelectorAll('.wide')].find(one => one.scrollWidth > one.clientWidth + 500)"
    browser.run(f"window.box = {box}; box.scrollIntoView({{block: 'center'}}); box.scrollLeft = 1e6")
    assert browser.run("box.scrollLeft") > 500
    names = browser.run("[...box.querySelectorAll('tr')].map(row => row.cells[0].innerText.trim())")
    assert [name.rstrip("†‡") for name in names] == ["Method", "V-Net (LB)", "MT", "SFR_FT", "SFR_MT"]
    seen = """[...box.querySelectorAll('tr')].map(row => {
      const cell = row.cells[0], at = cell.getBoundingClientRect(), edge = box.getBoundingClientRect();
      const top = document.elementFromPoint(at.right - 4, (at.top + at.bottom) / 2);
      const colour = getComputedStyle(cell).backgroundColor;
      return [Math.round(at.left - edge.left), cell.contains(top), colour !== 'rgba(0, 0, 0, 0)',
              at.width < edge.width / 2];
    })"""
    assert browser.run(seen) == [[0, True, True, True]] * 5
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run("getComputedStyle(box.querySelector('th')).position") == "static"
    browser.call("Emulation.setEmulatedMedia", media="")


@needs_browser
def test_without_scripts_the_page_is_whole(page, browser):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run("document.querySelectorAll('button, input, dialog').length") == 0
    assert "Where scripts run" in browser.run("document.querySelector('.viewer').innerText")
    assert browser.run("document.querySelector('tbody tr').title").startswith("V-Net (LB): cells seed 0")
    assert browser.complaints == []


@needs_browser
def test_hostile_names_run_nothing(small, tmp_path, browser):
    """The case ids, labels and classes of a specification that means harm."""
    frame = small.frame.copy()
    frame["case"] = frame["case"] + EVIL
    frame["class"] = frame["class"] + EVIL
    info = replace(
        small.info,
        title=EVIL,
        flags=(EVIL,),
        arms=tuple((name, label + EVIL) for name, label in small.info.arms),
        environment={EVIL: EVIL},
        montage=lambda cell, case, subset: small.info.montage(cell, case.removesuffix(EVIL), subset),
        provenance={"nodes": {f"mt-0{EVIL}": {EVIL: EVIL}}},
    )
    build_report(frame, info, tmp_path)
    browser.open(tmp_path / "index.html")
    browser.wait("document.querySelectorAll('.viewer')[1].dataset.ready === '0'")
    assert browser.run("typeof window.evil") == "undefined"
    assert browser.run("document.querySelectorAll('script:not([type])').length") == 1
    assert browser.run("document.querySelectorAll('img[onerror]').length") == 0
    assert "onerror" in browser.run("document.querySelector('.viewer select').innerText")
    assert (browser.complaints, browser.fetched()) == ([], [])


@needs_browser
def test_the_policy_stops_what_is_not_ours(page, tmp_path, browser):
    """A script that got in all the same would not run, and could not fetch."""
    bad = "<script>window.evil=1</script><img src='http://127.0.0.1:9/x.png'>"
    text = page.read_text(encoding="utf-8").replace("<main>", f"<main>{bad}", 1)
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "index.html")
    assert browser.run("typeof window.evil") == "undefined"
    assert sum("Content Security Policy" in said for said in browser.complaints) == 2


def test_embedded_json_cannot_end_its_script():
    text = embedded({EVIL: ["&amp;", "\u2028", "<!--"]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {EVIL: ["&amp;", "\u2028", "<!--"]}


def _noise(shape: tuple[int, int, int]) -> MontageCase:
    rng = np.random.default_rng(0)
    truth = np.zeros(shape, np.uint8)
    truth[20:-20, 20:-20, 5:-5] = 1
    truth[20:-20, 20:-20, shape[2] // 2] = 2
    return MontageCase(lambda: rng.normal(size=shape), lambda: truth, lambda: np.roll(truth, 3, 0))


def test_the_sheets_give_the_volumes_back():
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    case = _noise((60, 50, 20))
    data = viewer.slices(
        [("best", "a")], [[viewer.Panel("MT", "Dice 1", case), viewer.Panel("x", "—", None)]]
    )
    assert data is not None
    panel, empty = data["cases"][0]["panels"]
    assert "image" not in empty
    assert data["said"].startswith("Every slice")
    box = (slice(14, 49), slice(14, 36), slice(3, 17))  # labels and prediction, and the margin
    assert (panel["width"], panel["height"], panel["slices"], panel["first"]) == (35, 22, 14, 3)
    sheet = np.asarray(Image.open(BytesIO(b64decode(data["sheets"][panel["prediction"]].partition(",")[2]))))
    for z in range(panel["slices"]):
        row, col = divmod(z, panel["columns"])
        part = sheet[row * 22 : (row + 1) * 22, col * 35 : (col + 1) * 35]
        np.testing.assert_array_equal(part[::-1].T, case.prediction()[box][:, :, z])


def test_large_volumes_are_stepped_so_that_the_page_stays_small(monkeypatch):
    monkeypatch.setattr(viewer, "LIMIT", 60_000)
    data = viewer.slices([("best", "a")], [[viewer.Panel("MT", "", _noise((120, 110, 41)))]])
    assert data is not None
    assert sum(map(len, data["sheets"])) <= 60_000
    panel = data["cases"][0]["panels"][0]
    assert panel["step"] > 1
    assert f"One slice in {panel['step']}" in data["said"]
    assert "with loss" in data["said"]
    assert panel["first"] + panel["start"] * panel["step"] == 5  # the slice with most truth, here the first
