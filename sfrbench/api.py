"""What notebooks and scripts may count on: results of finished runs as frames, tables and figures.

Nothing here runs an experiment, and nothing imports torch. ``sfrbench.load_results`` and
``sfrbench.load_report`` are the ways in.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.files.atomic import atomic_file
from sfrbench.machine.needs import Machine
from sfrbench.places import locations
from sfrbench.report.items import kinds
from sfrbench.run.experiment import Experiment, open_experiment

if TYPE_CHECKING:
    import pandas as pd

    from sfrbench.report.facts.info import ReportInfo
    from sfrbench.report.render.tables import Table

Place = str | Path


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in the report: its PNG, its SVG for print, and what to know beside the caption.

    Jupyter shows it."""

    name: str
    title: str
    caption: str
    png: bytes = field(repr=False)
    svg: bytes = field(repr=False)
    notes: tuple[str, ...] = ()

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: Place) -> Path:
        """Write it to a file called ``*.png`` or ``*.svg``; returns the path. Raises ``ValueError``."""
        target = Path(path)
        kinds = {".png": self.png, ".svg": self.svg}
        if target.suffix not in kinds:
            raise ValueError(f"{target.name}: a picture is saved as .png or .svg")
        with atomic_file(target) as file:
            file.write_bytes(kinds[target.suffix])
        return target


@dataclass(frozen=True)
class Made:
    """Tables and figures of one item of a report; ``remark`` says why, where there are none."""

    tables: list[Table]
    figures: list[Picture]
    remark: str


@dataclass(frozen=True)
class Report:
    """The results of one experiment, and the tables and figures that are made of them.

    ``frame`` is the tidy frame (see ``load_results``); ``info`` holds what a report says beside it: arms,
    axes, seeds, protocol, and which cells are missing and why. ``items`` are the entries under ``report:`` of
    the specification, such as ``{"table": "results", "metrics": ["dice"]}`` or ``{"kde": "dice"}``; and
    ``{"search": True}`` where there is a search. Any such mapping may be given to ``make``.
    """

    frame: pd.DataFrame
    info: ReportInfo

    @property
    def items(self) -> list[dict[str, Any]]:
        return [dict(item) for item in self.info.items]

    def make(self, item: Mapping[str, Any], frame: pd.DataFrame | None = None) -> Made:
        """What the report shows for an item; of ``frame`` where one is given, which holds a part of the rows
        of ``self.frame``, or more rows with the same columns. Raises ``InputError`` for an unknown item."""
        from sfrbench.report.item import Context, made
        from sfrbench.report.items import item_of

        with tempfile.TemporaryDirectory() as folder:
            used = self.frame if frame is None else frame
            part = made(item_of(item), Context(used, self.info, Path(folder)))
            pictures = [
                Picture(
                    each.name,
                    each.title,
                    each.caption,
                    each.files[0].read_bytes(),
                    each.files[1].read_bytes(),
                    each.notes,
                )
                for each in part.figures
            ]
        return Made(list(part.tables), pictures, part.remark)

    def tables(self, item: Mapping[str, Any], frame: pd.DataFrame | None = None) -> list[Table]:
        """The tables of an item; ``table.numbers()`` is a frame of what its CSV holds."""
        return self.make(item, frame).tables

    def figures(self, item: Mapping[str, Any], frame: pd.DataFrame | None = None) -> list[Picture]:
        """The figures of an item."""
        return self.make(item, frame).figures


def load_report(
    experiment: str,
    *,
    profile: str = "paper",
    workspace: Place | None = None,
    data: Mapping[str, Place] | None = None,
    sets: Sequence[str] = (),
    registry: Sequence[Place] | None = None,
    storage: str | None = None,
) -> Report:
    """Results, tables and figures of an experiment, from what is in the workspace.

    ``experiment`` is a path or a shipped name; ``profile``, ``data`` (name to folder), ``sets``
    (``PATH=VALUE``) and ``registry`` are the options of the command line, and must be those of the run.
    ``storage`` is the database of a search. What is not given is asked of the environment:
    ``SFRBENCH_WORKSPACE`` (or the configuration file), ``SFRBENCH_DATA``, ``SFRBENCH_REGISTRY``,
    ``SFRBENCH_STORAGE``. Raises ``InputError`` with everything that is wrong.
    """
    from sfrbench.report.facts.assemble import info_of
    from sfrbench.results.frame import load_frame
    from sfrbench.search.studies import read_study

    opened = _opened(experiment, profile, workspace, data, sets, registry)
    study = read_study(opened, storage or os.environ.get("SFRBENCH_STORAGE") or None)
    return Report(load_frame(opened), info_of(opened, study))


def load_results(
    experiment: str,
    *,
    profile: str = "paper",
    workspace: Place | None = None,
    data: Mapping[str, Place] | None = None,
    sets: Sequence[str] = (),
    registry: Sequence[Place] | None = None,
) -> pd.DataFrame:
    """The tidy frame of an experiment: one row per cell, case, class and metric.

    Columns: experiment, profile, arm, label, seed, cell, subset ('test', 'val', 'unlabelled' for scored
    pseudo-labels, 'unlabelled round N' for those of a round, 'round N' for the segmenter's labels that a
    round chooses from), case, class, metric, value (Dice, Jaccard, NSD in percent, distances in ``unit``;
    NaN where the protocol does not score), unit, empty_pred, empty_gt, key, and one for each axis.
    Cells that have not run have no rows. Arguments as in ``load_report``.
    """
    from sfrbench.results.frame import load_frame

    return load_frame(_opened(experiment, profile, workspace, data, sets, registry))


def _opened(
    experiment: str,
    profile: str,
    workspace: Place | None,
    data: Mapping[str, Place] | None,
    sets: Sequence[str],
    registry: Sequence[Place] | None,
) -> Experiment:
    folders = {name: Path(folder) for name, folder in (data or {}).items()}
    machine = Machine(_around() if workspace is None else Path(workspace), folders)
    if registry is None:
        registry = [part for part in os.environ.get("SFRBENCH_REGISTRY", "").split(os.pathsep) if part]
    return open_experiment(
        experiment, profile, machine, items=kinds(), sets=sets, registry=[Path(each) for each in registry]
    )


def _around() -> Path:
    """The workspace where none is given: of the environment or the configuration file, or the one that this
    folder is in, as a notebook beside its report is."""
    given = locations.workspace()
    if given != Path("runs"):
        return given
    around = [
        each for each in Path.cwd().parents if (each / "store").is_dir() and (each / "reports").is_dir()
    ]
    return around[0] if around else given
