"""FLOPs and parameters of SAM's encoders (segment-anything's ViT, LiteMedSAM's TinyViT) and its decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfrbench.components.costs.parts import Blocks, Layers, Sam, attention, linear

_DIM = 256


@dataclass(frozen=True)
class Vit:
    """The shape of segment-anything's ViT; ``whole`` blocks attend globally, the others in windows."""

    width: int
    depth: int
    whole: int
    heads: int
    patch: int = 16
    window: int = 14
    out: int = _DIM
    mlp: int = 2048  # of the decoder
    grid: int = 64  # tokens a side that it was pretrained with
    again: bool = False


#: ViT-B, -L and -H (segment-anything, build_sam.py), and the toy.
VITS = {"b": Vit(768, 12, 4, 12), "l": Vit(1024, 24, 4, 16), "h": Vit(1280, 32, 4, 16)}
TOY = Vit(32, 2, 1, 2, patch=8, window=4, out=32, mlp=64, grid=8)


def block_layers(vit: Vit, side: int, *, whole: bool) -> Layers:
    """One block on a grid of ``side`` x ``side`` tokens."""
    tokens, width = side * side, vit.width
    plain = linear(tokens, width, 3 * width) + linear(tokens, width, width)
    plain += linear(tokens, width, 4 * width) + linear(tokens, 4 * width, width)
    maps, inner = (1, side) if whole else ((-(-side // vit.window)) ** 2, vit.window)
    places = linear(maps * inner * inner * width, 1, inner) * 2  # decomposed positions, rows and columns
    return plain + places + attention(maps, inner * inner, inner * inner, width)


def vit_parameters(vit: Vit, side: int) -> int:
    """Parameters of the encoder for a grid of ``side`` x ``side`` tokens."""
    width, head = vit.width, vit.width // vit.heads
    blocks = vit.depth * (12 * width * width + 13 * width)
    places = 2 * head * (vit.whole * (2 * side - 1) + (vit.depth - vit.whole) * (2 * vit.window - 1))
    embed = 3 * vit.patch**2 * width + width + side * side * width
    return blocks + places + embed + width * vit.out + 9 * vit.out**2 + 4 * vit.out


def neck(tokens: float, width: int, out: int) -> Layers:
    return linear(tokens, width, out) + linear(tokens, 9 * out, out)


def vit_sam(vit: Vit, canvas: int, classes: int) -> Sam:
    """SAM with a ViT for one canvas of ``canvas`` pixels."""
    side = canvas // vit.patch
    tokens = side * side
    windowed = block_layers(vit, side, whole=False) * (vit.depth - vit.whole)
    encode = block_layers(vit, side, whole=True) * vit.whole + windowed + neck(tokens, vit.width, vit.out)
    return _sam(
        linear(tokens, 3 * vit.patch**2, vit.width, first=True),
        encode,
        [Blocks(vit.width, vit.depth, vit.depth * tokens)],
        vit_parameters(vit, side),
        tokens,
        canvas,
        classes,
        vit,
    )


def _sam(
    embed: Layers,
    encode: Layers,
    blocks: Sequence[Blocks],
    parameters: int,
    tokens: int,
    canvas: int,
    classes: int,
    vit: Vit | None,
) -> Sam:
    dim, mlp = (vit.out, vit.mlp) if vit is not None else (_DIM, 2048)
    decoder, head = decoder_parameters(classes, dim, mlp)
    prompts = 23 * dim + 332
    again = vit is not None and vit.again
    return Sam(
        embed,
        encode,
        decoder_layers(tokens, classes, dim, mlp),
        blocks,
        parameters,
        prompts,
        decoder,
        head,
        canvas,
        classes,
        vit,
        again,
    )


def decoder_layers(tokens: int, classes: int, dim: int, mlp: int, others: int = 1) -> Layers:
    """SAM's mask decoder on an embedding of ``tokens``; a token for each class, and ``others``: the IoU's."""
    asked, half = classes + others, dim // 2
    own = linear(asked, dim, dim) * 4 + attention(1, asked, asked, dim, again=False)
    across = attention(1, asked, tokens, half, again=False)
    to_image = linear(asked, dim, half) + linear(tokens, dim, half) * 2 + linear(asked, half, dim) + across
    to_tokens = linear(tokens, dim, half) + linear(asked, dim, half) * 2 + linear(tokens, half, dim) + across
    layer = own + to_image + to_tokens + linear(asked, dim, mlp) * 2
    enlarged = linear(tokens, dim, dim) + linear(4 * tokens, dim // 4, dim // 2)
    heads = (linear(1, dim, dim) * 2 + linear(1, dim, dim // 8)) * classes
    heads += linear(1, dim, dim) * 2 + linear(1, dim, classes)
    masks = linear(16 * tokens, dim // 8, classes)
    return layer * 2 + to_image + enlarged + heads + masks


def decoder_parameters(classes: int, dim: int, mlp: int) -> tuple[int, int]:
    """Parameters of the mask decoder, and of its mask tokens and their MLPs."""
    half = dim // 2
    own = 4 * (dim * dim + dim)
    across = 3 * (dim * half + half) + half * dim + dim
    layer = own + 2 * across + 2 * dim * mlp + mlp + dim + 8 * dim
    enlarged = 4 * dim * (dim // 4) + dim // 4 + 2 * (dim // 4) + 4 * (dim // 4) * (dim // 8) + dim // 8
    one = 2 * (dim * dim + dim) + dim * (dim // 8) + dim // 8
    head = classes * dim + classes * one
    iou = dim + 2 * (dim * dim + dim) + dim * classes + classes
    return 2 * layer + across + 2 * dim + enlarged + head + iou, head


#: TinyViT of LiteMedSAM: width, blocks, window; the grid is halved where ``stride`` is 2.
_TINY = ((64, 2, 0, 2), (128, 2, 7, 2), (160, 6, 14, 1), (320, 2, 7, 0))


def tiny_sam(canvas: int, classes: int) -> Sam:
    """LiteMedSAM for one canvas: TinyViT, whose embedding has a token for 4 x 4 pixels."""
    pixels = canvas * canvas
    # two 1 x 1 convolutions at full resolution, as the model has them
    embed = linear(pixels, 3, 32, first=True)
    layers = linear(pixels, 32, 64)
    side, encode, blocks = canvas, layers, []
    parameters = 3 * 32 + 32 * 64 + 2 * 96
    for index, (width, count, window, stride) in enumerate(_TINY):
        tokens = side * side
        if not window:
            wide = 4 * width
            one = linear(tokens, width, wide) + linear(tokens * wide, 9, 1) + linear(tokens, wide, width)
            own = 2 * width * wide + 9 * wide + 2 * (2 * wide + width)
        else:
            one = _tiny_block(side, width, window)
            heads = width // 32
            own = 12 * width * width + 15 * width + 9 * width + heads * window * window
            blocks.append(Blocks(width, count, count * tokens))
        encode += one * count
        parameters += count * own
        if stride:
            out = _TINY[index + 1][0]
            after = -(-side // stride)
            encode += linear(tokens, width, out) + linear(after * after * out, 9, 1)
            encode += linear(after * after, out, out)
            parameters += width * out + 9 * out + out * out + 6 * out
            side = after
    encode += neck(side * side, 320, _DIM)
    parameters += 320 * _DIM + 9 * _DIM**2 + 4 * _DIM
    return _sam(embed, encode, blocks, parameters, side * side, canvas, classes, None)


def _tiny_block(side: int, width: int, window: int) -> Layers:
    tokens, maps = side * side, (-(-side // window)) ** 2
    inside = maps * window * window
    one = linear(inside, width, 3 * width) + linear(inside, width, width)
    one += attention(maps, window * window, window * window, width, again=False)
    one += linear(tokens * width, 9, 1)
    return one + linear(tokens, width, 4 * width) + linear(tokens, 4 * width, width)
