"""What MagicNet trains beside its V-Net (``networks/magicnet.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from torch import nn

from sfrbench.components.backbone._multiples import MULTIPLES, check_sides


class LocationHead(nn.Module):
    """Says where in its patch a cube was: bottleneck maps to scores of all positions.

    For cubes of ``cube`` voxels (one side or three), of which a patch holds ``positions``. ``channels`` and
    ``multiples`` are those of the ``SegmentationNetwork``: channels of its bottleneck, and voxels along x, y
    and z that make one voxel there. In training mode it needs two cubes or more, for batch norm. Raises
    ``InputError`` where a side is no multiple.
    """

    def __init__(
        self,
        channels: int,
        cube: int | Sequence[int] = 32,
        positions: int = 27,
        multiples: Sequence[int] = MULTIPLES,
    ) -> None:
        super().__init__()
        sides = [cube] * 3 if isinstance(cube, int) else list(cube)
        check_sides("the backbone", sides, multiples)
        places = prod(side // by for side, by in zip(sides, multiples, strict=True))
        self.layers = nn.Sequential(
            nn.Linear(channels * places, 4096),
            nn.BatchNorm1d(4096),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(4096, positions),
        )

    def forward(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """(N, channels, *cube / multiples) to scores before softmax (N, positions) float32."""
        vectors = bottleneck.flatten(1).to(next(self.parameters()))
        return cast(torch.Tensor, self.layers(vectors))
