"""FLOPs and parameters of the 3D segmenters: V-Net and 3D U-Net of five levels, and nnU-Net's U-Nets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

from sfrbench.components.costs.parts import Layers, Segmenter, Size, linear

if TYPE_CHECKING:
    from sfrbench.components.backbone._topology import Topology

_LEVELS = 5


def _widths(filters: int) -> list[int]:
    return [filters * 2**level for level in range(_LEVELS)]


def _voxels(patch: Size) -> list[float]:
    return [prod(patch) / 8.0**level for level in range(_LEVELS)]


def conv3(voxels: float, inside: int, outside: int, *, first: bool = False) -> Layers:
    """A 3 x 3 x 3 convolution."""
    return linear(voxels, 27 * inside, outside, first=first)


def _sum(layers: list[Layers]) -> Layers:
    return sum(layers, Layers())


def vnet(patch: Size, classes: int, filters: int, norm: str, inputs: int = 1) -> Segmenter:
    """V-Net with additive skips for one patch; ``norm`` as the field says."""
    widths, voxels = _widths(filters), _voxels(patch)
    affine = 2 if norm in ("batch", "group") else 0
    first = conv3(voxels[0], 1, widths[0], first=True)
    encoder, decoder, ups = [first * inputs], [], []
    own = 27 * inputs * widths[0] + (1 + affine) * widths[0]
    for level, count in enumerate((1, 2, 3, 3, 3)):
        width = widths[level]
        repeated = count - (level == 0)
        encoder += [conv3(voxels[level], width, width)] * repeated
        own += repeated * (27 * width * width + (1 + affine) * width)
        if level < _LEVELS - 1:
            encoder.append(linear(voxels[level + 1], 8 * width, 2 * width))
            own += 8 * width * 2 * width + (1 + affine) * 2 * width
    theirs = widths[0] * classes + classes
    for level, count in zip((3, 2, 1, 0), (3, 3, 2, 1), strict=True):
        width = widths[level]
        ups.append(linear(voxels[level + 1], 2 * width, 8 * width))
        decoder += [conv3(voxels[level], width, width)] * count
        theirs += 2 * width * 8 * width + count * 27 * width * width + (count + 1) * (1 + affine) * width
    up, enlarging = _sum(ups), sum(16 * width * width for width in widths[:4])
    head = linear(voxels[0], widths[0], classes)
    sizes = (patch, classes, filters, widths[-1])
    return Segmenter(
        *sizes, _sum(encoder), _sum(decoder) + up, head, first, up, own + theirs, theirs, enlarging
    )


def unet(patch: Size, classes: int, filters: int, *, deep: bool, inputs: int = 1) -> Segmenter:
    """3D U-Net with concatenated skips for one patch. ``deep``: heads at the coarser levels, which are stored
    and which only some methods run."""
    widths, voxels = _widths(filters), _voxels(patch)
    first = conv3(voxels[0], 1, widths[0], first=True)
    encoder, decoder = [first * inputs, conv3(voxels[0], widths[0], widths[0])], []
    own = 27 * (inputs + widths[0]) * widths[0] + 2 * widths[0]
    for level in range(1, _LEVELS):
        above, width = widths[level - 1], widths[level]
        encoder += [conv3(voxels[level], above, width), conv3(voxels[level], width, width)]
        own += 27 * (above + width) * width + 2 * width
    theirs = widths[0] * classes + classes
    for level in range(_LEVELS - 1):
        below, width = widths[level + 1], widths[level]
        decoder += [conv3(voxels[level], below + width, width), conv3(voxels[level], width, width)]
        theirs += 27 * (below + 2 * width) * width + 2 * width
    theirs += sum(width * classes + classes for width in widths[1:4]) if deep else 0
    head = linear(voxels[0], widths[0], classes)
    sizes, none = (patch, classes, filters, widths[-1]), Layers()
    return Segmenter(*sizes, _sum(encoder), _sum(decoder), head, first, none, own + theirs, theirs)


@dataclass
class _Half:
    """Encoder or decoder, layer by layer."""

    layers: Layers = field(default_factory=Layers)
    parameters: int = 0

    def conv(self, rows: float, taps: int, inside: int, outside: int) -> None:
        """A convolution of so many ``taps`` with bias and affine norm."""
        self.layers += linear(rows, taps * inside, outside)
        self.parameters += taps * inside * outside + 3 * outside


def nnunet(
    patch: Size, classes: int, topology: Topology, widths: Sequence[int], *, residual: bool, deep: bool
) -> Segmenter:
    """nnU-Net's U-Net for one patch of one channel. ``deep``: heads at the coarser levels, of which only the
    parameters are counted."""
    from sfrbench.components.backbone._topology import counts

    strides, taps = topology.strides, [prod(kernel) for kernel in topology.kernels]
    voxels = [float(prod(patch))]
    for stride in strides[1:]:
        voxels.append(voxels[-1] / prod(stride))
    down, above, inside = _Half(), _Half(), 1
    if residual:
        down.conv(voxels[0], taps[0], 1, widths[0])
        inside = widths[0]
    for i, count in enumerate(counts(residual, len(widths))):
        for _ in range(count):
            down.conv(voxels[i], taps[i], inside, widths[i])
            if residual:
                down.conv(voxels[i], taps[i], widths[i], widths[i])
            if residual and inside != widths[i]:
                down.conv(voxels[i], 1, inside, widths[i])
                down.parameters -= widths[i]  # without bias
            inside = widths[i]
    first = linear(voxels[0], taps[0], widths[0], first=True)
    encode = replace(down.layers, inputs=down.layers.inputs - first.forward)
    ups, enlarging = Layers(), 0
    for i in reversed(range(len(widths) - 1)):
        wide = prod(strides[i + 1]) * widths[i]
        ups += linear(voxels[i + 1], widths[i + 1], wide)
        enlarging += widths[i + 1] * wide
        above.parameters += widths[i + 1] * wide + widths[i]
        above.conv(voxels[i], taps[i], 2 * widths[i], widths[i])
        if not residual:
            above.conv(voxels[i], taps[i], widths[i], widths[i])
    heads = widths[:-1] if deep else widths[:1]
    theirs = above.parameters + sum(width * classes + classes for width in heads)
    head = linear(voxels[0], widths[0], classes)
    sizes = (patch, classes, widths[0], widths[-1])
    layers = (encode, above.layers + ups, head, first, ups)
    whole = down.parameters + theirs
    return Segmenter(*sizes, *layers, whole, theirs, enlarging, topology.multiples)


def twice(once: Segmenter) -> Segmenter:
    """The same network where its levels run anew for the backward pass; the head does not."""
    encode, decode = (
        replace(part, weights=part.weights + part.forward) for part in (once.encode, once.decode)
    )
    return replace(once, encode=encode, decode=decode)
