"""The whole report: golden tables, hostile names, missing and odd results."""

from __future__ import annotations

import base64
import contextlib
import csv
import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sfrbench.errors import InputError
from sfrbench.report import build, delivery
from sfrbench.report.build import build_report
from sfrbench.report.facts.volumes import MontageCase
from sfrbench.report.item import Context, Shown
from sfrbench.report.items.table import result as sections
from sfrbench.report.render.parts import Figure, Part
from sfrbench.results.grid import Missing
from tests.support.captions import check_page, faults
from tests.support.demos import ARMS, check_golden, demo, rows_of

TABLES = ("results", "results_per_class", "paper", "pairs", "ranks_dice", "pseudo_labels", "parameters")


@pytest.fixture(scope="module")
def built(small, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    made = build_report(small.frame, small.info, out)
    assert made[0] == out / "index.html"
    assert all(path.is_file() for path in made)
    return out


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", ["csv", "md", "tex"])
def test_tables_equal_the_golden_files(built, name, kind):
    check_golden(f"{name}.{kind}", (built / "tables" / f"{name}.{kind}").read_text(encoding="utf-8"))


def test_what_a_report_no_longer_shows_is_taken_away_and_nothing_else(small, tmp_path):
    first = build_report(
        small.frame, replace(small.info, items=[{"table": "results"}, {"kde": "dice"}]), tmp_path
    )
    own = [tmp_path / "tables" / "mine.csv", tmp_path / "figures" / "mine.png"]
    for path in own:
        path.write_text("kept")
    second = build_report(small.frame, replace(small.info, items=[{"table": "results"}]), tmp_path)
    gone = [path for path in first if path not in second]
    assert {path.suffix for path in gone} == {".png", ".svg"}
    assert not any(path.exists() for path in gone)
    assert all(path.is_file() for path in [*second, *own])


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_report_that_ends_early_leaves_the_one_before(small, tmp_path, monkeypatch, fault):
    """At its last file, when its tables are made."""
    folder, info = tmp_path / "report", replace(small.info, items=[{"table": "results"}])
    build_report(small.frame, info, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def ends(path: Path, _: str) -> None:
        if isinstance(fault, OSError):
            fault.filename = str(path)
        raise fault

    monkeypatch.setattr(build, "write_atomic", ends)
    other = small.frame.assign(value=small.frame["value"] / 2)
    with pytest.raises(type(fault)) as caught:
        build_report(other, info, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (folder / ".making").exists()
    if isinstance(fault, OSError):
        assert caught.value.filename == str(folder / "provenance.json")


@pytest.mark.parametrize("moves", [3, 6, 7])
def test_a_report_that_is_killed_between_its_moves_leaves_no_table_of_before(
    small, tmp_path, monkeypatch, moves
):
    """The next report takes away what the one before the killed one had."""
    folder, two = tmp_path / "report", [{"table": "results"}, {"kde": "dice"}]
    build_report(small.frame, replace(small.info, items=two), folder)
    one = replace(small.info, items=[{"table": "results"}])
    real, done = delivery._move, []

    def ends(path: Path, place: Path) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(place)
        real(path, place)

    monkeypatch.setattr(delivery, "_move", ends)
    with contextlib.suppress(KeyboardInterrupt):
        build_report(small.frame, one, folder)
    monkeypatch.setattr(delivery, "_move", real)
    made = build_report(small.frame, one, folder)
    assert {path for path in folder.rglob("*") if path.is_file()} == set(made)


@pytest.mark.parametrize("taken", ["tables", "tables/results.csv/x", "index.html/x", ".making"])
def test_what_lies_in_the_way_of_a_report_is_named_before_anything_is_replaced(small, tmp_path, taken):
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).write_text("mine")
    (tmp_path / "provenance.json").write_text("{}")
    with pytest.raises((FileExistsError, IsADirectoryError, NotADirectoryError)) as caught:
        build_report(small.frame, replace(small.info, items=[{"table": "results"}]), tmp_path)
    assert tmp_path in Path(caught.value.filename).parents or caught.value.filename == str(tmp_path)
    assert ".making" not in caught.value.filename
    assert (tmp_path / "provenance.json").read_text() == "{}"


def test_a_file_in_the_place_of_a_report_is_named(small, tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(NotADirectoryError) as caught:
        build_report(small.frame, small.info, tmp_path / "report")
    assert caught.value.filename == str(tmp_path / "report")


def test_links_in_a_report_are_followed_also_to_other_disks(small, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "tables").symlink_to(tmp_path / "other")
    (folder / "index.html").symlink_to(tmp_path / "page.html")
    real = os.replace

    def far(path: str | Path, place: str | Path) -> None:
        if ".making" in str(path) and tmp_path / "other" in Path(place).parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(path), None, str(place))
        real(path, place)

    monkeypatch.setattr(os, "replace", far)
    made = build_report(small.frame, replace(small.info, items=[{"table": "results"}]), folder)
    assert all(path.is_file() for path in made)
    assert (tmp_path / "other" / "results.csv").is_file()
    assert (folder / "index.html").is_symlink()
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!")
    assert not (folder / ".making").exists()


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([], "figure 'mine' has no file"),
        (["nowhere.png"], "has no file nowhere.png"),
        (["../../../mine.png"], "has no file mine.png"),
        (["deep/mine.png"], ""),
    ],
)
def test_figures_that_an_item_writes_by_itself(small, tmp_path, monkeypatch, files, what):
    """They and what lies beside them come along; where they are amiss, that is what stands in their place."""

    def part(item: object, context: Context) -> Part:
        (context.figures / "deep").mkdir(parents=True)
        for path in (context.figures / "deep" / "mine.png", tmp_path / "mine.png"):
            path.write_bytes(b"")
        (context.figures / "mine.dat").write_text("beside")
        named = tuple(context.figures / file for file in files)
        return Part(figures=[Figure("mine", "Mine", "Shown.", named, ())], behind={"mine": []})

    monkeypatch.setattr(build, "made", part)
    out = tmp_path / "report"
    build_report(small.frame, replace(small.info, items=[{"table": "results"}]), out)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert what in unescape(page) if what else "could not be made" not in page
    assert (out / "figures" / "deep" / "mine.png").is_file()
    assert (out / "figures" / "mine.dat").read_text() == "beside"


def test_the_numbers_are_those_of_pandas(built, small):
    """The same mean by another road: pandas' group means."""
    test = small.frame[(small.frame["subset"] == "test") & (small.frame["metric"] == "dice")]
    per_seed = test.groupby(["arm", "seed", "class"])["value"].mean().groupby(["arm", "seed"]).mean()
    with (built / "tables" / "results.csv").open(encoding="utf-8") as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    for arm in ("supervised", "mt", "sfr_mt"):
        assert rows[arm]["dice_mean"] == f"{per_seed[arm].mean():.2f}"
        assert rows[arm]["dice_std"] == f"{per_seed[arm].std(ddof=1):.2f}"
    assert rows["sfr_ft"]["dice_std"] == ""
    assert rows["sfr_ft"]["seeds"] == "1"
    assert "loss is not finite" in rows["sfr_ft"]["note"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def _page(out: Path) -> tuple[str, _Page]:
    text = (out / "index.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    return text, page


def test_the_page_needs_no_network_and_its_links_exist(built):
    text, page = _page(built)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(str(attrs["src"]).startswith("data:image/png;base64,") for attrs in images)
    assert not re.search(r"https?://", text)
    assert not [tag for tag, attrs in page.tags if tag == "iframe" or (tag == "script" and "src" in attrs)]
    assert [attrs["href"] for tag, attrs in page.tags if tag == "link"] == ["data:,"]
    anchors = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    for attrs in (attrs for tag, attrs in page.tags if tag == "a"):
        href = str(attrs["href"])
        if "download" in attrs:
            data = base64.b64decode(href.partition(";base64,")[2])
            assert data == (built / "tables" / str(attrs["download"])).read_bytes()
        else:
            assert href[1:] in anchors if href.startswith("#") else (built / href).is_file()


def test_every_number_leads_to_what_is_behind_it(built):
    text, page = _page(built)
    rows = {
        row["row"]: row for row in json.loads((built / "provenance.json").read_text())["shown"]["results"]
    }
    entries = re.findall(r"<tr id=(p\d+)><th scope=row>([^<]*)</th>(.*?)</tr>", text)
    known = {anchor: (name, rest) for anchor, name, rest in entries}
    name, rest = next(found for found in known.values() if found[0] == "SFR_MT" and "results" in found[1])
    assert all(f"evaluate/{key}" in rest for key in rows[name]["evaluate"])
    pair = next(rest for name, rest in known.values() if name == "SFR_MT − MT")
    assert all(f"evaluate/{key}" in pair for name in ("SFR_MT", "MT") for key in rows[name]["evaluate"])
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and attrs.get("class") == "src"]
    shown = "".join(re.findall(r"<figure class=table>.*?</figure>", text, re.DOTALL))
    numbers = re.findall(r"<td>(?:<a [^>]*>)?(?:<[bu]>)?(?:[+−]|&lt;)?\d", shown)
    assert len(links) == len(numbers) - 2 > 50  # two are of the paper (Parameters)
    assert {str(link)[1:] for link in links} <= known.keys()


def test_the_page_says_what_is_scaled_down_missing_flagged_and_reused(built):
    text, _ = _page(built)
    for said in (
        "Profile cpu: scaled down, not comparable",
        "1 cell has no result",
        "finetune-3f9c81aa/log.txt",
        "has no effect",
        "8 cells share 21 nodes",
        "reuse finetune 3f9c81aa same key",
        "a class absent from the truth is left out",
    ):
        assert said in text


def test_every_caption_is_one_short_sentence(built):
    """Those of the page, and in the files of the tables; a long one is found out."""
    assert check_page(built / "index.html") == 12
    for file in sorted((built / "tables").glob("*.md")):
        caption = re.sub(r"^\*\*.*?\*\* ", "", file.read_text(encoding="utf-8").splitlines()[0])
        assert not faults(caption), (file.name, caption)
    assert faults("Mean over test cases. n: cases.") == ["2 sentences"]
    assert faults("Mean over 20 seeds. Best in bold.") == ["2 sentences"]
    assert faults(" ".join(["word"] * 31) + ".") == ["31 words"]


def test_a_rule_stands_once_on_the_page_and_in_every_file_that_needs_it(built):
    """Shared by sections at the top, shared by tables of one section at its top, else under its table."""
    text, _ = _page(built)
    head, _, main = text.partition("<main>")
    arrows, protocol = "↑ larger is better", "a class absent from the truth is left out"
    bold, brackets = "Best in bold, second underlined", "In brackets: mean paired difference"
    paired, costs = "and none where it would say next to nothing", "what else the machine did then"
    for rule in (arrows, protocol):
        assert (head.count(rule), main.count(rule)) == (1, 0), rule
    sections = re.findall(r"<section id=s\d+>.*?</section>", main, re.DOTALL)
    for rule in (bold, brackets):
        assert (text.count(rule), sections[0].partition("<figure")[0].count(rule)) == (1, 1), rule
    for rule in (paired, costs):
        assert text.count(rule) == 1, rule
        assert re.search(rf"</table></div><ul class=notes>(?:(?!</ul>).)*{rule}", text), rule
    files = {file.name: file.read_text(encoding="utf-8") for file in (built / "tables").iterdir()}
    for kind in ("md", "tex"):
        assert protocol in files[f"results.{kind}"]
        assert protocol in files[f"pairs.{kind}"]
        assert all(rule in files[f"paper.{kind}"] for rule in (bold, brackets, costs, protocol))
    assert files["paper.tex"].index(r"\end{tabular}") < files["paper.tex"].index(costs)
    assert costs not in files["paper.tex"].partition(r"\caption")[2].splitlines()[0]


def test_provenance_names_the_cells_behind_each_row(built):
    whole = json.loads((built / "provenance.json").read_text(encoding="utf-8"))
    assert whole["git_commit"] == "3d89ad5"
    row = next(row for row in whole["shown"]["results"] if row["arm"] == "sfr_ft")
    assert row["cells"] == {"0": "sfr_ft-0"}
    assert row["evaluate"] == ["ksfr_ft-0"]
    assert "1" in row["missing"]
    assert {"results", "pairs", "pseudo_labels", "kde_dice", "montage"} <= whole["shown"].keys()


def test_equal_input_gives_equal_files(small, built, tmp_path):
    build_report(small.frame, small.info, tmp_path)
    files = [path.relative_to(built) for path in built.rglob("*") if path.is_file()]
    assert len(files) == 34
    assert [name for name in files if (tmp_path / name).read_bytes() != (built / name).read_bytes()] == []


def test_hostile_names_are_text_and_stay_inside(small, tmp_path):
    evil = "<script>alert(1)</script>"
    frame = small.frame.copy()
    frame["class"] = frame["class"].replace({"anterior": r"A&B_50%$x^2~{\a}#|*"})
    frame["case"] = frame["case"].replace({"case_009": "../../escape"})
    arms = tuple((name, f"{evil} {label}") for name, label in small.info.arms)
    info = replace(
        small.info,
        title=evil,
        arms=arms,
        description=evil,
        flags=(evil,),
        items=({"table": "../../out", "metrics": ["dice"]}, {"kde": "dice"}, {"montage": 3}),
        montage=lambda cell, case, subset: MontageCase(*[lambda: np.ones((6, 6, 3), np.uint8)] * 3),
    )
    out = tmp_path / "deep" / "out"
    build_report(frame, info, out)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and out not in path.parents]
    assert outside == []
    text, page = _page(out)
    assert "<script>alert" not in text
    assert {attrs.get("type", "ours") for tag, attrs in page.tags if tag == "script"} == {
        "application/json",
        "ours",
    }
    tex = (out / "tables" / "out_per_class.tex").read_text(encoding="utf-8")
    assert r"A\&B\_50\%\$x\textasciicircum{}2\textasciitilde{}\{\textbackslash{}a\}\#\textbar{}{*}" in tex
    markdown = (out / "tables" / "out_per_class.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert r"\#\|\*" in markdown


def test_without_any_result_every_arm_stays_with_its_reason(small, tmp_path):
    frame = small.frame.iloc[:0]
    missing = [Missing(arm, {}, seed, "not run yet") for arm, _ in small.info.arms for seed in (0, 1)]
    build_report(frame, replace(small.info, missing=missing, reuse=None), tmp_path)
    table = (tmp_path / "tables" / "results.md").read_text(encoding="utf-8")
    for _, label in small.info.arms:
        assert label.replace("_", r"\_") in table
    assert "no seed has a result: not run yet" in table
    assert "0.00" not in table
    assert "nan" not in table


def test_a_frame_without_columns_is_a_report_too(small, tmp_path):
    from sfrbench.results.frame import COLUMNS

    build_report(pd.DataFrame(columns=list(COLUMNS)), small.info, tmp_path)
    assert "No prediction or no volume" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_values_that_are_not_scored_are_counted(small):
    frame = small.frame.copy()
    lost = (frame["arm"] == "mt") & (frame["case"] == "case_001") & (frame["subset"] == "test")
    frame.loc[lost, "value"] = np.nan
    (table, _), _ = sections.result_tables(frame, small.info, "results", Shown(), "results")
    counts = {row[0].text: row[-1].text for row in table.rows}
    assert table.columns[-1] == "not scored"
    assert counts == {"V-Net (LB)": "0", "MT": "4", "SFR_FT": "0", "SFR_MT": "0"}


def test_empty_predictions_are_marked_where_they_score_as_perfect(small):
    info = replace(small.info, protocol="paper", protocol_fields={"empty": "paper_zero"})
    frame = small.frame.assign(value=small.frame["value"].where(~small.frame["empty_pred"], 0.0))
    (table, _), _ = sections.result_tables(frame, info, "results", Shown(), "results")
    row = next(row for row in table.rows if row[0].text == "V-Net (LB)")
    assert row[-1].text == "2"
    assert any("best possible" in text for mark, text in table.notes if mark in row[0].marks)


def test_a_table_without_distances_says_nothing_of_them(small):
    info = replace(small.info, protocol="paper", protocol_fields={"empty": "paper_zero"})
    frame = small.frame.assign(value=small.frame["value"].where(~small.frame["empty_pred"], 0.0))
    for metrics, told in ((["dice", "jaccard"], False), (["dice", "hd95"], True)):
        (table, per_class, *_), _ = sections.result_tables(frame, info, "results", Shown(metrics), "results")
        assert any("best possible" in text for _, text in table.notes) == told
        assert not any("best possible" in text for _, text in per_class.notes)  # of Dice


@pytest.mark.parametrize(
    ("title", "name", "shown"),
    [
        ("Two labels", "results", "Two labels."),
        ("Do two help?", "results", "Do two help?"),
        ("Do two help?", "main", "Do two help?: main."),
    ],
)
def test_a_title_ends_with_one_mark(small, title, name, shown):
    (table, *_), _ = sections.result_tables(
        small.frame, replace(small.info, title=title), name, Shown(), name
    )
    assert table.title == shown


def test_the_best_is_bold_and_an_incomplete_line_takes_no_part(small):
    frame = small.frame.copy()
    frame.loc[(frame["arm"] == "sfr_ft") & (frame["metric"] == "dice"), "value"] = 99.0
    (table, _), _ = sections.result_tables(frame, small.info, "results", Shown(), "results")
    ranks = {row[0].text: [entry.rank for entry in row[1:5]] for row in table.rows}
    assert ranks["SFR_FT"] == [0, 0, 0, 0]
    assert ranks["SFR_MT"] == [1, 1, 1, 1]
    assert ranks["MT"] == [2, 2, 2, 2]


def test_two_values_for_one_place_are_refused(small):
    frame = pd.concat([small.frame, small.frame.iloc[:1]])
    with pytest.raises(InputError, match="two values of dice for arm supervised"):
        sections.result_tables(frame, small.info, "results", Shown(), "results")


def test_an_unknown_item_is_refused(small, tmp_path):
    with pytest.raises(InputError, match="exactly one of"):
        build_report(small.frame, replace(small.info, items=({"tabel": "x"},)), tmp_path)


def test_the_report_imports_no_torch():
    code = (
        "import sys, sfrbench.report.build; "
        "print([m for m in ('torch', 'mlflow', 'peft', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "[]\n"


def test_lines_of_several_datasets_have_their_own_classes(tmp_path):
    """Means are over the classes of each dataset, and its lines are ranked among themselves."""
    sets = {"la": (("atrium",), 90.0), "btcv": (("liver", "spleen"), 40.0)}
    rows = [
        row
        for dataset, (classes, level) in sets.items()
        for arm, more in (("mt", 0), ("sfr_mt", 5))
        for row in rows_of(arm, 0, level + more, classes=classes, dataset=dataset)
    ]
    arms = [entry for entry in ARMS if entry[0] in ("mt", "sfr_mt")]
    changes = {"arms": arms, "axes": {"dataset": tuple(sets)}, "seeds": (0,), "montage": None, "counted": ()}
    info = replace(demo().info, items=({"table": "results", "rows": "dataset"},), missing=(), **changes)
    build_report(pd.DataFrame(rows), info, tmp_path)
    with (tmp_path / "tables" / "results_per_class.csv").open(encoding="utf-8") as stream:
        found = {(row["dataset"], row["arm"]): row for row in csv.DictReader(stream)}
    assert found["la", "mt"]["AVG_mean"] == found["la", "mt"]["atrium_mean"] != ""
    assert found["la", "mt"]["liver_mean"] == found["btcv", "mt"]["atrium_mean"] == ""
    liver, spleen = (float(found["btcv", "mt"][f"{name}_mean"]) for name in ("liver", "spleen"))
    assert abs(float(found["btcv", "mt"]["AVG_mean"]) - (liver + spleen) / 2) < 0.02
    markdown = (tmp_path / "tables" / "results.md").read_text(encoding="utf-8")
    assert "then unweighted over the classes of each dataset" in markdown
    assert "among lines of a dataset" in markdown
    for dataset in sets:
        assert f"| {dataset} | SFR\\_MT | **" in markdown
        assert f"| {dataset} | MT | <u>" in markdown


def test_what_was_set_by_hand_stands_on_the_page(small, built, tmp_path):
    """The specification alone would not give these numbers."""
    info = replace(small.info, overridden=("ssl.steps=1", "backbone.precision=<bf16>"))
    build_report(small.frame, info, tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    told = "<code>ssl.steps=1</code>, <code>backbone.precision=&lt;bf16&gt;</code>"
    assert f"<b>Not as specified:</b> --set {told}." in text
    assert "Not as specified" not in (built / "index.html").read_text(encoding="utf-8")
