"""FLOPs and parameters of MONAI's convolutional networks: SegResNet, DynUNet and MedNeXt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from sfrbench.components.costs.parts import Layers, Segmenter, Size, linear


class _Half:
    """Encoder or decoder, layer by layer."""

    def __init__(self) -> None:
        self.layers, self.parameters = Layers(), 0

    def conv(
        self, voxels: float, taps: int, inside: int, outside: int, *, more: int = 0, first: bool = False
    ) -> Layers:
        """A convolution of so many ``taps`` for each pair of channels; ``more``: values for each channel that
        it makes, as a bias or an affine norm."""
        made = linear(voxels, taps * inside, outside, first=first)
        self.layers += made
        self.parameters += (taps * inside + more) * outside
        return made


def _voxels(patch: Size, levels: int) -> list[float]:
    return [prod(patch) / 8.0**level for level in range(levels)]


def _segmenter(
    patch: Size, classes: int, widths: Sequence[int], down: _Half, above: _Half, first: Layers
) -> Segmenter:
    """With the last layer, of kernels of 1 with bias; no layer for CauSSL to put another in its place."""
    filters = widths[0]
    theirs = above.parameters + filters * classes + classes
    head = linear(prod(patch), filters, classes)
    whole, by = down.parameters + theirs, 2 ** (len(widths) - 1)
    sizes, layers = (patch, classes, filters, widths[-1]), (down.layers, above.layers, head, first, Layers())
    return Segmenter(*sizes, *layers, whole, theirs, multiples=(by, by, by))


def segresnet(patch: Size, classes: int, filters: int) -> Segmenter:
    """Residual blocks of two convolutions, 1, 2, 2 and 4 down and one at each level up."""
    widths, voxels, down, above = (
        [filters * 2**level for level in range(4)],
        _voxels(patch, 4),
        _Half(),
        _Half(),
    )

    def block(half: _Half, level: int) -> None:
        for _ in range(2):
            half.conv(voxels[level], 27, widths[level], widths[level], more=2)

    first = down.conv(voxels[0], 27, 1, filters, first=True)
    for level, count in enumerate((1, 2, 2, 4)):
        if level:
            down.conv(voxels[level], 27, widths[level - 1], widths[level])
        for _ in range(count):
            block(down, level)
    for level in (2, 1, 0):
        above.conv(voxels[level + 1], 1, widths[level + 1], widths[level])
        block(above, level)
    above.parameters += 2 * filters  # the last norm
    return _segmenter(patch, classes, widths, down, above, first)


def dynunet(patch: Size, classes: int, widths: Sequence[int], *, residual: bool, deep: bool) -> Segmenter:
    """``deep``: heads at the coarser levels, of which only the parameters are counted."""
    voxels, down, above = _voxels(patch, len(widths)), _Half(), _Half()
    first, inside = Layers(), 1
    for level, width in enumerate(widths):
        opening = down.conv(voxels[level], 27, inside, width, more=2, first=level == 0)
        first = first if level else opening
        down.conv(voxels[level], 27, width, width, more=2)
        if residual and (level or inside != width):
            beside = down.conv(voxels[level], 1, inside, width, more=2, first=level == 0)
            first = first if level else first + beside
        inside = width
    ups, enlarging = Layers(), 0
    for level in reversed(range(len(widths) - 1)):
        width, below = widths[level], widths[level + 1]
        ups += above.conv(voxels[level + 1], 1, below, 8 * width)
        enlarging += 8 * width * below
        above.conv(voxels[level], 27, 2 * width, width, more=2)
        above.conv(voxels[level], 27, width, width, more=2)
    above.parameters += sum(width * classes + classes for width in widths[1:-1]) if deep else 0
    cost = _segmenter(patch, classes, widths, down, above, first)
    return replace(cost, up=ups, up_parameters=enlarging)


def mednext(
    patch: Size,
    classes: int,
    filters: int,
    blocks: Sequence[int],
    ratios: Sequence[int],
    taps: int,
    deep: bool,
) -> Segmenter:
    """Nine stages of blocks, first to last: depthwise convolution of ``taps``, expansion, compression.
    ``deep``: heads at the coarser levels, of which only the parameters are counted."""
    widths, voxels, down, above = (
        [filters * 2**level for level in range(5)],
        _voxels(patch, 5),
        _Half(),
        _Half(),
    )

    def block(half: _Half, seen: float, made: float, inside: int, outside: int, ratio: int) -> None:
        """``seen``: voxels that the depthwise convolution works at, ``made``: those of the others."""
        half.conv(seen, taps, 1, inside, more=3)
        half.conv(made, 1, inside, ratio * inside, more=1)
        half.conv(made, 1, ratio * inside, outside, more=1)

    first = down.conv(voxels[0], 1, 1, filters, more=1, first=True)
    for level in range(5):
        for _ in range(blocks[level]):
            block(down, voxels[level], voxels[level], widths[level], widths[level], ratios[level])
        if level < 4:
            inside, outside, at = widths[level], widths[level + 1], voxels[level + 1]
            block(down, at, at, inside, outside, ratios[level])
            down.conv(at, 1, inside, outside, more=1)
    for level, count, ratio in zip((3, 2, 1, 0), blocks[5:], ratios[5:], strict=True):
        inside, outside, at = widths[level + 1], widths[level], voxels[level + 1]
        enlarged = prod(side / 2**level - 1 for side in patch)  # padded afterwards
        block(above, at, enlarged, inside, outside, ratio)
        above.conv(at, 1, inside, outside, more=1)
        for _ in range(count):
            block(above, voxels[level], voxels[level], outside, outside, ratio)
    above.parameters += sum(width * classes + classes for width in widths[1:]) if deep else 0
    return _segmenter(patch, classes, widths, down, above, first)
