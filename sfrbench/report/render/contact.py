"""A contact sheet of a dataset: one slice of every case with the outline of its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.files.atomic import atomic_file
from sfrbench.report.render import style
from sfrbench.results.label_table import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sfrbench.components.base import Case
    from sfrbench.machine.datacheck import CaseReport

ACROSS, DOWN = 8, 6  # cases of a page
_PIXELS = 192  # longest side that is kept of a slice
#: The second seven classes are dashed, the next dotted.
_DASHES: tuple[Any, ...] = ("-", (0, (3, 1.5)), (0, (1, 1)))


@dataclass(frozen=True)
class _Tile:
    title: str
    said: str  # what is wrong, if anything
    image: NDArray[Any] | None = None  # (X, Y); none: broken
    label: NDArray[Any] | None = None
    aspect: float = 1.0

    @property
    def tall(self) -> float:
        """Height over width as drawn."""
        return 1.0 if self.image is None else self.aspect * self.image.shape[1] / self.image.shape[0]


class ContactSheet:
    """Draws page after page as cases come, so that any number of them takes the memory of one page.

    The pages are ``FILE.png``, ``FILE-2.png`` and so on, ``ACROSS`` x ``DOWN`` cases each.
    """

    def __init__(self, file: Path, classes: Sequence[str], name: str) -> None:
        self.file, self.classes, self.name = file, tuple(classes), name
        self._tiles: list[_Tile] = []
        self._pages: list[Path] = []

    def add(self, report: CaseReport, case: Case | None) -> None:
        """Add a case and what ``data check`` says of it; ``case`` is None if it is broken."""
        self._tiles.append(_tile(report, case))
        if len(self._tiles) == ACROSS * DOWN:
            self._draw()

    def close(self) -> list[Path]:
        """Draw the last page; returns the files of all."""
        if self._tiles:
            self._draw()
        return self._pages

    def _draw(self) -> None:
        tiles, self._tiles = self._tiles, []
        number = len(self._pages) + 1
        page = self.file if number == 1 else self.file.with_name(f"{self.file.stem}-{number}.png")
        across = min(ACROSS, len(tiles))
        down = -(-len(tiles) // across)
        foot = (
            f"{self.name}, page {number}. Halfway between the first and the last labelled slice; "
            "x to the right, y upwards; contrast: 1st to 99th percentile"
        )
        tall = min(max(tile.tall for tile in tiles), 1.6)
        with style.canvas(max(1.55 * across, 7.5), 0.9 + (1.5 * tall + 0.45) * down, foot) as figure:
            grid = figure.subplots(down, across, squeeze=False).ravel()
            for axes in grid[len(tiles) :]:
                axes.set_axis_off()
            for axes, tile in zip(grid, tiles, strict=False):
                _draw_tile(axes, tile)
            self._legend(figure)
            with atomic_file(page) as file:
                figure.savefig(file, dpi=style.DPI, metadata={"Software": None})
        self._pages.append(page)

    def _legend(self, figure: Any) -> None:
        from matplotlib.lines import Line2D

        handles = []
        for number, name in enumerate(self.classes[1:], 1):
            colour, dashes = _look(number)
            line = Line2D([], [], color=colour, linestyle=dashes, linewidth=2, label=name)
            line.set_path_effects(style.edge(3.4))
            handles.append(line)
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), fontsize=9)


def _look(number: int) -> tuple[str, Any]:
    """Colour and dashes of a class."""
    turn, place = divmod(number - 1, len(COLOURS))
    return COLOURS[place], _DASHES[turn % len(_DASHES)]


def _tile(report: CaseReport, case: Case | None) -> _Tile:
    title = f"{_short(report.case)}\n{report.subset}"
    if case is None:
        return _Tile(title, "BROKEN")
    said = f"SAME IMAGE AS {_short(report.duplicate_of)}" if report.duplicate_of else ""
    if not report.labelled:
        said = said or "no label"
    elif not report.volumes:
        said = said or "no foreground"
    elif report.notes:
        said = said or "see its note"
    slices = np.flatnonzero(np.asarray(case.label).any(axis=(0, 1)))
    z = int(slices[0] + slices[-1]) // 2 if slices.size else case.image.shape[2] // 2
    step = -(-max(case.image.shape[:2]) // _PIXELS)
    image, label = (np.array(values[::step, ::step, z]) for values in (case.image, case.label))
    return _Tile(title, said, image, label, case.spacing[1] / case.spacing[0])


def _draw_tile(axes: Axes, tile: _Tile) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(tile.title, fontsize=6.5, pad=2)
    axes.set_xlabel(tile.said, fontsize=6.5, labelpad=1, fontweight="bold")
    if tile.image is None or tile.label is None:
        axes.set_facecolor("#eeeeee")
        axes.set_box_aspect(1)
        axes.text(0.5, 0.5, style.DASH, ha="center", va="center", transform=axes.transAxes)
        return
    low, high = np.percentile(tile.image, (1, 99))
    grey = {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-6)}
    axes.imshow(tile.image.T, origin="lower", aspect=tile.aspect, **grey)
    label = tile.label.T
    for number in np.unique(label[label > 0]).tolist():
        colour, dashes = _look(number)
        style.outline(axes, label == number, colour, dashes, 1.1)


def _short(case: str | None) -> str:
    text = case or ""
    return text if len(text) <= 22 else f"{text[:10]}…{text[-10:]}"
