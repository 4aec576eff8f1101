"""Slices of a patch, tiled row by row on a square canvas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sfrbench.components.base import Component, Dataset, Foundation, Stitch
from sfrbench.components.stitch import _geometry
from sfrbench.components.stitch._geometry import AxisGeometry, Geometry
from sfrbench.errors import InputError
from sfrbench.maths.labels import IGNORE

if TYPE_CHECKING:
    import numpy as np
    import torch


class TiledStitch(Stitch):
    """Stitching by a regular grid of cells; a subclass says which grid.

    ``bezier`` (the image) and ``rotate_canvas`` (image and label) change training canvases only, whatever
    they show, drawn anew for every canvas from the generator of its step (ShumengLI/SFR, not in the paper):
    see ``stitch._augment``.
    """

    later_fields: ClassVar[Mapping[str, Any]] = {"bezier": 0.0, "rotate_canvas": False}

    bezier: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of training slices with a random intensity curve; the authors' is 0.5",
    )
    rotate_canvas: bool = Field(
        False, description="the whole training canvas turned by quarter turns and flipped (the authors: true)"
    )

    def geometry(self, shape: tuple[int, int], canvas: int) -> Geometry:
        """The layout for slices of (x, y) pixels. Raises ``InputError`` where they do not fit."""
        raise NotImplementedError

    def conflicts(self, cell: Mapping[str, Component]) -> list[str]:
        dataset, foundation = cell.get("dataset"), cell.get("foundation")
        if isinstance(dataset, Dataset) and isinstance(foundation, Foundation):
            try:
                self.geometry(dataset.patch[:2], foundation.canvas)
            except InputError as error:
                return [f"{problem.what}; {problem.hint}" for problem in error.problems]
        return []

    def placed(self, patch: tuple[int, int, int], canvas: int) -> str:
        return self.geometry(patch[:2], canvas).described(patch[2])

    def canvas_count(self, patch: tuple[int, int, int], canvas: int) -> int | None:
        return len(self.geometry(patch[:2], canvas).blocks(patch[2]))

    def channels(self, volume: torch.Tensor) -> torch.Tensor:
        """What canvases show of a volume (C, X, Y, Z): the volume, or more channels made of it."""
        return volume

    def resized(self, slices: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(N, C, h, w) to (N, C, height, width), on the way to a canvas and back: floating values bilinear,
        antialiased when shrinking; integers take the nearest."""
        from sfrbench.components.stitch import _resize

        return _resize.resize(slices, height, width)

    def test_order(self, count: int) -> torch.Tensor | None:
        """The order (count,) in which the ``count`` slices of one canvas lie at test time; none: natural."""
        return None

    def arrange(
        self, image: torch.Tensor, label: torch.Tensor, rng: np.random.Generator, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The n slices of one training canvas before tiling: (C, X, Y, n) and (X, Y, n), n is kept."""
        from sfrbench.components.stitch import _augment

        return _augment.bezier(image, self.bezier, rng) if self.bezier else image, label

    def finish(
        self, pixels: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A whole training canvas (C, I, I) and its label (I, I), after tiling."""
        from sfrbench.components.stitch import _augment

        return _augment.rotate_canvas(pixels, target, rng) if self.rotate_canvas else (pixels, target)

    def to_canvases(self, volume: torch.Tensor, canvas: int, fill: float) -> torch.Tensor:
        """(C, X, Y, Z), any dtype, to (N, C, I, I) of that dtype; pixels without a slice hold ``fill``.

        Where the geometry resizes, ``resized`` says how. Slices that do not fit one canvas go on further
        ones; the last canvas holds the last slices and may repeat some of the one before.
        """
        _, x, y, depth = volume.shape
        cells = self.geometry((x, y), canvas).cells
        return self._tiled(self.channels(volume), canvas, fill, self.test_order(min(depth, cells)))

    def _tiled(
        self, volume: torch.Tensor, canvas: int, fill: float, order: torch.Tensor | None = None
    ) -> torch.Tensor:
        _, x, y, depth = volume.shape
        layout = self.geometry((x, y), canvas)
        slices = self.resized(volume.permute(3, 0, 2, 1), layout.rows.content, layout.columns.content)
        return _tile(slices, layout, depth, fill, order)

    def from_canvases(self, maps: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
        """(N, K, I, I) maps back to (K, X, Y, Z), the inverse of ``to_canvases`` (exact without resizing).

        A slice that lies on two canvases gets the mean of both; integer maps take the later one.
        """
        x, y, depth = shape
        layout = self.geometry((x, y), maps.shape[-1])
        order = self.test_order(min(depth, layout.cells))
        return self.resized(_untile(maps, layout, depth, order), y, x).permute(1, 3, 2, 0)

    def training_canvas(
        self, image: torch.Tensor, label: torch.Tensor, canvas: int, rng: np.random.Generator, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole patch where it fits one canvas, else a random run of as many slices as do.

        The run is drawn first: whatever a variant does with them, it is given the same slices.
        """
        x, y, depth = image.shape
        cells = self.geometry((x, y), canvas).cells
        shown = self.channels(image[None])
        if depth > cells:
            start = int(rng.integers(0, depth - cells + 1))
            shown, label = shown[..., start : start + cells], label[..., start : start + cells]
        shown, label = self.arrange(shown, label, rng, progress)
        pixels = self._tiled(shown, canvas, 0.0)[0]
        return self.finish(pixels, self._tiled(label[None].long(), canvas, IGNORE)[0, 0], rng)


class GridStitch(TiledStitch):
    """Slice stitching of the paper (section III-B), by the geometry of the released code.

    Without ``scale`` slices keep their pixels: n = I // S per axis, each slice padded to about I / n,
    what remains is a margin or cropped padding (112 on 1024: 9 x 9 cells of 114, 1 pixel cropped per
    border). With ``scale`` d there are d x d cells and slices are resized to I // d less the padding
    (Fig. 9); a d that equals the natural n on both axes gives the geometry without resizing.

    The released code takes pixel i of a resized slice at i * old / new of the slice, not by pixel centres,
    interpolates without antialiasing, and gives 0 (label 0) beyond the last pixel, where there are some once
    the side more than doubles: ``resize: index``, on the canvas and back. Other than there, slices keep their
    proportions, probabilities and not logits are resized back, and d = n is not resized.

    The other fields change training canvases only, image and label alike, unless ``shuffle_test`` is set.
    They are drawn anew for every canvas, from the generator of its step; no slice is lost. ``order: random``
    keeps the run of slices that a canvas shows and permutes them on it (Fig. 4; the released code permutes
    the first 64 slices and drops the others). ``rotate_slices``, ``turns`` (Fig. 4): see ``stitch._augment``.
    """

    later_fields: ClassVar[Mapping[str, Any]] = {
        **TiledStitch.later_fields,
        "order": "natural",
        "shuffle_test": False,
        "rotate_slices": False,
        "resize": "antialias",
        "turns": "all",
    }

    scale: int | None = Field(
        None, ge=1, le=64, description="cells per side; none: as many as fit without resizing"
    )
    resize: Literal["antialias", "index"] = Field(
        "antialias",
        description="'scale': slices resized by pixel centres, antialiased when shrinking, or by "
        "i * old / new as the authors' code does",
    )
    order: Literal["natural", "random"] = Field("natural", description="order of slices in training")
    shuffle_test: bool = Field(
        False, description="a fixed random order at test time too, undone in the prediction"
    )
    rotate_slices: bool = Field(
        False, description="each training slice turned by quarter turns and flipped on its own"
    )
    turns: Literal["all", "released"] = Field(
        "all",
        description="'rotate_slices': all eight symmetries of the square, or the four that the authors' code "
        "gives, which always flips",
    )

    def key_settings(self) -> dict[str, Any]:
        """As everywhere, without what means nothing: how to resize where nothing is, how to turn likewise."""
        settings = super().key_settings()
        for name, used in (("resize", self.scale is not None), ("turns", self.rotate_slices)):
            if not used:
                settings.pop(name, None)
        return settings

    def resized(self, slices: torch.Tensor, height: int, width: int) -> torch.Tensor:
        from sfrbench.components.stitch import _resize

        if self.resize == "antialias" or self.scale is None:
            return super().resized(slices, height, width)
        return _resize.by_index(_resize.by_index(slices, -2, height), -1, width)

    def geometry(self, shape: tuple[int, int], canvas: int) -> Geometry:
        if self.scale is None:
            return _geometry.exact(shape, canvas)
        return _geometry.scaled(shape, canvas, self.scale)

    def test_order(self, count: int) -> torch.Tensor | None:
        from sfrbench.components.stitch import _augment

        return _augment.fixed_order(count) if self.shuffle_test else None

    def arrange(
        self, image: torch.Tensor, label: torch.Tensor, rng: np.random.Generator, progress: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from sfrbench.components.stitch import _augment

        if self.order == "random":
            image, label = _augment.shuffle(image, label, rng)
        if self.rotate_slices:
            image, label = _augment.rotate_slices(image, label, rng, self.turns)
        return super().arrange(image, label, rng, progress)


def _tile(
    slices: torch.Tensor, layout: Geometry, depth: int, fill: float, order: torch.Tensor | None
) -> torch.Tensor:
    """(D, C, h, w) slices of the content's size to (N, C, I, I); ``order`` says which slice comes where."""
    rows, columns = layout.rows, layout.columns
    blocks, channels = layout.blocks(depth), slices.shape[1]
    cells = slices.new_full((len(blocks), layout.cells, channels, rows.cell, columns.cell), fill)
    lead = layout.lead_empty(depth)
    inside = cells[..., _content(rows), _content(columns)]
    for block, (first, stop) in enumerate(blocks):
        run = slices[first:stop]
        inside[block, lead : lead + stop - first] = run if order is None else run[order]
    grid = cells.view(len(blocks), rows.n, columns.n, *cells.shape[2:]).permute(0, 3, 1, 4, 2, 5)
    sheet = grid.reshape(len(blocks), channels, rows.n * rows.cell, columns.n * columns.cell)
    out = slices.new_full((len(blocks), channels, layout.canvas, layout.canvas), fill)
    (onto_y, from_y), (onto_x, from_x) = _overlap(rows, layout.canvas), _overlap(columns, layout.canvas)
    out[..., onto_y, onto_x] = sheet[..., from_y, from_x]
    return out


def _untile(maps: torch.Tensor, layout: Geometry, depth: int, order: torch.Tensor | None) -> torch.Tensor:
    """(N, K, I, I) to (D, K, h, w) slices of the content's size: undoes ``_tile`` with the same ``order``."""
    rows, columns = layout.rows, layout.columns
    blocks, channels = layout.blocks(depth), maps.shape[1]
    if len(blocks) != maps.shape[0]:
        raise ValueError(f"{depth} slices need {len(blocks)} canvases, got {maps.shape[0]}")
    # Cropped padding comes back as zeros; it lies outside every content, so its value is never read.
    sheet = maps.new_zeros((len(blocks), channels, rows.n * rows.cell, columns.n * columns.cell))
    (onto_y, from_y), (onto_x, from_x) = _overlap(rows, layout.canvas), _overlap(columns, layout.canvas)
    sheet[..., from_y, from_x] = maps[..., onto_y, onto_x]
    grid = sheet.view(len(blocks), channels, rows.n, rows.cell, columns.n, columns.cell)
    inside = grid[:, :, :, _content(rows), :, _content(columns)].permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    lead = layout.lead_empty(depth)
    inside = inside[:, lead : lead + min(depth, layout.cells)]
    if order is not None:
        inside = inside[:, order.argsort()]
    if len(blocks) == 1:
        return inside[0]
    slices = maps.new_empty((depth, *inside.shape[2:]))
    for block, (first, stop) in enumerate(blocks):
        slices[first:stop] = inside[block]
    if maps.is_floating_point():  # only the last two blocks overlap: (a + b) / 2, exact for a == b
        both = slice(blocks[-1][0], blocks[-2][1])
        earlier = inside[-2, both.start - blocks[-2][0] :]
        slices[both] = (slices[both] + earlier) / 2
    return slices


def _content(axis: AxisGeometry) -> slice:
    return slice(axis.pad, axis.pad + axis.content)


def _overlap(axis: AxisGeometry, canvas: int) -> tuple[slice, slice]:
    """What the canvas and the sheet of cells share: (slice of the canvas, slice of the sheet)."""
    start, skip = max(axis.outer, 0), max(-axis.outer, 0)
    length = min(canvas - start, axis.n * axis.cell - skip)
    return slice(start, start + length), slice(skip, skip + length)
