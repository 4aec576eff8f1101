"""A report from a tidy frame: index.html, tables, figures, provenance.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from sfrbench.errors import InputError
from sfrbench.files.atomic import write_atomic
from sfrbench.report import (
    canvases,
    confidence,
    curves,
    features,
    features_plot,
    features_tables,
    html,
    kde,
    montage,
    pairs,
    parameters,
    published_item,
    rank_diagram,
    rank_table,
    ranks,
    round_tables,
    rounds,
    sections,
    study,
    tables,
)
from sfrbench.report.curves import Figure
from sfrbench.report.info import Part, ReportInfo
from sfrbench.report.results import METRICS, subset_of
from sfrbench.report.style import safe_name
from sfrbench.spec.model import ITEMS, FeaturesItem

#: What stands over each kind of item.
HEADINGS: Mapping[str, str] = {
    "table": "Results",
    "published": "Published and reproduced",
    "curve": "Curve",
    "kde": "Per-case scores",
    "confidence": "Confidence and quality",
    "montage": "Slices",
    "pairs": "Paired differences",
    "pseudo_labels": "Pseudo-labels",
    "parameters": "Parameters",
    "rounds": "Rounds",
    "ranks": "Ranks",
    "features": "Features of labelled and unlabelled cases",
    "canvases": "Canvases",
    "search": study.HEADING,
}


class Traced(Protocol):
    """A row or a line that can say what it stands on."""

    def behind(self) -> dict[str, Any]: ...


Behind = dict[str, Sequence[Traced]]  # name of a table or figure -> its rows


def build_report(frame: pd.DataFrame, info: ReportInfo, out: Path) -> list[Path]:
    """Write the report into ``out`` and return every file, ``index.html`` first.

    ``frame`` is the tidy frame (one row per cell, case, class and metric). Other files in ``out`` are left
    alone. Raises ``InputError`` for an item of an unknown kind and for rows that contradict each other.
    """
    out.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    parts: list[Part] = []
    shown: Behind = {}
    names = Names()
    for item in info.shown:
        part, behind = item_part(frame, info, item, names, out)
        parts.append(part)
        for table in part.tables:
            made += tables.write(table, out / "tables")
        made += [path for figure in part.figures for path in figure.files]
        shown |= behind
    facts = {name: [row.behind() for row in rows] for name, rows in shown.items()}
    provenance = out / "provenance.json"
    write_atomic(provenance, _provenance(info, facts))
    page = out / "index.html"
    write_atomic(page, html.page(info, parts, facts, out))
    return [page, *made, provenance]


class Names:
    """File names, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, wanted: str) -> str:
        name = base = safe_name(wanted)
        count = 1
        while name.lower() in self._given or name.lower().removesuffix("_per_class") in self._given:
            count += 1
            name = f"{base}_{count}"
        self._given.add(name.lower())
        return name


def kind_of(item: Mapping[str, Any]) -> str:
    """What an item shows, one of ``ITEMS`` or 'search'. Raises ``InputError`` where it is not one thing."""
    kinds = [kind for kind in (*ITEMS, "search") if item.get(kind) is not None]
    if len(kinds) != 1:
        raise InputError(f"a report item needs exactly one of {', '.join(ITEMS)}: {dict(item)}")
    return kinds[0]


def heading_of(item: Mapping[str, Any]) -> str:
    """What stands over an item in the report."""
    return HEADINGS["confidence" if item.get("kde") == "confidence" else kind_of(item)]


def item_part(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], names: Names, out: Path
) -> tuple[Part, Behind]:
    """One item, and the lines behind each of its tables and figures; figures go to ``out / "figures"``."""
    kind, heading = kind_of(item), heading_of(item)
    if kind == "search":
        return study.study_part(info, names.new, out / "figures"), {}
    if item.get("arms"):
        frame = frame[frame["arm"].isin(item["arms"])]
        info = info.only(item["arms"])
    if kind == "published":
        made, behind = published_item.published_part(frame, info, item, names.new(str(item["published"])))
        return Part(heading, tables=made), {**behind}
    if kind in ("table", "pairs", "pseudo_labels", "parameters", "rounds"):
        return _table_part(frame, info, item, names)
    folder = out / "figures"
    if kind == "ranks":
        return _ranks_part(frame, info, item, names.new(f"ranks_{item['ranks']}"), folder)
    if kind == "curve":
        name = names.new(f"curve_{item['curve']['y']}_{item['curve']['x']}")
        return _figure_part(heading, curves.curve_figure(frame, info, item, name, folder))
    if kind == "features":
        return _features_part(info, FeaturesItem.model_validate(item["features"]), names, folder)
    if kind == "kde" and item["kde"] == "confidence":
        figure, rows = confidence.confidence_figure(frame, info, names.new("confidence"), folder)
        if figure is None:
            known = "No unlabelled case has a label to compare with." if info.rounds and info.unscored else ""
            return Part(heading, remark=known or "No round of SFR+ has run."), {}
        return Part(heading, figures=[figure]), {figure.name: rows}
    if kind == "kde":
        name = names.new(f"kde_{item['kde']}")
        return _figure_part(heading, kde.kde_figure(frame, info, item, name, folder))
    if kind == "canvases":
        figure = canvases.canvases_figure(frame, info, item, names.new("canvases"), folder)
        if figure is None:
            return Part(heading, remark="No canvas is in the store: run the experiment once more."), {}
        return _figure_part(heading, figure)
    figures = [montage.montage_figure(frame, info, item, names.new("montage"), folder)]
    if (frame["subset"] == "unlabelled").any() and not item.get("subset"):
        name = names.new("montage_pseudo_labels")
        figures.append(montage.montage_figure(frame, info, {**item, "subset": "unlabelled"}, name, folder))
    kept = [figure for figure in figures if figure is not None]
    if not kept:
        return Part(heading, remark="No prediction or no volume is at hand to show slices of."), {}
    return Part(heading, figures=kept), {figure.name: list(figure.lines) for figure in kept}


def _ranks_part(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], name: str, folder: Path
) -> tuple[Part, Behind]:
    """The table of ranks, and the diagram where a test is possible."""
    found, heading = ranks.ranking(frame, info, item), HEADINGS["ranks"]
    if isinstance(found, str):
        return Part(heading, remark=found), {}
    table = rank_table.ranks_table(frame, info, item, found, name)
    behind: Behind = {name: found.places()}
    if found.p is None:
        return Part(heading, tables=[table], remark=f"No diagram: {found.why}."), behind
    title = f"Ranks by {METRICS[str(item['ranks'])][0]}."
    figure = rank_diagram.rank_diagram(info, found, title, subset_of(frame, item), f"{name}_diagram", folder)
    return Part(heading, tables=[table], figures=[figure]), behind | {figure.name: list(figure.lines)}


def _figure_part(heading: str, figure: Figure) -> tuple[Part, Behind]:
    return Part(heading, figures=[figure]), {figure.name: list(figure.lines)}


def _features_part(info: ReportInfo, item: FeaturesItem, names: Names, folder: Path) -> tuple[Part, Behind]:
    heading = HEADINGS["features"]
    gaps, why = features.gaps_of(info, item)
    if not gaps:
        return Part(heading, remark=why), {}
    figure = features_plot.features_figure(info, gaps, names.new("features"), folder)
    made = features_tables.tables(info, gaps, names.new("features_distances"))
    behind: dict[str, Sequence[Traced]] = {figure.name: gaps, **{table.name: rows for table, rows in made}}
    return Part(heading, tables=[table for table, _ in made], figures=[figure]), behind


def _table_part(
    frame: pd.DataFrame, info: ReportInfo, item: Mapping[str, Any], names: Names
) -> tuple[Part, Behind]:
    made: list[tables.Table]
    shown: Sequence[Traced]
    kind = kind_of(item)
    if kind == "table":
        made, shown = sections.result_tables(frame, info, item, names.new(str(item["table"])))
    elif kind == "pairs":
        made, shown = pairs.pairs_table(frame, info, item, names.new("pairs"))
    elif kind == "parameters":
        made, shown = parameters.parameters_table(info, names.new("parameters"))
    elif kind == "rounds":
        return _rounds_part(frame, info, names.new("rounds"))
    else:
        made, shown = sections.pseudo_table(frame, info, item, names.new("pseudo_labels"))
    remark = "" if made else "No arm has scored pseudo-labels."
    return Part(heading_of(item), tables=made, remark=remark), {table.name: shown for table in made}


def _rounds_part(frame: pd.DataFrame, info: ReportInfo, name: str) -> tuple[Part, Behind]:
    """What the rounds chose from, and the pseudo-labels before and after them."""
    made, shown = rounds.rounds_table(frame, info, name)
    labels = round_tables.label_tables(frame, info, name)
    behind: Behind = {table.name: rows for table, rows in labels}
    behind |= {table.name: shown for table in made}
    tables_ = [*made, *(table for table, _ in labels)]
    return Part(HEADINGS["rounds"], tables=tables_, remark="" if tables_ else "No round has run."), behind


def _provenance(info: ReportInfo, behind: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """What stands behind each row of each table and figure."""
    whole = {
        "experiment": info.experiment,
        "profile": info.profile,
        "protocol": {"name": info.protocol, **info.protocol_fields},
        "protocols": info.protocols,
        **info.provenance,
        "study": study.provenance(info),
        "shown": behind,
    }
    return json.dumps(whole, indent=1, default=str, ensure_ascii=False) + "\n"
