"""A report from a tidy frame: index.html, tables, figures, provenance.json."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.errors import SfrbenchError, short_of, stopped
from sfrbench.files.atomic import read_state, write_atomic
from sfrbench.files.formats import FORMATS, check_replaced
from sfrbench.report.delivery import Before, deliver, workshop
from sfrbench.report.facts.assemble import info_of
from sfrbench.report.facts.study import provenance_of
from sfrbench.report.item import Context, ReportItem, made
from sfrbench.report.items import item_of
from sfrbench.report.render import page, tables
from sfrbench.report.render.parts import Part
from sfrbench.results.frame import load_frame
from sfrbench.search.studies import read_study

if TYPE_CHECKING:
    import pandas as pd

    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.run.experiment import Experiment

log = logging.getLogger(__name__)


def write_report(experiment: Experiment, out: Path, storage: str | None = None) -> Path:
    """Write tables, figures, page and provenance into ``out``; returns the page. ``storage`` is the database
    of studies, where it is not the workspace's."""
    frame = load_frame(experiment)
    return build_report(frame, info_of(experiment, read_study(experiment, storage)), out)[0]


def replaced_note(experiment: Experiment) -> str:
    """What is lost where the report here is of other choices of --set; empty: nothing."""
    page = experiment.report_folder / "index.html"
    before = read_state(page.with_name("provenance.json"), Before)
    now = list(experiment.plan.spec.overridden)
    if before is None or before.set == now:
        return ""
    of = f"of --set {' --set '.join(before.set)}" if before.set else "of no --set"
    return (
        f"the report {page} is {of}; this run's takes its place, and 'sfrbench clean' then offers to remove "
        "the results that only it stands on; give a --workspace of its own to keep both"
    )


def build_report(frame: pd.DataFrame, info: ReportInfo, out: Path) -> list[Path]:
    """Write the report into ``out`` and return every file, ``index.html`` first.

    ``frame`` is the tidy frame (one row per cell, case, class and metric). The report before stays whole
    until this one is; what it had of tables and figures and this one has no more is then taken away: beside
    the new ones it would look like them. Other files in ``out`` are left alone. Raises ``InputError`` for
    an item of an unknown kind, for rows that contradict each other, and for a report there of a later
    format.
    """
    check_replaced(out / "provenance.json", "provenance.json")
    with workshop(out) as folder:
        made, shown = _write(frame, info, folder)
        deliver(folder, out, shown)
    return [out / path for path in made]


def _write(frame: pd.DataFrame, info: ReportInfo, out: Path) -> tuple[list[Path], Iterable[str]]:
    """The files of a report within ``out``, its page first, and the names of its tables and figures."""
    files: list[Path] = []
    parts: list[tuple[str, Part]] = []
    facts: dict[str, list[dict[str, Any]]] = {}
    context = Context(frame, info, out / "figures")
    for item in map(item_of, info.items):
        part = _made(item, context)
        parts.append((item.over, part))
        for table in part.tables:
            files += tables.write(table, out / "tables")
        files += [path for figure in part.figures for path in figure.files]
        facts |= {name: [row.behind() for row in rows] for name, rows in part.behind.items()}
    index, provenance = out / "index.html", out / "provenance.json"
    write_atomic(provenance, _provenance(info, facts))
    write_atomic(index, page.page(info, parts, facts, out))
    return [path.relative_to(out) for path in (index, *files, provenance)], facts.keys()


def _made(item: ReportItem, context: Context) -> Part:
    """What an item shows. Where its code fails, that is what stands in its place, and all others are made."""
    try:
        part = made(item, context)
        _check_files(part, context.figures.parent)
        return part
    except (SfrbenchError, OSError, MemoryError):
        raise
    except Exception as error:
        if stopped(error):
            raise KeyboardInterrupt from error
        if short_of(error) is not None:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"this item could not be made: {type(error).__name__}: {error}"
        log.warning("report, %s: %s (%s:%s)", item.kind, what, last.filename, last.lineno)
        log.debug("report, %s", item.kind, exc_info=error)
        return Part(remark=f"{what[0].upper()}{what[1:]}.")


def _check_files(part: Part, out: Path) -> None:
    """Raises ``ValueError`` where a figure has no file, or one that is not in the report's folder."""
    for figure in part.figures:
        if not figure.files:
            raise ValueError(f"figure '{figure.name}' has no file")
        for path in figure.files:
            if not (path.is_relative_to(out) and path.is_file()):
                raise ValueError(f"figure '{figure.name}' has no file {path.name} below context.figures")


def _provenance(info: ReportInfo, behind: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """What stands behind each row of each table and figure."""
    whole = {
        "format": FORMATS["provenance.json"],
        "experiment": info.experiment,
        "profile": info.profile,
        "protocol": {"name": info.protocol, **info.protocol_fields},
        "protocols": info.protocols,
        **info.provenance,
        "study": provenance_of(info),
        "shown": behind,
    }
    return json.dumps(whole, indent=1, default=str, ensure_ascii=False) + "\n"
