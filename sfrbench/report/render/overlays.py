"""What lies over slices and canvases in figures: contours of label maps, and where a prediction is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.report.render import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Maps = Mapping[str, NDArray[Any]]  # kind of ``CONTOURS`` -> label map
CONTOURS: Mapping[str, tuple[str, Any]] = {
    "truth": (style.TRUTH, "-"),
    "pseudo-label": (style.PSEUDO, (0, (1.6, 1))),
    "prediction": (style.PREDICTION, (0, (4, 1.5))),
}
#: What is wrong: number in ``errors`` and colour. The page's viewer has the same colours.
ERRORS: Mapping[str, tuple[int, str]] = {
    "missed": (1, "#0072B2"),
    "added": (2, "#E69F00"),
    "wrong class": (3, "#CC79A7"),
}
TOLD = "Filled: errors of the prediction or, without one, of the pseudo-label."


def errors(maps: Maps) -> NDArray[np.uint8]:
    """Where the prediction (or else the pseudo-label) differs from the truth, by the numbers of ``ERRORS``.

    0 where it does not; empty where there is nothing to judge.
    """
    guess = maps.get("prediction", maps.get("pseudo-label"))
    if guess is None or "truth" not in maps:
        return np.zeros((0, 0), np.uint8)
    truth = maps["truth"]
    kinds = np.where(guess == 0, 1, np.where(truth == 0, 2, 3))
    return np.where(truth == guess, 0, kinds).astype(np.uint8)


def draw(axes: Axes, maps: Maps, aspect: float = 1.0, width: float = 1.7) -> None:
    """Errors and contours over an image that is shown with its origin at the bottom; maps are (y, x)."""
    from matplotlib.colors import to_rgba

    wrong = errors(maps)
    if wrong.any():
        colours = np.asarray([(0.0,) * 4, *(to_rgba(colour, 0.45) for _, colour in ERRORS.values())])
        axes.imshow(colours[wrong], origin="lower", aspect=aspect, interpolation="nearest")
    for kind, (colour, dashes) in CONTOURS.items():
        labels = maps.get(kind, np.zeros((0, 0)))
        for label in np.unique(labels[labels > 0]):
            style.outline(axes, labels == label, colour, dashes, width)


def legend(figure: Any, shown: Sequence[Maps], more: Sequence[Any] = ()) -> None:
    """Below the figure: the kinds of contours and of errors that it has, and ``more`` entries."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=2, label=kind, path_effects=style.edge(3.4))
        for kind, (colour, dashes) in CONTOURS.items()
        if any(kind in maps for maps in shown)
    ]
    found = {int(number) for maps in shown for number in np.unique(errors(maps))}
    handles += [
        Patch(facecolor=colour, alpha=0.6, label=kind)
        for kind, (number, colour) in ERRORS.items()
        if number in found
    ]
    handles += more
    if handles:
        across = max(1, int(figure.get_figwidth() / 1.4))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), across), fontsize=9
        )
