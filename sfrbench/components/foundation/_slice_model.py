"""SAM with its own prompt encoder before a volume, slice by slice; what it says of one follows from the next.

A box around a whole object, as in LiteMedSAM's code: its middle slice gets the box, every other slice the
box around the mask of the slice before, a little wider, or the first box where that is empty. A click, for
which there is no published rule in 3D (ours): its slice is segmented with all its clicks and the logits that
it had before, as segment-anything is used; slices beside it as in a box, until a mask is empty, or half way
to the next slice that was prompted. A box on a slice says nothing of other slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfrbench.components.base_prompts import Box, Form, Said
from sfrbench.components.foundation._slices import Canvas, Manner
from sfrbench.components.foundation.prompted import UNSEEN, Shown, span_of, understood
from sfrbench.components.foundation.segmenter import Frame, Point, SamSegmenter


class SliceModel:
    """SAM with its own four mask tokens, and how it is taken through a volume (fields of ``sam.Sam``)."""

    def __init__(
        self,
        sam: SamSegmenter,
        manner: Manner,
        takes: frozenset[Form],
        *,
        ends: Literal["released", "all"],
        propagate: Literal["boxes", "none"],
    ) -> None:
        self.sam, self.manner, self.takes = sam, manner, takes
        self.ends, self.propagate = ends, propagate
        self.device = "cpu"

    def to(self, device: str) -> SliceModel:
        self.sam.to(device)
        self.device = device
        return self

    def open(self, shown: Shown) -> SliceVolume:
        return SliceVolume(self, shown)


class SliceVolume:
    """A volume before the model. A slice's embedding is made when it is first needed, and kept in a file."""

    def __init__(self, model: SliceModel, shown: Shown) -> None:
        self.model, self.shown = model, shown
        rows, columns, self.depth = shown.image.shape
        self.canvas = Canvas(model.sam.canvas, (rows, columns), model.manner)

    def an_object(self, extent: Box | None) -> SliceObject:
        return SliceObject(self)

    @torch.no_grad()
    def embedding(self, z: int) -> Tensor:
        """The embedding (1, C, h, w) of a slice."""
        path = self.shown.scratch / f"slice{z}.npy"
        if not path.is_file():
            picture = self.canvas.picture(torch.from_numpy(self.shown.grey(z)))[None].to(self.model.device)
            np.save(path, self.model.sam.encode(picture).float().cpu().numpy())
        return torch.from_numpy(np.load(path)).to(self.model.device)

    @torch.no_grad()
    def answer(self, z: int, points: Sequence[Point], frame: Frame | None, mask: Tensor | None) -> Tensor:
        """Small logits (1, 1, h, w) of a slice; ``mask`` are those that it had before.

        A first point that stands alone has three masks, of which the model itself says which is best, where
        that is its manner.
        """
        logits, quality = self.model.sam.ask(self.embedding(z), points, frame, mask)
        alone = len(points) == 1 and frame is None and mask is None
        token = 1 + int(quality[0, 1:].argmax()) if alone and self.model.manner.three else 0
        return logits[:, token : token + 1]


@dataclass
class Chain:
    """The slices that follow from one, one way: small logits of each, as far as they were asked for."""

    answers: list[Tensor] = field(default_factory=list)
    ended: bool = False


class SliceObject:
    """One object. What it was told, and the small logits of every slice that was segmented."""

    def __init__(self, volume: SliceVolume) -> None:
        self.volume = volume
        self.points: dict[int, list[Point]] = {}  # by slice
        self.frames: dict[int, Frame] = {}
        self.whole: Box | None = None
        self.span = (0, volume.depth - 1)
        self.own: dict[int, Tensor | None] = {}  # answers of slices that were prompted; none: it is empty
        self.chains: dict[tuple[int, int], Chain] = {}  # by prompted slice and direction
        self.answers: dict[int, Tensor] = {}  # of all slices, after the last round
        self.heard = 0

    def segment(self, said: Sequence[Said]) -> NDArray[np.float32]:
        self.span = span_of(said, self.volume.depth)
        for one in said[self.heard :]:
            understood(one, self.volume.model.takes)
            for z in sorted(self._told(one)):
                self._ask(z)
            self.answers = self._everywhere()
        self.heard = len(said)
        logits = np.full(self.volume.shown.image.shape, UNSEEN, np.float32)
        for z, small in self.answers.items():
            logits[..., z] = self.volume.canvas.logits(small).cpu().numpy()
        return logits

    def _told(self, said: Said) -> set[int]:
        """Takes in what was said; returns the slices that it was said of."""
        canvas, touched = self.volume.canvas, set()
        for box in said.boxes:
            (x, y, low), (u, v, high) = box.low, box.high
            if high > low:
                self.whole = box
                self.chains.clear()
            self.frames[box.middle] = canvas.frame((x, y), (u, v))
            touched.add(box.middle)
        for click in said.clicks:
            x, y, z = click.at
            self.points.setdefault(z, []).append(canvas.point(x, y, click.inside))
            touched.add(z)
        return touched

    def _ask(self, z: int) -> None:
        """Segments a slice that was prompted, anew."""
        points, before = self.points.get(z, []), self.answers.get(z)
        for way in (1, -1):
            self.chains.pop((z, way), None)
        if z not in self.frames and before is None and not any(inside for _, _, inside in points):
            self.own[z] = None  # it was told only where the object is not
        else:
            self.own[z] = self.volume.answer(z, points, self.frames.get(z), before if points else None)

    def _everywhere(self) -> dict[int, Tensor]:
        """The answers of prompted slices, and of those that follow from them."""
        first, last = self._reach()
        found = {z: small for z, small in self.own.items() if small is not None}
        prompted = sorted(self.own)
        for z, before, after in zip(prompted, [None, *prompted[:-1]], [*prompted[1:], None], strict=True):
            if self._spreads(z):
                above = last if after is None else min(last, (z + after) // 2)
                below = first if before is None else max(first, (before + z) // 2 + 1)
                found |= self._following(z, 1, above - z) | self._following(z, -1, z - below)
        low, high = self.span
        return {z: small for z, small in found.items() if low <= z <= high}

    def _reach(self) -> tuple[int, int]:
        """First and last slice that may follow from others."""
        first, last = self.span
        if self.whole is not None:
            low, high = self.whole.low[2], self.whole.high[2]
            left_out = int(self.volume.model.ends == "released")
            first, last = max(first, low + left_out), min(last, high - left_out)
        return first, last

    def _spreads(self, z: int) -> bool:
        """Whether slices beside ``z`` follow from it."""
        if self.whole is not None and z == self.whole.middle:
            return True
        return self.volume.model.propagate == "boxes" and z in self.points and self.own[z] is not None

    def _following(self, z: int, way: Literal[1, -1], count: int) -> dict[int, Tensor]:
        """The answers of at most ``count`` slices after ``z``, one way."""
        chain = self.chains.setdefault((z, way), Chain())
        if len(chain.answers) > max(count, 0):
            del chain.answers[max(count, 0) :]
            chain.ended = False
        while len(chain.answers) < count and not chain.ended:
            frame = self._next_frame(chain.answers[-1] if chain.answers else self.own[z])
            if frame is None:
                chain.ended = True
            else:
                at = z + way * (len(chain.answers) + 1)
                chain.answers.append(self.volume.answer(at, (), frame, None))
        return {z + way * number: small for number, small in enumerate(chain.answers, start=1)}

    def _next_frame(self, small: Tensor | None) -> Frame | None:
        """The box that the mask of a slice gives the next one."""
        canvas = self.volume.canvas
        frame = None if small is None else canvas.around(canvas.logits(small).cpu() > 0)
        return frame if frame or self.whole is None else self.frames[self.whole.middle]
