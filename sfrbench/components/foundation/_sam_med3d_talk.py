"""SAM-Med3D before a volume: a cube for each object, clicks on it, answers on the volume's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sfrbench.components.base_prompts import Box, Click, Form, Said, Voxel
from sfrbench.components.foundation._sam_med3d_cube import OUTSIDE, Grid, Image, crop, normalised
from sfrbench.components.foundation._sam_med3d_net import SamMed3dNet
from sfrbench.components.foundation.prompted import Shown, span_of, understood


@dataclass(frozen=True)
class Manner:
    """What a card says of cubes and clicks; its fields have the same names, and the words."""

    takes: frozenset[Form]
    canvas: int
    spacing: float
    points: Literal["all", "newest"]
    background: Literal["minimum", "zero"]
    flip: tuple[bool, bool, bool]


class Prompted:
    """The network with what the card says."""

    def __init__(self, network: SamMed3dNet, manner: Manner) -> None:
        self.network, self.manner, self.device = network, manner, "cpu"

    def to(self, device: str) -> Prompted:
        self.network, self.device = self.network.to(device), device
        return self

    def open(self, shown: Shown) -> Volume:
        return Volume(self, shown)


class Volume:
    """A volume on the grid that the model sees, once for all its objects."""

    def __init__(self, model: Prompted, shown: Shown) -> None:
        self.model, manner = model, model.manner
        self.grid = Grid.of(shown.image.shape, shown.spacing, manner.spacing, manner.flip)
        image = np.asarray(shown.image, np.float32)
        self.image = self.grid.resample(image - image.min() if manner.background == "minimum" else image)

    def an_object(self, extent: Box | None) -> Subject:
        return Subject(self, extent)


class Subject:
    """One object: its cube, where that is known, and the logits that the last click left."""

    def __init__(self, volume: Volume, extent: Box | None) -> None:
        self.volume, self.model = volume, volume.model
        self.begin: Voxel | None = None
        self.embedding: Tensor | None = None
        self.low: Tensor | None = None  # (1, 1, I/4, I/4, I/4)
        if extent is not None:
            self.begin = volume.grid.begin(extent, self.model.manner.canvas)

    @torch.inference_mode()
    def segment(self, said: Sequence[Said]) -> NDArray[np.float32]:
        """Logits (X, Y, Z) as ``PromptedObject`` has them.

        A round without a click inside of the cube tells the model nothing, and leaves its answer as it was.
        """
        understood(said[-1], self.model.manner.takes)
        if self.begin is None and (first := [click for one in said for click in one.clicks]):
            self.begin = self.volume.grid.begin(Box(first[0].at, first[0].at), self.model.manner.canvas)
        rounds = [self._inside(one.clicks) for one in said]
        if rounds[-1]:
            self._ask(rounds[-1] if self.model.manner.points == "newest" else list(chain(*rounds)))
        logits = self._answer()
        low, high = span_of(said, logits.shape[2])
        logits[..., :low] = logits[..., high + 1 :] = OUTSIDE
        return logits

    def _inside(self, clicks: Sequence[Click]) -> list[tuple[Voxel, int]]:
        """Clicks as voxels of the cube, those outside of it left out."""
        begin, side = self.begin, self.model.manner.canvas
        if begin is None:
            return []
        found = []
        for click in clicks:
            x, y, z = (at - low for at, low in zip(self.volume.grid.place(click.at), begin, strict=True))
            if all(0 <= at < side for at in (x, y, z)):
                found.append(((x, y, z), int(click.inside)))
        return found

    def _ask(self, clicks: Sequence[tuple[Voxel, int]]) -> None:
        """Let the model answer, from its embedding of the cube, which is made at the first click."""
        network, device = self.model.network, self.model.device
        if self.embedding is None or self.low is None:
            assert self.begin is not None
            cube = normalised(crop(self.volume.image, self.begin, self.model.manner.canvas))
            self.embedding = network.embed(torch.from_numpy(cube)[None, None].to(device))
            self.low = network.nothing_said()
        places = torch.tensor([place for place, _ in clicks], device=device)
        labels = torch.tensor([label for _, label in clicks], device=device)
        self.low = network.answer(self.embedding, places, labels, self.low)

    def _answer(self) -> Image:
        """The last logits on the volume's grid: trilinear to the cube, from there by nearest voxels."""
        if self.low is None or self.begin is None:
            return np.full([axis.size for axis in self.volume.grid.axes], OUTSIDE)
        side = self.model.manner.canvas
        cube = F.interpolate(self.low, size=(side,) * 3, mode="trilinear", align_corners=False)
        return self.volume.grid.back(cube[0, 0].cpu().numpy(), self.begin)
