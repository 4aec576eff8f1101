"""Small maps are convolved in float32, whatever autocast says: bf16 kernels of CPUs are wrong there.

Measured with torch 2.13, NaN in freed memory, against float32. On AVX-512 the weight gradient of a 3x3x3
convolution reads memory that nobody wrote wherever the first side of the map is 2, whatever the others and
the widths; with AMX depthwise ones still do. On AMX the forward pass is wrong for maps of one channel whose
first side is 1, and with a stride where the last side becomes 1 (pytorch#169688). With AVX2, and with three
points or more along every side, all is right to 0.005; 2D convolutions are right everywhere. The rule is
wider than the faults and asks for the shape alone, so that every machine computes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

#: A map with a side of this many points or fewer, before or after the convolution, is small.
SMALL = 2


def knows_autocast(device: str) -> bool:
    """False for "meta", where shapes and parameters are counted."""
    return bool(torch.amp.is_autocast_available(device))


def autocasts(device: str) -> bool:
    """Whether autocast is on for a type of device."""
    return knows_autocast(device) and torch.is_autocast_enabled(device)


def is_small(sides: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a map of these sides, or what a convolution with ``stride`` makes of it, is small."""
    return any(side // step <= SMALL for side, step in zip(sides, stride, strict=True))


def convolved(convolve: Callable[[Tensor], Tensor], maps: Tensor, stride: Sequence[int]) -> Tensor:
    """``convolve(maps)`` for maps (B, C, *sides); under autocast, small maps in and out are float32."""
    device = maps.device.type
    if not (autocasts(device) and is_small(maps.shape[2:], stride)):
        return convolve(maps)
    with torch.autocast(device, enabled=False):
        return convolve(maps.float())


class Conv2d(nn.Conv2d):
    """Torch's, with small maps in float32."""

    def forward(self, input: Tensor) -> Tensor:
        return convolved(super().forward, input, self.stride)


class Conv3d(nn.Conv3d):
    """Torch's, with small maps in float32."""

    def forward(self, input: Tensor) -> Tensor:
        return convolved(super().forward, input, self.stride)


class ConvTranspose2d(nn.ConvTranspose2d):
    """Torch's, with small maps in float32."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return convolved(lambda maps: super(ConvTranspose2d, self).forward(maps, output_size), input, (1, 1))


class ConvTranspose3d(nn.ConvTranspose3d):
    """Torch's, with small maps in float32."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return convolved(
            lambda maps: super(ConvTranspose3d, self).forward(maps, output_size), input, (1, 1, 1)
        )


_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
}


def guard(network: nn.Module) -> None:
    """Turn torch's convolutions in a network into those above (in place); parameters and names stay."""
    for part in network.modules():
        if type(part) in _OURS:
            part.__class__ = _OURS[type(part)]
