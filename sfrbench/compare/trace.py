"""What stands behind a number of a report: runs, nodes, code, specification, from its provenance.json."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfrbench.compare.provenance import read_provenance
from sfrbench.errors import InputError, did_you_mean
from sfrbench.files.roots import shipped
from sfrbench.files.sheets import unguarded
from sfrbench.places import locations
from sfrbench.plan.schedule import behind
from sfrbench.run.tracking.cells import experiment_name
from sfrbench.run.tracking.mlflow_log import logged_in
from sfrbench.spec.extends import fingerprint
from sfrbench.store.store import RECORD

ShownRow = Mapping[str, Any]  # an entry of "shown": row, arm, match, cells, ...


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written: its folder, and what its provenance.json says."""

    folder: Path
    whole: Mapping[str, Any]

    @property
    def shown(self) -> Mapping[str, Sequence[ShownRow]]:
        """The rows of every table and figure."""
        rows: Mapping[str, Sequence[ShownRow]] = self.whole["shown"]
        return rows

    @property
    def workspace(self) -> Path:
        """Where the artefacts are: around the report, or where they are by default."""
        around = (each for each in self.folder.resolve().parents[:3] if (each / "store").is_dir())
        holder = next(around, None)
        if holder is not None:
            return holder
        return locations.workspace()

    def csv(self, table: str) -> list[dict[str, str]]:
        """The numbers of a table; empty for a figure."""
        path = self.folder / "tables" / f"{table}.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as stream:
            return [
                {unguarded(head): unguarded(text) for head, text in row.items()}
                for row in csv.DictReader(stream)
            ]


@dataclass(frozen=True)
class Traced:
    """One row of one table, with the numbers that were asked for."""

    table: str
    row: ShownRow
    numbers: Sequence[Mapping[str, str]]


def open_report(path: Path) -> WrittenReport:
    """A report by its folder or its provenance.json. Raises ``InputError`` where there is none."""
    file = path if path.is_file() else path / "provenance.json"
    return WrittenReport(file.parent, read_provenance(file))


def find(report: WrittenReport, row: str, column: str | None = None, table: str | None = None) -> Traced:
    """The one row that is meant. Raises ``InputError`` with what there is where it is none or several."""
    if table is not None and table not in report.shown:
        raise InputError(f"the report has no table '{table}'", hint=did_you_mean(table, report.shown))
    names = [table] if table else [name for name in report.shown if report.csv(name)]
    found = {name: [entry for entry in report.shown[name] if _named(entry, row)] for name in names}
    found = {name: entries for name, entries in found.items() if entries}
    if not found:
        known = {text for name in names for entry in report.shown[name] for text in _names(entry)}
        raise InputError(f"no row '{row}'{f' in {table}' if table else ''}", hint=did_you_mean(row, known))
    if column is not None:
        fitting = {
            name: rows for name, rows in found.items() if any(_cells(report, name, e, column) for e in rows)
        }
        if not fitting:
            known = {head for name, rows in found.items() for e in rows for head in _heads(report, name, e)}
            raise InputError(f"row '{row}' has no column '{column}'", hint=did_you_mean(column, known))
        found = fitting
    if len(found) > 1:
        hint = f"take one with --table: {', '.join(found)}"
        raise InputError(f"{len(found)} tables have a row '{row}'", hint=hint)
    ((name, entries),) = found.items()
    if len(entries) > 1:
        rows = "; ".join(str(entry["row"]) for entry in entries)
        raise InputError(f"{name} has {len(entries)} rows '{row}'", hint=f"take one with --row: {rows}")
    return Traced(name, entries[0], _cells(report, name, entries[0], column))


def _names(entry: ShownRow) -> list[str]:
    return list(dict.fromkeys(str(entry[key]) for key in ("row", "arm", "paper") if entry.get(key)))


def _named(entry: ShownRow, name: str) -> bool:
    # "-" for the minus of a pair, which is hard to type
    wanted = {name.casefold(), name.replace(" - ", " − ").casefold()}
    return any(text.casefold() in wanted for text in _names(entry))


def _lines(report: WrittenReport, table: str, entry: ShownRow) -> list[dict[str, str]]:
    match: Mapping[str, str] = entry["match"]
    return [line for line in report.csv(table) if all(line.get(key) == text for key, text in match.items())]


#: Columns of a CSV by whose values its rows are told apart, where one row of a table has several.
_KEYS = ("column", "metric", "organ")


def _heads(report: WrittenReport, table: str, entry: ShownRow) -> set[str]:
    lines = _lines(report, table, entry)
    return {head for line in lines for head in line} | {
        line[key] for line in lines for key in _KEYS if line.get(key)
    }


def _cells(report: WrittenReport, table: str, entry: ShownRow, column: str | None) -> list[dict[str, str]]:
    """The numbers of a row: all, or those of one column.

    That is a head of the CSV (``dice`` means ``dice_mean`` and ``dice_std``), or what a row of the CSV has as
    its ``column``, ``metric`` or ``organ``.
    """
    lines = _lines(report, table, entry)
    if column is None:
        return lines
    wanted = column.casefold()
    by_key = [line for line in lines if wanted in {line.get(key, "").casefold() for key in _KEYS}]
    if by_key:
        return by_key
    heads = {
        head
        for line in lines
        for head in line
        if head.casefold() in (wanted, f"{wanted}_mean", f"{wanted}_std")
    }
    told = (*_KEYS, "profile", "note", "reason")
    return [
        {head: text for head, text in line.items() if head in heads or head in told}
        for line in lines
        if heads
    ]


def described(report: WrittenReport, traced: Traced) -> dict[str, Any]:
    """Everything behind a row, as JSON: number, report, specification, code, and each run with its nodes."""
    whole, entry = report.whole, traced.row
    sides: Sequence[ShownRow] = entry.get("sides") or [entry]
    return {
        "table": traced.table,
        "row": entry["row"],
        "numbers": [dict(line) for line in traced.numbers],
        "report": str(report.folder),
        "experiment": whole["experiment"],
        "profile": whole["profile"],
        "protocol": whole["protocol"],
        "spec": {
            "path": whole["spec"],
            "sha256": whole["spec_sha256"],
            "now": _spec_now(report),
            "set": whole["set"],
        },
        "reason": entry.get("reason", ""),
        "runs": [run for side in sides for run in _runs(report, side)],
        "missing": {
            f"{side['arm']} seed {seed}": reason
            for side in sides
            for seed, reason in side.get("missing", {}).items()
        },
    }


def _spec_now(report: WrittenReport) -> str:
    """Whether a file of the specification's name, here or beside the workspace, is the one that ran."""
    name = report.whole["spec"]
    beside = report.workspace.resolve().parent
    folders = (Path(), beside, Path("experiments"), beside / "experiments", shipped("experiments"))
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if not found:
        return "not here"
    same = any(fingerprint(path) == report.whole["spec_sha256"] for path in found)
    return "unchanged" if same else "changed since the report"


def _runs(report: WrittenReport, side: ShownRow) -> Iterator[dict[str, Any]]:
    """The cells of one line: each with the nodes that its number depends on, the last ones marked."""
    whole, workspace = report.whole, report.workspace
    cells = side.get("cells", {})
    pairs = cells.items() if isinstance(cells, Mapping) else [("", cell) for cell in cells]
    last = {
        str(key).rpartition("/")[2]
        for field in ("evaluate", "select", "models")
        for key in side.get(field, ())
    }
    for seed, cell in pairs:
        nodes: Mapping[str, str] = whole["nodes"][cell]
        ends = [link for link in nodes.values() if link.rpartition("/")[2] in last]
        wanted = ancestors(whole["records"], ends)
        places = logged_in(
            workspace,
            whole["experiment"],
            cell,
            [(stage, key) for stage, _, key in map(_parts, nodes.values())],
        )
        yield {
            "cell": cell,
            "arm": side["arm"],
            "seed": seed,
            "nodes": [
                {
                    "role": role,
                    "node": link,
                    "gave_the_number": link in ends,
                    "folder": str(workspace / "store" / link),
                    "there": (workspace / "store" / link / RECORD).is_file(),
                    **_known(whole["records"].get(link, {})),
                }
                for role, link in nodes.items()
                if link in wanted
            ],
            "mlflow": [
                {
                    "uri": uri,
                    "experiment": experiment_name(whole["experiment"], whole["profile"]),
                    "filter": f"tags.`sfrbench.cell` = '{cell}'",
                }
                for uri in places
            ],
        }


def _known(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with defaults for the fields that it lacks."""
    unknown = {
        "git": None,
        "version": None,
        "started": "at an unknown time",
        "seconds": 0.0,
        "device": "an unknown device",
    }
    return unknown | {name: value for name, value in record.items() if value is not None}


def _parts(link: str) -> tuple[str, str, str]:
    return link.partition("/")


def ancestors(records: Mapping[str, Any], ends: Sequence[str]) -> set[str]:
    """These nodes and all that they were made from."""
    return behind(ends, lambda link: records.get(link, {}).get("inputs", ()))
