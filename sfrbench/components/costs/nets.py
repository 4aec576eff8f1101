"""FLOPs and parameters of the 3D segmenters: V-Net and 3D U-Net of five levels."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from sfrbench.components.costs.parts import Layers, Segmenter, Size, linear

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


def twice(once: Segmenter) -> Segmenter:
    """The same network where its levels run anew for the backward pass; the head does not."""
    encode, decode = (
        replace(part, weights=part.weights + part.forward) for part in (once.encode, once.decode)
    )
    return replace(once, encode=encode, decode=decode)
