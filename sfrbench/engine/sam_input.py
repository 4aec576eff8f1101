"""What SAM is given: crops on the input scale of a foundation, and the canvases that they are stitched to."""

from __future__ import annotations

import torch

from sfrbench.components.base import Foundation, Stitch
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.labels import IGNORE
from sfrbench.maths.sampling import Patch, Volume

#: Canvases with their labels.
Pair = tuple[torch.Tensor, torch.Tensor]


def all_canvases(stitch: Stitch, image: torch.Tensor, label: torch.Tensor, canvas: int) -> Pair:
    """Every canvas of a patch (X, Y, Z), in order: (N, 1, I, I), and labels (N, I, I) int64 with 255."""
    images = stitch.to_canvases(image[None], canvas, 0.0)
    return images, stitch.to_canvases(label[None], canvas, IGNORE)[:, 0]


def sam_input(foundation: Foundation, volumes: Volumes, patch: Patch, image: Volume) -> torch.Tensor:
    """A crop (X, Y, Z) on the input scale of the foundation; 0 outside the volume, as in inference."""
    scaled = foundation.normalise(torch.from_numpy(image), volumes.case(patch.case).range)
    return scaled * torch.from_numpy(patch.inside)
