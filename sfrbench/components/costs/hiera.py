"""SAM 2's Hiera image encoders: their shapes, FLOPs and parameters, with SAM 2's mask decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sfrbench.components.costs.parts import Blocks, Layers, Sam, attention, linear
from sfrbench.components.costs.sam import decoder_layers, decoder_parameters


@dataclass(frozen=True)
class Hiera:
    """One image encoder: stages with ``width`` times 1, 2, 4, 8 channels."""

    width: int
    heads: int  # of the first stage; doubled at each
    blocks: tuple[int, int, int, int]
    whole: tuple[int, ...]  # blocks with global attention
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7  # side of the position table that is enlarged
    memory_layers: int = 4  # of memory attention
    out: int = 256  # channels of the feature maps
    mlp: int = 2048  # of the mask decoder

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.width * 2**stage for stage in range(4))


#: Constants of facebookresearch/sam2, ``sam2/configs``.
SIZES = {
    "tiny": Hiera(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "small": Hiera(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "base_plus": Hiera(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "large": Hiera(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}
#: A whole SAM 2 for tests of prompts, and one without memory, with narrow maps, for the semantic head.
TOY = Hiera(16, 1, (1, 1, 2, 1), (3,), memory_layers=1)
SEMANTIC_TOY = Hiera(16, 1, (1, 2, 2, 1), (4,), out=64, mlp=128)


@dataclass(frozen=True)
class _Block:
    """One block on a grid of ``side`` x ``side`` tokens of ``before`` channels; ``window`` 0: global."""

    side: int
    before: int
    after: int
    heads: int
    window: int
    pooled: bool  # queries are pooled 2 x 2, so that half the side is left

    @property
    def cut(self) -> tuple[int, int]:
        """Attention maps, and tokens of each."""
        inner = self.window or self.side
        return (-(-self.side // inner)) ** 2, inner * inner

    @property
    def layers(self) -> Layers:
        (maps, keys), left = self.cut, 4 if self.pooled else 1
        queries, after, tokens = keys / left, self.after, self.side**2
        layers = linear(maps * keys, self.before, 3 * after) + linear(maps * queries, after, after)
        layers += attention(maps, queries, keys, after)
        layers += linear(tokens / left, after, 4 * after) + linear(tokens / left, 4 * after, after)
        if self.before != after:
            layers += linear(tokens, self.before, after)
        # transformers multiplies the heads of each token with one another, and uses nothing of it
        return layers + Layers(2.0 * maps * keys * self.heads * after)

    @property
    def parameters(self) -> int:
        before, after = self.before, self.after
        shortcut = before * after + after if before != after else 0
        return 2 * before + 3 * after * (before + 1) + 9 * after * after + 8 * after + shortcut


def _blocks(hiera: Hiera, side: int) -> Iterator[_Block]:
    """All blocks, for a grid of ``side`` x ``side`` tokens at the start."""
    index, before = 0, hiera.width
    for stage, (count, width) in enumerate(zip(hiera.blocks, hiera.widths, strict=True)):
        for place in range(count):
            first = stage > 0 and place == 0
            window = hiera.windows[stage - 1 if first else stage]
            heads = hiera.heads * 2**stage
            yield _Block(side, before, width, heads, 0 if index in hiera.whole else window, first)
            side, before, index = side // 2 if first else side, width, index + 1


def hiera_sam(hiera: Hiera, canvas: int, classes: int, *, high_res: bool, again: bool) -> Sam:
    """SAM 2 with a semantic head for one canvas of ``canvas`` pixels. ``again``: blocks run twice."""
    side, dim = canvas // 4, hiera.out
    blocks = list(_blocks(hiera, side))
    encode = Layers()
    for block in blocks:
        encode += block.layers
    for stage, width in enumerate(hiera.widths):
        lateral = linear((side / 2**stage) ** 2, width, dim)
        # without the finer maps their convolutions run, and nothing comes back to them
        encode += lateral if high_res or stage > 1 else Layers(lateral.forward)
    tables = hiera.background**2 + hiera.windows[0] ** 2
    parameters = (3 * 49 + 1 + tables) * hiera.width + sum(block.parameters for block in blocks)
    parameters += sum((width + 1) * dim for width in hiera.widths)
    tokens = (side // 4) ** 2
    decode = decoder_layers(tokens, classes, dim, hiera.mlp, others=2)  # IoU and the object's score
    if high_res:
        decode += linear(16 * tokens, dim, dim // 8) + linear(4 * tokens, dim, dim // 4)
    decoder, head = decoder_parameters(classes, dim, hiera.mlp)
    decoder += 2 * (dim * dim + dim) + 2 * dim + 1  # the object's score: token and head, which is not run
    decoder += (dim + 1) * (dim // 8 + dim // 4)  # for the finer maps
    return Sam(
        linear(side * side, 3 * 49, hiera.width, first=True),
        encode,
        decode,
        # an adapter has as many inputs as the block before, and as many outputs as this one
        [Blocks((block.before + block.after) // 2, 1, block.cut[0] * block.cut[1]) for block in blocks],
        parameters,
        23 * dim + 332,
        decoder,
        head,
        canvas,
        classes,
        again=again,
    )
