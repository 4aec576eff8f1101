"""SAM 2's image encoder and mask decoder with a semantic head: K mask tokens, no prompts, no memory.

Built of transformers' modules, whose parameters keep their names (``backbone.blocks.0.attn.qkv``). What is
run here and not by their own ``forward``: the pyramid without position encodings, which only the memory reads
(at 1024 pixels 88 MB for each image), and the decoder with the logits of all tokens and without the IoU and
object-score heads, which nothing reads. A still image gets ``no_memory_embedding``, as in SAM 2's own
``Sam2Model``; other than there no padding point stands in for prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.components.core import Precision
from sfrbench.components.costs.hiera import SEMANTIC_TOY, Hiera
from sfrbench.components.foundation import _build
from sfrbench.components.foundation._sam2_features import MEAN, STD
from sfrbench.components.foundation._sam2_nets import Release, config, fill, vision
from sfrbench.components.foundation._vit import run
from sfrbench.components.foundation.segmenter import SamSegmenter, expect_fit
from sfrbench.errors import InputError

#: Pixels of a token of the coarsest stage: sides of a canvas are multiples of it.
STEP = 32


class HieraEncoder(nn.Module):
    """(B, 3, H, W), sides multiples of 32, to feature maps (B, C, H / s, W / s), s = 4, 8, 16, finest first.

    As transformers' ``Sam2VisionModel``, whose ``backbone`` and ``neck`` it takes. ``checkpointing``: blocks
    keep nothing for the backward pass but their input, and run twice.
    """

    def __init__(self, backbone: Any, neck: Any) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.checkpointing = False

    def forward(self, images: Tensor) -> list[Tensor]:
        if any(side % STEP for side in images.shape[-2:]):
            raise InputError(f"sides of a canvas must be multiples of {STEP}, got {tuple(images.shape[-2:])}")
        tokens = self.backbone.patch_embed(images)
        tokens = tokens + self._positions(tokens.shape[1], tokens.shape[2])
        ends = []
        for index, block in enumerate(self.backbone.blocks):
            tokens = run(block, tokens, again=self.checkpointing)
            if index in self.backbone.stage_ends:
                ends.append(tokens)
        return self._pyramid(ends)

    def _positions(self, h: int, w: int) -> Tensor:
        """(1, h, w, C): the table of the whole image enlarged, and that of a window repeated."""
        table, window = self.backbone.pos_embed, self.backbone.pos_embed_window
        background = F.interpolate(table, size=(h, w), mode="bicubic")
        tiled = window.tile(1, 1, h // window.shape[2], w // window.shape[3])
        positions: Tensor = background + tiled
        return positions.permute(0, 2, 3, 1)

    def _pyramid(self, ends: Sequence[Tensor]) -> list[Tensor]:
        """One 1 x 1 convolution for each stage (``convs`` has the coarsest first); the coarsest map is added
        to the next, which leaves three."""
        fine, middle, deep, deepest = (
            convolve(tokens.permute(0, 3, 1, 2))
            for convolve, tokens in zip(reversed(self.neck.convs), ends, strict=True)
        )
        return [fine, middle, deep + F.interpolate(deepest, scale_factor=2.0, mode="nearest")]


class Sam2Segmenter(SamSegmenter):
    """SAM 2 behind one forward without prompts.

    ``high_res``: the decoder adds the maps at strides 4 and 8 to its own, as SAM 2 does. ``imagenet``:
    canvases are in [0, 1], and the channels of the input get ImageNet's mean and deviation.
    """

    image_encoder: HieraEncoder
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        parts: Any,
        *,
        canvas: int,
        classes: int,
        precision: Precision,
        high_res: bool,
        imagenet: bool,
    ) -> None:
        """``parts``: transformers' ``Sam2Model``, or a module with the same children."""
        encoder = HieraEncoder(parts.vision_encoder.backbone, parts.vision_encoder.neck)
        super().__init__(
            encoder,
            parts.prompt_encoder,
            parts.mask_decoder,
            canvas=canvas,
            classes=classes,
            precision=precision,
        )
        #: Added in the same place as ``no_mask_embed``, which trains where the prompt encoder does.
        self.no_memory_embedding = parts.no_memory_embedding
        self.high_res, self.imagenet = high_res, imagenet
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)

    def encode(self, canvases: Tensor) -> Tensor:
        """Canvases to one tensor for each image, (B, C, h, w) at stride 16; with ``high_res`` the finer maps
        are folded into its channels, (B, 21 C, h, w)."""
        maps = self._maps(canvases)
        if not self.high_res:
            return maps[-1]
        fine, middle, deep = maps
        return torch.cat([deep, F.pixel_unshuffle(middle, 2), F.pixel_unshuffle(fine, 4)], 1)

    def decode(self, embedding: Tensor) -> Tensor:
        """What ``encode`` gives to low-resolution logits (B, K, 4h, 4w), float32."""
        if not self.high_res:
            return self._logits([embedding])
        deep, middle, fine = torch.split(embedding, [part * self._channels for part in (1, 4, 16)], 1)
        return self._logits([F.pixel_shuffle(fine, 4), F.pixel_shuffle(middle, 2), deep.contiguous()])

    def forward(self, canvases: Tensor) -> Tensor:
        """Canvases to low-resolution logits (B, K, h, w), at stride 4."""
        return self._logits(self._maps(canvases))

    def ask(self, *prompts: Any) -> tuple[Tensor, Tensor]:
        """Prompts are for ``Sam2Model`` of ``_sam2_session``, which has a memory."""
        raise InputError("SAM 2 with a semantic head takes no prompts")

    @property
    def _channels(self) -> int:
        return int(self.no_memory_embedding.shape[-1])

    def _maps(self, canvases: Tensor) -> list[Tensor]:
        image = self.three_channels(canvases)
        if self.imagenet:
            image = (image - self.mean) / self.std
        with self._autocast(canvases):
            maps: list[Tensor] = self.image_encoder(image)
        return maps

    def _logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps, the finest first and the deepest last, to logits (B, K, h, w) of all tokens."""
        deep = maps[-1]
        size = (deep.shape[2], deep.shape[3])
        constant = self.no_memory_embedding.reshape(1, -1, 1, 1)
        dense = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        with self._autocast(deep):
            fine = maps[:2] if self.high_res else None
            logits = decoded(self.mask_decoder, deep + constant + dense, self._positions(size), fine)
        return logits.float()

    def _positions(self, size: tuple[int, int]) -> Tensor:
        """Position encoding (1, C, h, w) of the middles of a token grid, float32."""
        layer = self.prompt_encoder.shared_embedding
        table = layer.positional_embedding
        rows, columns = ((torch.arange(side, device=table.device) + 0.5) / side for side in size)
        at = torch.stack([columns.expand(size), rows[:, None].expand(size)], -1)
        with torch.autocast(table.device.type, enabled=False):
            positions: Tensor = layer(at)
        return positions.permute(2, 0, 1)[None]


def decoded(decoder: Any, embedding: Tensor, positions: Tensor, fine: Sequence[Tensor] | None) -> Tensor:
    """Logits (B, K, 4h, 4w) of all mask tokens of a ``Sam2MaskDecoder``, without prompts.

    ``embedding`` (B, C, h, w) holds all that is added to it; ``fine``: the maps (B, C, 4h, 4w) and
    (B, C, 2h, 2w) of the image, or none. Tokens are the object's score, the IoU, and one for each mask.
    """
    count, _, h, w = embedding.shape
    tokens = [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
    asked, mixed = decoder.transformer(
        point_embeddings=torch.cat(tokens).expand(count, 1, -1, -1),
        image_embeddings=embedding,
        image_positional_embeddings=positions,
        attention_similarity=None,
    )
    maps = decoder.upscale_conv1(mixed.transpose(2, 3).reshape(count, -1, h, w))
    if fine is not None:
        maps = maps + decoder.conv_s1(fine[1])
    maps = decoder.upscale_conv2(decoder.activation(decoder.upscale_layer_norm(maps)))
    if fine is not None:
        maps = maps + decoder.conv_s0(fine[0])
    maps = decoder.activation(maps)
    networks = decoder.output_hypernetworks_mlps
    weights = torch.stack([network(asked[:, 0, 2 + index]) for index, network in enumerate(networks)], 1)
    logits: Tensor = weights @ maps.flatten(2)
    return logits.reshape(count, -1, *maps.shape[-2:])


def untrained(
    hiera: Hiera, *, canvas: int, classes: int, precision: Precision, high_res: bool, imagenet: bool
) -> Sam2Segmenter:
    """The model with random numbers, from the global RNG."""
    from transformers import Sam2Config, Sam2Model

    heads = {"num_multimask_outputs": classes - 1, "mlp_dim": hiera.mlp, "iou_head_hidden_dim": hiera.out}
    settings = Sam2Config(
        vision_config=vision(hiera, canvas),
        prompt_encoder_config={"hidden_size": hiera.out, "image_size": canvas},
        mask_decoder_config={"hidden_size": hiera.out, **heads},
    )
    settings._attn_implementation = "sdpa"
    return Sam2Segmenter(
        Sam2Model(settings),
        canvas=canvas,
        classes=classes,
        precision=precision,
        high_res=high_res,
        imagenet=imagenet,
    )


def of_whole(state: Mapping[str, Tensor], hiera: Hiera, release: Release, where: str) -> dict[str, Tensor]:
    """What ``untrained`` wants of the tensors of a whole SAM 2, by its names; the memory is left out.

    Raises ``NotReadyError`` naming every tensor that the whole network does not have, or has and is missing.
    """
    from transformers import Sam2VideoModel

    with torch.device("meta"):
        whole = Sam2VideoModel(config(hiera, release, 1024))
    expect_fit(state, whole.state_dict(), where)
    kept = ("vision_encoder.", "prompt_encoder.", "mask_decoder.", "no_memory_embedding")
    return {
        name.replace("vision_encoder.", "image_encoder.", 1): value
        for name, value in state.items()
        if name.startswith(kept)
    }


def toy_state(seed: int = 2027) -> dict[str, Tensor]:
    """The toy's "pretrained" weights, which fit every canvas. Leaves the global RNG as it was."""
    with torch.random.fork_rng(devices=[]):
        model = untrained(
            SEMANTIC_TOY, canvas=64, classes=_build.OWN_TOKENS, precision="fp32", high_res=True, imagenet=True
        )
    fill(model, seed)
    return model.state_dict()
