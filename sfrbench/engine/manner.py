"""How windows of a prediction are laid, weighted and put together: a plain mean, or nnU-Net's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

#: Patches (B, X, Y, Z) float32 to maps (B, K, X, Y, Z), see ``inference.Forward``.
Forward = Callable[[torch.Tensor], torch.Tensor]
#: nnU-Net's standard deviation of the weights along an axis, as a share of the window.
SIGMA = 1 / 8
#: Its largest weight.
PEAK = 10


@dataclass(frozen=True)
class Manner:
    """As the fields of ``Protocol`` of the same names say; ``spread``: windows evenly, no further apart than
    the stride."""

    spread: bool = False
    gaussian: bool = False
    mirror: bool = False
    logits: bool = False


PLAIN = Manner()


@lru_cache(maxsize=4)
def gaussian_weights(patch: tuple[int, int, int]) -> torch.Tensor:
    """Of the voxels of a window (X, Y, Z) float32, 10 at its middle voxel ``side // 2``: nnU-Net's
    ``compute_gaussian``, a point blurred by an eighth of each side. As there it is rounded to half precision,
    and what that makes 0 gets the smallest weight above 0, so that each voxel has one."""
    point = np.zeros(patch)
    point[tuple(side // 2 for side in patch)] = 1
    blurred = gaussian_filter(point, [side * SIGMA for side in patch], mode="constant")
    weights = (PEAK * blurred / blurred.max()).astype(np.float16)
    weights[weights == 0] = weights[weights > 0].min()
    return torch.from_numpy(weights.astype(np.float32))


def mirrored(forward: Forward) -> Forward:
    """The mean of a forward pass and of those of the patch mirrored along each set of axes, mirrored back: 8
    in all."""
    axes = [some for count in (1, 2, 3) for some in combinations((-3, -2, -1), count)]

    def mean(patches: torch.Tensor) -> torch.Tensor:
        total = forward(patches)
        for some in axes:
            total = total + forward(patches.flip(some)).flip(some)
        return total / (len(axes) + 1)

    return mean
