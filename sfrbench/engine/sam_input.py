"""What SAM is given: images on the input scale of a foundation, and the canvases that are made of them."""

from __future__ import annotations

import torch

from sfrbench.components.base import Foundation, Stitch
from sfrbench.engine.volumes import Volumes
from sfrbench.maths.labels import IGNORE
from sfrbench.maths.sampling import Patch, Volume

#: Canvases with their labels.
Pair = tuple[torch.Tensor, torch.Tensor]
#: The 0.5 and 99.5 percentiles of a prepared volume.
Range = tuple[float, float]


def all_canvases(stitch: Stitch, image: torch.Tensor, label: torch.Tensor, canvas: int) -> Pair:
    """Every canvas of a patch (X, Y, Z), in order: (N, 1, I, I), and labels (N, I, I) int64 with 255."""
    images = stitch.to_canvases(image[None], canvas, 0.0)
    return images, stitch.to_canvases(label[None], canvas, IGNORE)[:, 0]


def sam_input(
    foundation: Foundation, image: torch.Tensor, value_range: Range, inside: torch.Tensor | None = None
) -> torch.Tensor:
    """A z-scored volume or crop (X, Y, Z) on the input scale of the foundation.

    ``value_range`` is the whole volume's. Where a crop is not ``inside`` its volume it becomes 0, as windows
    are padded.
    """
    scaled = foundation.normalise(image, value_range)
    return scaled if inside is None else scaled * inside


def crop_input(foundation: Foundation, volumes: Volumes, patch: Patch, image: Volume) -> torch.Tensor:
    """``sam_input`` of a crop; ``image`` is the patch's, augmented or plain."""
    value_range = volumes.case(patch.case).range
    return sam_input(foundation, torch.from_numpy(image), value_range, torch.from_numpy(patch.inside))
