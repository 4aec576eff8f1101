"""Clicks and boxes over slices in figures; the page's viewer draws the same signs.

A positive click is a white plus with a dark rim, a negative one a dark cross with a white rim, a box white
lines with dark rims: told apart without colours, and seen on any grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfrbench.components.base_prompts import Said

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_INK, _PAPER = "#111111", "#ffffff"
#: Sign and its colours (face, rim) by whether the click is on the object.
_CLICKS: Mapping[bool, tuple[str, str, str, str]] = {
    True: ("P", _PAPER, _INK, "click on the object"),
    False: ("X", _INK, _PAPER, "click beside it"),
}


@dataclass(frozen=True)
class Marks:
    """What was said on one slice: clicks (x, y, on the object), boxes (first x, first y, last x, last y)."""

    clicks: Sequence[tuple[int, int, bool]] = ()
    boxes: Sequence[tuple[int, int, int, int]] = ()

    @property
    def count(self) -> int:
        return len(self.clicks) + len(self.boxes)

    def mask(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Where they are in a slice (X, Y): clicks, and the corners of boxes."""
        import numpy as np

        found = np.zeros(shape[:2], dtype=bool)
        for x, y, _ in self.clicks:
            found[x, y] = True
        for x, y, u, v in self.boxes:
            found[[x, u], [y, v]] = True
        return found


def on_slice(said: Sequence[Said], z: int) -> Marks:
    """The clicks on slice ``z``, and the boxes that it runs through."""
    return Marks(
        [(*click.at[:2], click.inside) for one in said for click in one.clicks if click.at[2] == z],
        [
            (*box.low[:2], *box.high[:2])
            for one in said
            for box in one.boxes
            if box.low[2] <= z <= box.high[2]
        ],
    )


def draw(axes: Axes, marks: Marks, corner: tuple[int, int]) -> None:
    """The marks over a picture whose first pixel is voxel ``corner``, its origin at the bottom."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    left, low = corner
    rim = [Stroke(linewidth=2.8, foreground=_INK), Normal()]
    for x, y, u, v in marks.boxes:
        place, size = (x - left - 0.5, y - low - 0.5), (u - x + 1, v - y + 1)
        axes.add_patch(Rectangle(place, *size, fill=False, edgecolor=_PAPER, linewidth=1.2, path_effects=rim))
    for x, y, inside in marks.clicks:
        sign, face, edge, _ = _CLICKS[inside]
        axes.plot(
            [x - left], [y - low], sign, markersize=8, color=face, markeredgecolor=edge, markeredgewidth=1
        )


def handles(shown: Sequence[Marks]) -> list[Any]:
    """Entries of a legend for what is there."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    made: list[Any] = [
        Line2D([], [], linestyle="", marker=sign, markersize=8, color=face, markeredgecolor=edge, label=told)
        for inside, (sign, face, edge, told) in _CLICKS.items()
        if any(click[2] == inside for marks in shown for click in marks.clicks)
    ]
    if any(marks.boxes for marks in shown):
        made.append(Patch(facecolor="#9a9a9a", edgecolor=_PAPER, linewidth=1.5, label="box"))
    return made
