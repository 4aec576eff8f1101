"""Where slices lie on a canvas: integer arithmetic only, so that stitching can be inverted exactly.

A patch (X, Y, Z) is cut along its last axis. On the canvas rows are y and columns are x; the two axes are
laid out separately. Slice ``r * columns + c`` of a full canvas is the cell at row r, column c.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfrbench.errors import InputError

#: Padding around a resized slice, pixels per side, on a canvas of 1024 (ShumengLI/SFR, ``Spread*_scale``).
SCALED_PAD = 4


@dataclass(frozen=True)
class AxisGeometry:
    """One axis of a canvas; every length in pixels."""

    side: int  # of the slice, before any resizing
    n: int  # cells
    content: int  # side of the slice inside its cell; equal to ``side`` where nothing is resized
    pad: int  # from the start of a cell to its content
    cell: int  # side of a cell
    outer: int  # margin before the first cell (>= 0), or what is cropped off it (< 0)

    @property
    def resized(self) -> bool:
        return self.content != self.side


@dataclass(frozen=True)
class Geometry:
    """The layout of one canvas and, for a given depth, of a whole patch."""

    canvas: int
    rows: AxisGeometry  # along y
    columns: AxisGeometry  # along x

    @property
    def cells(self) -> int:
        return self.rows.n * self.columns.n

    @property
    def resized(self) -> bool:
        return self.rows.resized or self.columns.resized

    def lead_empty(self, depth: int) -> int:
        """Empty cells before the first of ``depth`` slices; the other empty cells follow the last one."""
        return max((self.cells - depth) // 2, 0)

    def described(self, depth: int) -> str:
        """In words, such as ``9 × 9 slices as they are, cells of 114 × 114 pixels``."""
        rows, columns = self.rows, self.columns
        size = f"resized to {columns.content} × {rows.content}" if self.resized else "as they are"
        said = [f"{columns.n} × {rows.n} slices {size}", f"cells of {columns.cell} × {rows.cell} pixels"]
        if columns.outer < 0:
            said.append(f"{-columns.outer} pixel{'' if columns.outer == -1 else 's'} cropped at each border")
        lead = self.lead_empty(depth)
        return ", ".join([*said, f"{lead} empty before the first slice"] if lead else said)

    def blocks(self, depth: int) -> list[tuple[int, int]]:
        """(first, stop) slices of each canvas: consecutive full canvases, the last one holds the last slices.

        Nothing is dropped: where the last canvas would be part empty it overlaps the one before instead.
        """
        if depth <= self.cells:
            return [(0, depth)]
        starts = [*range(0, depth - self.cells, self.cells), depth - self.cells]
        return [(start, start + self.cells) for start in starts]


def exact_axis(side: int, canvas: int) -> AxisGeometry:
    """As many slices as fit, without resampling (ShumengLI/SFR, ``Spread*``).

    The released code rounds the padding up or down, and crops what then exceeds the canvas. For some sides
    (50 on 1024: 8 pixels cropped, 1 padded) that would cut into slices; the padding is then rounded down,
    so that a crop never takes more than padding. Raises ``InputError`` where the slice exceeds the canvas.
    """
    if side > canvas:
        raise InputError(
            f"a slice side of {side} pixels does not fit a canvas of {canvas}",
            hint="choose a smaller dataset.patch, a larger foundation.canvas, or set stitch.scale (resizes)",
        )
    n = canvas // side
    pad = round((canvas / n - side) / 2)
    while -((canvas - n * (side + 2 * pad)) // 2) > pad:
        pad -= 1
    cell = side + 2 * pad
    return AxisGeometry(side, n, side, pad, cell, (canvas - n * cell) // 2)


def exact(shape: tuple[int, int], canvas: int) -> Geometry:
    """The geometry without resampling for slices of (x, y) pixels."""
    x, y = shape
    return Geometry(canvas, rows=exact_axis(y, canvas), columns=exact_axis(x, canvas))


def centred(shape: tuple[int, int], canvas: int) -> Geometry:
    """One slice in the middle of the canvas, without resampling. Raises ``InputError`` where it is larger."""
    if max(shape) > canvas:
        raise InputError(
            f"a slice of {shape[0]} x {shape[1]} pixels does not fit a canvas of {canvas}",
            hint=f"set foundation.canvas to {-(-max(shape) // 16) * 16}",
        )

    def axis(side: int) -> AxisGeometry:
        return AxisGeometry(side, 1, side, (canvas - side) // 2, canvas, 0)

    x, y = shape
    return Geometry(canvas, rows=axis(y), columns=axis(x))


def fitted(shape: tuple[int, int], canvas: int, n: int, pad: int) -> Geometry:
    """n x n square cells; the longer side of a slice becomes cell - 2 * pad, its proportions are kept.

    Raises ``InputError`` where no pixel is left for the slice.
    """
    cell = canvas // n
    content = cell - 2 * pad
    if content < 1:
        raise InputError(
            f"scale {n} leaves cells of {cell} pixels on a canvas of {canvas}: no room for a slice",
            hint=f"choose stitch.scale of at most {canvas // (2 * pad + 1)}, or a larger foundation.canvas",
        )
    outer = (canvas - n * cell) // 2

    def axis(side: int) -> AxisGeometry:
        scaled = max(1, round(side * content / max(shape)))
        return AxisGeometry(side, n, scaled, (cell - scaled) // 2, cell, outer)

    x, y = shape
    return Geometry(canvas, rows=axis(y), columns=axis(x))


def scaled(shape: tuple[int, int], canvas: int, n: int) -> Geometry:
    """The n x n grid of Fig. 9; the exact geometry where n is its own number of cells on both axes."""
    if max(shape) <= canvas:
        natural = exact(shape, canvas)
        if natural.rows.n == n and natural.columns.n == n:
            return natural
    return fitted(shape, canvas, n, max(1, round(SCALED_PAD * canvas / 1024)))
