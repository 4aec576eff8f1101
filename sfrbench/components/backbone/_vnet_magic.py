"""What MagicNet trains beside its V-Net (``networks/magicnet.py``)."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from sfrbench.components.backbone._sizes import check_sides


class LocationHead(nn.Module):
    """Says where in its patch a cube was: bottleneck maps to scores of all positions.

    For cubes of ``cube`` voxels a side (a multiple of 16), of which a patch holds ``positions``. ``channels``
    are the bottleneck's: ``SegmentationNetwork.bottleneck_channels``. In training mode it needs two cubes
    or more, for batch norm. Raises ``InputError`` where the cube's side is no multiple of 16.
    """

    def __init__(self, channels: int, cube: int = 32, positions: int = 27) -> None:
        super().__init__()
        check_sides("V-Net", [cube] * 3)
        self.layers = nn.Sequential(
            nn.Linear(channels * (cube // 16) ** 3, 4096),
            nn.BatchNorm1d(4096),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(4096, positions),
        )

    def forward(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """(N, channels, cube/16, cube/16, cube/16) to scores before softmax (N, positions) float32."""
        return cast(torch.Tensor, self.layers(bottleneck.float().flatten(1)))
