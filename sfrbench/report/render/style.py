"""How numbers, names and figures of a report look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfrbench.files.atomic import atomic_file
from sfrbench.spec.model import FULL_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

DASH = "—"
LEAST_P = 0.001  #: a smaller p is printed as less than it
#: Colours that the colour-blind tell apart (Okabe and Ito 2008); yellow last, it is weak on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
TRUTH, PSEUDO, PREDICTION = "#F0E442", "#56B4E9", "#D55E00"
DPI = 150
ENDINGS = ("png", "svg")  # of the files of a figure
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a label with a dollar sign is text, not a formula
    "svg.hashsalt": "sfrbench",  # equal figures are equal files
}


def number(value: float | None) -> str:
    """Two decimals, never a negative zero; a dash for none and NaN."""
    if value is None or value != value:
        return DASH
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def signed(value: float | None) -> str:
    """``number`` with its sign, a true minus; nothing stands before zero."""
    text = number(value)
    if value is None or text in (DASH, "0.00"):
        return text
    return text.replace("-", "−") if text.startswith("-") else f"+{text}"


def span(low: float | None, high: float | None) -> str:
    """An interval of a difference, both ends signed; a dash where there is none."""
    return DASH if low is None or high is None else f"{signed(low)} to {signed(high)}"


def verdict(difference: float | None, larger: bool) -> str:
    """'better' or 'worse' of a difference in a metric of which ``larger`` values are the better ones or not;
    empty where there is none or it is printed as zero."""
    text = signed(difference)
    return {"+": "better" if larger else "worse", "−": "worse" if larger else "better"}.get(text[0], "")


def judged(difference: float | None, larger: bool) -> str:
    """A difference as printed, ``−1.18 better``: the sign is its direction, the word what that means."""
    return f"{signed(difference)} {verdict(difference, larger)}".rstrip()


def p_value(value: float | None) -> str:
    if value is None:
        return DASH
    return f"<{LEAST_P}" if value < LEAST_P else f"{value:.3f}"


def safe_name(name: str) -> str:
    """A file name made of ``name`` that cannot lead out of its folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:80] or "unnamed"


def scaled(profile: str) -> bool:
    """Whether a profile makes models, volumes or trainings smaller than the paper's."""
    return profile not in FULL_SIZE


def stamp(profile: str) -> str:
    """What every output says about its profile."""
    if scaled(profile):
        return f"Profile {profile}: scaled down, not comparable with the paper's numbers."
    by = (
        "the authors' released code" if profile == "released" else "the paper's text, ours where it is silent"
    )
    return f"Profile {profile}: full size, by {by}."


@contextmanager
def canvas(width: float, height: float, foot: str) -> Iterator[Figure]:
    """A figure of ``width`` x ``height`` inches with ``foot`` (profile and protocol) in its corner."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(foot, x=0.995, ha="right", fontsize=7.5, color="#666666")
        yield figure


def edge(width: float) -> list[Any]:
    """A dark rim of a coloured line, so that it is seen on any grey."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width, foreground="#333333"), Normal()]


def outline(axes: Axes, mask: NDArray[Any], colour: str, dashes: Any, width: float) -> None:
    """The outline of a mask (rows, columns) over an image."""
    from matplotlib.patheffects import Normal, Stroke

    lines = axes.contour(mask, [0.5], colors=[colour], linestyles=[dashes], linewidths=width)
    lines.set_path_effects([Stroke(linewidth=width + 1, foreground="#00000090"), Normal()])


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """The figure as PNG and SVG; returns both paths. Laid out once: that costs more than to draw it."""
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    png, svg = (folder / f"{name}.{ending}" for ending in ENDINGS)
    with atomic_file(png) as file:
        figure.savefig(file, dpi=DPI, metadata={"Software": None})
    with atomic_file(svg) as file:
        figure.savefig(file, metadata={"Date": None})
    return [png, svg]
