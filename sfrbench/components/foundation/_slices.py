"""One slice before SAM: the picture on the canvas, prompts on the canvas, and logits of the slice.

The first axis of a slice are the rows of its picture, the second the columns. Sources:
facebookresearch/segment-anything (``SamPredictor``, ``ResizeLongestSide``, ``Sam``), bowang-lab/MedSAM
(``CVPR24_LiteMedSAM_infer.py``, ``MedSAM_Inference.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sfrbench.components.foundation.segmenter import Frame, Point

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of Meta's training images, 0 to 255


@dataclass(frozen=True)
class Manner:
    """How the published code of a model shows it a slice, and asks it."""

    scale: Literal["pixels", "slice"]  # Meta's mean and deviation; or the slice's own range to [0, 1]
    shrink: Literal["bilinear", "area", "cubic"]
    enlarge: Literal["bilinear", "area", "cubic"]  # by area: blocks; cubic: splines, in whole grey levels
    whole_pixels: bool  # corners of boxes are cut to whole pixels of the canvas
    three: bool  # a first click has three masks, and that with the best predicted IoU is taken
    square: bool = False  # a slice fills the canvas, whatever its sides; masks come from it in one step


SEGMENT_ANYTHING = Manner("pixels", "bilinear", "bilinear", whole_pixels=False, three=True)
LITE_MEDSAM = Manner("slice", "area", "area", whole_pixels=True, three=False)
MEDSAM = Manner("slice", "cubic", "cubic", whole_pixels=False, three=False, square=True)


@dataclass(frozen=True)
class Canvas:
    """The place of slices of one size (rows, columns) on the square canvas: at its top left."""

    side: int
    size: tuple[int, int]
    manner: Manner

    @property
    def scaled(self) -> tuple[int, int]:
        """Rows and columns of the slice once its longer side is that of the canvas."""
        if self.manner.square:
            return self.side, self.side
        scale = self.side / max(self.size)
        rows, columns = (int(side * scale + 0.5) for side in self.size)
        return max(rows, 1), max(columns, 1)

    def picture(self, grey: Tensor) -> Tensor:
        """Grey levels (rows, columns), 0 to 255, to what the encoder takes, (3, side, side)."""
        small = self._resized(grey)
        if self.manner.scale == "slice":
            low, high = small.min(), small.max()
            shown = ((small - low) / (high - low).clamp(min=1e-8)).expand(3, -1, -1)
        else:
            mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
            shown = (small - mean) / std
        return self._padded(shown)

    def point(self, row: int, column: int, inside: bool) -> Point:
        """A pixel of the slice on the canvas."""
        rows, columns = self._factors
        return column * columns, row * rows, inside

    def frame(self, first: tuple[int, int], last: tuple[int, int]) -> Frame:
        """The box of two corner pixels (row, column), both within, on the canvas."""
        rows, columns = self._factors
        if self.manner.whole_pixels:
            scale = self.side / max(self.size)
            (top, left), (bottom, right) = (
                (int(row * scale), int(column * scale)) for row, column in (first, last)
            )
            return left, top, right, bottom
        return first[1] * columns, first[0] * rows, last[1] * columns, last[0] * rows

    def logits(self, small: Tensor) -> Tensor:
        """Small logits (1, 1, h, w) as logits (rows, columns) of the slice."""
        if self.manner.square:  # MedSAM's code enlarges probabilities
            return torch.logit(_bilinear(small.float().sigmoid(), self.size), eps=1e-6)[0, 0]
        rows, columns = self.scaled
        whole = _bilinear(small, (self.side, self.side))[..., :rows, :columns]
        return _bilinear(whole, self.size)[0, 0]

    def around(self, mask: Tensor) -> Frame | None:
        """The box around a mask (rows, columns) on the canvas, wider by 3 pixels of 256 a side; none: empty.

        As in LiteMedSAM's code: a pixel of the canvas is within where more than half of it is, and the far
        corner may lie one pixel beyond the canvas.
        """
        small = by_area(mask.double(), self.scaled) > 0.5 + 1e-6  # half of a pixel is half on every processor
        rows, columns = (torch.nonzero(small.any(axis)).flatten().tolist() for axis in (1, 0))
        if not rows:
            return None
        more = max(round(3 * self.side / 256), 1)
        left, top = max(columns[0] - more, 0), max(rows[0] - more, 0)
        return left, top, min(columns[-1] + more, self.side), min(rows[-1] + more, self.side)

    @property
    def _factors(self) -> tuple[float, float]:
        return self.scaled[0] / self.size[0], self.scaled[1] / self.size[1]

    def _resized(self, grey: Tensor) -> Tensor:
        way = self.manner.shrink if self.side < max(self.size) else self.manner.enlarge
        if way == "area":
            return by_area(grey, self.scaled)
        if way == "cubic":
            return by_splines(grey, self.scaled).floor()
        return F.interpolate(
            grey[None, None], self.scaled, mode="bilinear", align_corners=False, antialias=True
        )[0, 0]

    def _padded(self, values: Tensor) -> Tensor:
        rows, columns = values.shape[-2:]
        return F.pad(values, (0, self.side - columns, 0, self.side - rows))


def _bilinear(values: Tensor, size: tuple[int, int]) -> Tensor:
    if values.shape[-2:] == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def by_splines(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(rows, columns) at another size by cubic splines, never beyond the range of the values; a side that
    shrinks is smoothed before. That is scikit-image's ``resize`` with ``order=3, anti_aliasing=True``."""
    from scipy import ndimage

    old = values.double().cpu().numpy()
    factors = [before / after for before, after in zip(old.shape, size, strict=True)]
    smooth = ndimage.gaussian_filter(old, [max(0.0, (one - 1) / 2) for one in factors], mode="mirror")
    new = ndimage.zoom(smooth, [1 / one for one in factors], order=3, mode="mirror", grid_mode=True)
    return torch.from_numpy(new.clip(old.min(), old.max())).to(values)


def by_area(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(rows, columns) at another size: each new pixel is the mean of what it covers of the old ones.

    That is OpenCV's INTER_AREA, whether a side shrinks or grows.
    """
    rows, columns = (shares(old, new) for old, new in zip(values.shape, size, strict=True))
    return (rows @ values.double() @ columns.T).to(values.dtype)


@cache
def shares(old: int, new: int) -> Tensor:
    """(new, old), float64: the share of each old pixel in each new one along an axis; rows add up to 1."""
    edges = torch.arange(new + 1, dtype=torch.float64) * (old / new)
    pixel = torch.arange(old, dtype=torch.float64)
    upper = torch.minimum(edges[1:, None], pixel + 1)
    lower = torch.maximum(edges[:-1, None], pixel)
    return (upper - lower).clamp(min=0) * (new / old)
