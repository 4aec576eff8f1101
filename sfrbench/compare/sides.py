"""The two sides of a comparison: workspaces, reports or exported frames, read into tidy frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from sfrbench.compare.trace import WrittenReport, open_report
from sfrbench.errors import InputError
from sfrbench.files.sheets import plain
from sfrbench.results.axes import axis_text
from sfrbench.results.frame import COLUMNS, scores, tidy
from sfrbench.results.subsets import subset_of_role
from sfrbench.stages.evaluate import recipe as evaluate
from sfrbench.store.store import Artefact, Store

#: Arm and the values of the axes, as texts.
ArmPoint = tuple[str, tuple[tuple[str, str], ...]]
_TEXTS = ("experiment", "profile", "arm", "label", "cell", "subset", "case", "class", "metric", "unit", "key")


def title(point: ArmPoint) -> str:
    """The name of an arm at a point of the axes, such as ``sfr_mt, stitch.scale 3``."""
    return ", ".join([point[0], *(f"{path} {value}" for path, value in point[1])])


@dataclass(frozen=True)
class Side:
    """One of the two: its tidy frame and, unless that is a file, the report that says how it was made."""

    name: str
    frame: pd.DataFrame = field(repr=False)
    report: WrittenReport | None = None

    @cached_property
    def points(self) -> Mapping[ArmPoint, pd.DataFrame]:
        """The rows of each arm at each point of the axes."""
        axes = sorted(set(self.frame.columns) - set(COLUMNS))
        rows_of: dict[ArmPoint, list[int]] = {}
        texts = zip(*(self.frame[path].map(axis_text) for path in axes), strict=True)
        values = list(texts) if axes else [()] * len(self.frame)
        for index, (arm, own) in enumerate(zip(self.frame["arm"], values, strict=True)):
            rows_of.setdefault((str(arm), tuple(zip(axes, own, strict=True))), []).append(index)
        return {point: self.frame.iloc[rows] for point, rows in rows_of.items()}

    @property
    def what(self) -> str:
        """Experiment and profile, as the rows say."""
        pairs = self.frame[["experiment", "profile"]].drop_duplicates().to_numpy().tolist()
        return ", ".join(f"{experiment} [{profile}]" for experiment, profile in pairs)


def load_sides(
    a: Path, b: Path, experiment: str | None = None, profile: str | None = None
) -> tuple[Side, Side]:
    """Both sides: each a workspace, a report, or a tidy frame that ``sfrbench results`` wrote.

    Raises ``InputError`` where one is none of these, and where a workspace holds several experiments and
    neither the options nor the other side say which is meant.
    """
    found = [_reports(path, experiment, profile) for path in (a, b)]
    known = [set(reports) for reports in found if reports is not None]
    common = set.intersection(*known) if known else set()
    sides = []
    for path, reports in zip((a, b), found, strict=True):
        if reports is None:
            sides.append(_from_file(path))
            continue
        names = sorted(common or reports)
        if len(names) != 1:
            hint = f"choose with --experiment and --profile: {', '.join('/'.join(name) for name in names)}"
            raise InputError(f"{len(names)} experiments could be compared", where=str(path), hint=hint)
        sides.append(_from_report(path, open_report(reports[names[0]])))
    return sides[0], sides[1]


def _reports(path: Path, experiment: str | None, profile: str | None) -> dict[tuple[str, str], Path] | None:
    """The reports of a workspace, or that at ``path`` itself, by experiment and profile; None for a frame."""
    if path.suffix in (".csv", ".parquet"):
        return None
    if path.name == "provenance.json" or (path / "provenance.json").is_file():
        whole = open_report(path).whole
        return {(str(whole["experiment"]), str(whole["profile"])): path}
    every = {(file.parts[-3], file.parts[-2]): file for file in path.glob("reports/*/*/provenance.json")}
    found = {
        name: file
        for name, file in every.items()
        if experiment in (None, name[0]) and profile in (None, name[1])
    }
    if not found:
        told = ", ".join("/".join(name) for name in sorted(every))
        hint = (
            f"it has: {told}" if told else "give a workspace, a report's folder, or a .csv or .parquet file"
        )
        raise InputError("no such report here", where=str(path), hint=hint)
    return found


def _from_file(path: Path) -> Side:
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"not readable: {error}", where=str(path)) from error
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        hint = "export it with 'sfrbench results SPEC --out FILE'"
        raise InputError(f"no tidy frame: column '{missing[0]}' is missing", where=str(path), hint=hint)
    return Side(str(path), _checked(frame, path))


def _checked(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A frame whose values are scores and whose rows are each there once. Raises ``InputError``."""
    frame = frame.assign(**{name: frame[name].astype(str) for name in _TEXTS})
    for name, most in (("value", 1e9), ("seed", 2.0**63)):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wrong = (numbers.isna() & frame[name].notna()) | (numbers.abs() > most)
        wrong |= numbers.isna() | (numbers % 1 != 0) if name == "seed" else False
        if wrong.any():
            at, given = int(wrong.to_numpy().argmax()), frame[name][wrong].iloc[0]
            what = f"row {at + 1}: '{given}' is no {'score' if name == 'value' else 'seed'}"
            raise InputError(
                what, where=str(path), hint="export it again with 'sfrbench results SPEC --out FILE'"
            )
        frame[name] = numbers
    axes = sorted(set(frame.columns) - set(COLUMNS))
    told = ["arm", *axes, "seed", "subset", "case", "class", "metric"]
    twice = frame[frame.duplicated(told)]
    if not twice.empty:
        first = ", ".join(f"{name} {twice[name].iloc[0]}" for name in told)
        what = f"{len(twice)} rows stand twice, the first: {first}"
        raise InputError(
            what, where=str(path), hint="keep one of each: a score that counts twice is another mean"
        )
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    """An exported frame; a name such as ``none`` or ``NA`` stays a text, only an empty field is missing."""
    columns = list(pd.read_csv(path, nrows=0).columns)
    empty = {name: [""] for name in columns if name not in _TEXTS}
    texts = dict.fromkeys((name for name in columns if name in _TEXTS), str)
    return plain(pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty))


def _from_report(path: Path, report: WrittenReport) -> Side:
    store = Store(report.workspace / "store")
    whole, parts = report.whole, []
    for cell, facts in whole["cells"].items():
        for role, node in whole["nodes"][cell].items():
            stage, _, key = node.partition("/")
            if stage == evaluate.STAGE and store.has(stage, key):
                artefact = store.get(stage, key)
                spacing = _spacing(artefact)
                own = {name: facts[name] for name in ("arm", "label", "seed")} | {"cell": cell, "key": key}
                own |= {"experiment": whole["experiment"], "profile": whole["profile"]}
                axes = {axis: axis_text(value) for axis, value in facts["axes"].items()}
                part = scores(artefact.path("scores.csv"), spacing)
                parts.append(part.assign(**own, **axes, subset=subset_of_role(role, facts["score"])))
    paths = list(dict.fromkeys(axis for facts in whole["cells"].values() for axis in facts["axes"]))
    return Side(str(path), tidy(parts, paths), report)


def _spacing(artefact: Artefact) -> str:
    """The unit of an artefact's distances."""
    try:
        return str(artefact.record["components"]["protocol"]["spacing"])
    except (KeyError, TypeError) as error:
        what = "its record does not say the protocol"
        raise InputError(what, where=str(artefact.folder), hint="run again with this version") from error


def commits(side: Side) -> list[str]:
    """The states of the code that made what a side's report shows, shortened; empty for a frame."""
    records = side.report.whole["records"].values() if side.report else ()
    found = {
        f"{git['commit'][:10]}{' with changes' if git['dirty'] else ''}"
        for record in records
        if (git := record.get("git"))
    }
    return sorted(found)
