"""What fine-tuning a SAM costs, by which of its parts trains and by what is put into it."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from sfrbench.components.costs import sam as shapes
from sfrbench.components.costs.parts import Layers, Sam, Tuned, attention, linear

#: Of 3DSAM-adapter: sides of a window in tokens, interpolated slices a token, levels of the decoder.
_WINDOW, _SLICES, _LEVELS = 8, 16, 4
_NOTHING = Layers()


def _tuned(sam: Sam, encoder: float, decoder: float, trained: int, more: Layers = _NOTHING) -> Tuned:
    """``encoder`` and ``decoder``: FLOPs of their training, ``more``: adapters that stay at inference."""
    forward = sam.embed.forward + sam.encode.forward + sam.decode.forward + more.forward
    again = sam.encode.forward if sam.again and encoder > sam.embed.forward + sam.encode.forward else 0.0
    return Tuned(forward, encoder + decoder + more.trained + again, trained)


def parts(sam: Sam, names: Collection[str], *, views: bool) -> Tuned:
    """The named parts of the model train in full. ``views``: embeddings are stored, so that only the decoder
    runs at each step."""
    whole = sam.embed + sam.encode
    encoder = whole.trained if "image_encoder" in names else whole.forward
    frozen = "image_encoder" not in names and not {"mask_decoder", "head", "prompt_encoder"} & set(names)
    decoder = sam.decode.forward if frozen else sam.decode.trained
    sizes = {
        "image_encoder": sam.encoder_parameters,
        "prompt_encoder": sam.prompt_parameters,
        "mask_decoder": sam.decoder_parameters,
        "head": sam.head_parameters,
    }
    if "mask_decoder" not in names and "image_encoder" not in names:  # gradients pass the decoder
        decoder = sam.decode.passed if names else sam.decode.forward
    trained = sum(sizes[name] for name in names)
    if not views:
        return _tuned(sam, encoder, decoder, trained)
    return Tuned(whole.forward + sam.decode.forward, decoder, trained, encoding=whole.forward)


def lora(sam: Sam, rank: int) -> Tuned:
    """Adapters on q and v of every block; prompt encoder and decoder train in full."""
    trained, adapters = sam.prompt_parameters + sam.decoder_parameters, Layers()
    for blocks in sam.blocks:
        trained += blocks.count * 4 * blocks.width * rank
        adapters += linear(blocks.tokens, blocks.width, 4 * rank)
    plain = sam.embed.forward + sam.encode.passed + adapters.trained
    tuned = _tuned(sam, plain, sam.decode.trained, trained)
    return tuned  # merged before inference


def bottlenecks(sam: Sam, ratio: float) -> Tuned:
    """Two bottleneck adapters in each block; the decoder trains in full."""
    trained, adapters = sam.decoder_parameters, Layers()
    for blocks in sam.blocks:
        hidden = max(int(blocks.width * ratio), 1)
        trained += blocks.count * 2 * (2 * blocks.width * hidden + hidden + blocks.width)
        adapters += linear(blocks.tokens, blocks.width, hidden) * 4
    encoder = sam.embed.forward + sam.encode.passed
    return _tuned(sam, encoder, sam.decode.trained, trained, adapters)


def samus(sam: Sam, *, decoder: bool) -> Tuned | None:
    """A grid of half the stride, a convolutional branch, and three additions to the global blocks."""
    vit = sam.vit
    if not isinstance(vit, shapes.Vit):
        return None
    step, width = vit.patch // 2, vit.width
    side = 2 * sam.canvas // vit.patch
    tokens, hidden = side * side, width // 4
    frozen = linear(tokens, 3 * vit.patch**2, width, first=True) + shapes.neck(tokens, width, vit.out)
    frozen += shapes.block_layers(vit, side, whole=True) * vit.whole
    frozen += shapes.block_layers(vit, side, whole=False) * (vit.depth - vit.whole)
    cross = linear(tokens, width, width) * 4 + attention(1, tokens, tokens, width)
    refine, beside = linear(tokens, 9 * width, width), linear(tokens, width, 2 * hidden)
    branch, sizes = _branch(sam.canvas, step, width)
    added = (cross + refine + beside) * vit.whole + branch + linear(tokens, width, 2 * hidden)
    added += refine  # over the position table
    adapter = 2 * width * hidden + hidden + width
    convolution = 9 * width * width + 2 * width
    head = 2 * (width // vit.heads) * (2 * side - 1)
    trained = sizes + vit.whole * (4 * (width * width + width) + convolution + adapter + head)
    trained += convolution + adapter + (sam.decoder_parameters if decoder else sam.head_parameters)
    mask = shapes.decoder_layers(tokens, sam.classes, vit.out, vit.mlp)
    ended = mask.trained if decoder else mask.passed
    twice = frozen + branch + (cross + refine + beside) * vit.whole
    again = twice.forward if sam.again else 0.0
    forward = frozen.forward + added.forward + mask.forward
    return Tuned(forward, frozen.passed + again + added.trained + ended, trained)


def _branch(canvas: int, shrink: int, width: int) -> tuple[Layers, int]:
    """The convolutional branch of SAMUS, and its parameters."""
    pools = shrink.bit_length() - 1
    widths = [3, *(64 * 2**level for level in range(pools)), width]
    layers, sizes = Layers(), 0
    for level, (inside, outside) in enumerate(pairwise(widths)):
        pixels = (canvas / 2**level) ** 2
        layers += linear(pixels, 9 * inside, outside, first=level == 0)
        sizes += 9 * inside * outside + 2 * outside
    return layers, sizes


def volumetric(sam: Sam, slices: int, slices_per_token: int, ratio: float) -> Tuned | None:
    """3DSAM-adapter, for one of the ``slices`` canvases of a patch, which go through it as one volume."""
    vit = sam.vit
    if not isinstance(vit, shapes.Vit):
        return None
    side, width, out = sam.canvas // vit.patch, vit.width, vit.out
    depth = -(-slices // slices_per_token)
    tokens, hidden = depth * side * side, max(int(width * ratio), 1)
    inner = [min(_WINDOW, length) for length in (depth, side, side)]
    counts = [-(-length // size) for length, size in zip((depth, side, side), inner, strict=True)]
    maps, inside = counts[0] * counts[1] * counts[2], inner[0] * inner[1] * inner[2]
    reach = sum(inner)
    wide = width + vit.heads * reach  # queries and keys also hold the positions, values are filled up
    block = linear(tokens, width, 4 * width) + linear(tokens, 4 * width, width)
    block += linear(maps * inside, width, 3 * width) + linear(maps * inside, width, width)
    block += linear(maps * inside * width, 1, reach)
    block += attention(maps, inside, inside, wide, again=False)
    adapter = linear(tokens, width, 2 * hidden) + linear(tokens * hidden, 27, 1)
    embed = linear(slices * side * side, 3 * vit.patch**2, width, first=True)
    necks = (linear(tokens, width, out) + linear(tokens, 27 * out, out)) * _LEVELS
    joined = linear(tokens * width, _SLICES, 1, first=True)
    half = out // 2
    heads = (linear(tokens, 27 * out, half) + linear(tokens, 27 * half, half)) * _LEVELS
    finer = 8 * tokens
    ended = linear(finer, 27 * (_LEVELS * half + 1), half) + linear(finer, 27 * half, sam.classes)
    own = joined + adapter * vit.depth + necks + heads + ended
    again = (block + adapter).forward * vit.depth if sam.again else 0.0
    training = embed.forward + block.passed * vit.depth + again + own.trained
    forward = (embed + block * vit.depth + own).forward
    trained = vit.depth * (2 * width * hidden + hidden + width + 27 * hidden + hidden + 4 * width)
    places = vit.whole * (2 * vit.grid - 1) + (vit.depth - vit.whole) * (2 * vit.window - 1)
    trained += places * (width // vit.heads)  # relative depths
    trained += width * _SLICES + width + side * width
    trained += _LEVELS * (width * out + 27 * out * out + 4 * out + 27 * out * half + 27 * half * half)
    trained += 27 * (_LEVELS * half + 1) * half + 27 * half * sam.classes
    return Tuned(forward / slices, training / slices, trained)
