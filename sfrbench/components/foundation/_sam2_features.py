"""What SAM 2's image encoder makes of the slices of a volume, each encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sfrbench.components.foundation.prompted import Shown

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def frame(grey: NDArray[np.float32], canvas: int) -> Tensor:
    """A slice (X, Y) in grey levels, 0 to 255, as the model wants it, float32 (1, 3, canvas, canvas).

    Axis 0 of the slice becomes rows. It is stretched, whatever its sides, by pillow's bicubic filter (its
    default, as in Meta's loader).
    """
    picture = Image.fromarray(grey.astype(np.uint8))
    sized = picture.resize((canvas, canvas), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(sized, dtype=np.float32) / 255)
    mean, std = (torch.tensor(three).reshape(3, 1, 1) for three in (MEAN, STD))
    return ((pixels - mean) / std)[None]


class Features:
    """Feature maps of the slices, in files: 16 MiB a slice at 1024 pixels.

    ``encode`` makes them of a frame, (h * w, 1, C) each, finest first. ``positions``, the encodings of the
    coarsest map, are the same for every slice. Files hold float32, so that the first look at a slice and all
    later ones see the same numbers.
    """

    def __init__(
        self,
        shown: Shown,
        canvas: int,
        encode: Callable[[Tensor], Sequence[Tensor]],
        positions: Tensor,
    ) -> None:
        self.shown = shown
        self.canvas = canvas
        self._encode = encode
        self._positions = positions
        self._files: dict[int, list[Path]] = {}

    def of(self, index: int) -> dict[str, list[Tensor]]:
        """The features of a slice as transformers' session keeps them; of position encodings the coarsest
        alone, since no other is read."""
        if index not in self._files:
            self._files[index] = self._encoded(index)
        device = self._positions.device
        maps = [torch.from_numpy(np.load(path)).to(device) for path in self._files[index]]
        return {"vision_feats": maps, "vision_pos_embeds": [self._positions]}

    def _encoded(self, index: int) -> list[Path]:
        pixels = frame(self.shown.grey(index), self.canvas)
        files = []
        for level, maps in enumerate(self._encode(pixels.to(self._positions.device))):
            path = self.shown.scratch / f"slice{index}-{level}.npy"
            np.save(path, maps.float().cpu().numpy())
            files.append(path)
        return files


class Frames:
    """Slices from ``first`` on, in the place of the cache of transformers' session."""

    def __init__(self, features: Features, first: int) -> None:
        self._features = features
        self._first = first

    def get_vision_features(self, frame_idx: int) -> dict[str, list[Tensor]]:
        """What the session asks for before it would encode an image itself; frame 0 is ``first``."""
        return self._features.of(self._first + frame_idx)
