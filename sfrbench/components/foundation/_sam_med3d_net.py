"""The network of SAM-Med3D: encoder, prompt encoder and decoder, its weight file, and a toy's numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sfrbench.components._autocast import guard
from sfrbench.components.core import Precision
from sfrbench.components.foundation._sam_med3d_decoder import MaskDecoder, PromptEncoder
from sfrbench.components.foundation._sam_med3d_encoder import ImageEncoder
from sfrbench.components.foundation.segmenter import load_exactly, read_state

#: The weight file's dictionary of tensors; what a training leaves holds more beside it.
INSIDE = "model_state_dict"


class SamMed3dNet(nn.Module):
    """A cube of ``side`` voxels to logits at a quarter of its resolution, by clicks and previous logits.

    With ``precision`` bf16 forward passes are autocast; parameters and results are float32.
    """

    def __init__(
        self, encoder: ImageEncoder, prompts: PromptEncoder, decoder: MaskDecoder, precision: Precision
    ) -> None:
        super().__init__()
        self.image_encoder = encoder
        self.prompt_encoder = prompts
        self.mask_decoder = decoder
        self.precision = precision
        guard(self)

    def embed(self, cube: Tensor) -> Tensor:
        """A normalised cube (1, 1, I, I, I) to its embedding (1, dim, g, g, g)."""
        with self._autocast(cube):
            embedding: Tensor = self.image_encoder(cube)
        return embedding.float()

    def nothing_said(self) -> Tensor:
        """The logits (1, 1, I/4, I/4, I/4) that the first click is given: zeros, as it was released."""
        side = 4 * self.prompt_encoder.grid
        return self.prompt_encoder.no_mask_embed.weight.new_zeros(1, 1, side, side, side)

    def answer(self, embedding: Tensor, places: Tensor, labels: Tensor, previous: Tensor) -> Tensor:
        """Logits (1, 1, I/4, I/4, I/4), float32, for clicks at voxels ``places`` (n, 3) with ``labels`` (n,),
        1 on the object and 0 beside it, after ``previous`` logits of that shape, which go in as they are."""
        with self._autocast(embedding):
            points, mask = self.prompt_encoder.points(places, labels), self.prompt_encoder.mask(previous)
            logits: Tensor = self.mask_decoder(embedding, self.prompt_encoder.dense(), points, mask)
        return logits.float()

    def _autocast(self, like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def vit_b(precision: Precision = "fp32") -> SamMed3dNet:
    """``vit_b_ori`` of its authors, the only one with published weights: 100 509 232 parameters."""
    encoder = ImageEncoder(
        side=128, patch=16, width=768, depth=12, heads=12, whole=(2, 5, 8, 11), window=14, out=384
    )
    return SamMed3dNet(encoder, PromptEncoder(dim=384, side=128, grid=8), MaskDecoder(dim=384), precision)


def toy(precision: Precision = "fp32") -> SamMed3dNet:
    """The same code on cubes of 32 voxels: 4^3 tokens, one block in a window of 6 and one without."""
    encoder = ImageEncoder(side=32, patch=8, width=24, depth=2, heads=2, whole=(1,), window=6, out=24)
    decoder = MaskDecoder(dim=24, heads=4, mlp_dim=48, hidden=24)
    return SamMed3dNet(encoder, PromptEncoder(dim=24, side=32, grid=4), decoder, precision)


def pretrained(path: Path, precision: Precision) -> SamMed3dNet:
    """The network with the weights of a file, strictly: the released loaders take any file and say nothing.

    Raises ``NotReadyError`` naming every tensor at fault.
    """
    with torch.random.fork_rng(devices=[]):
        network = vit_b(precision)
    load_exactly(network, read_state(path, INSIDE), str(path))
    return network.eval()


def pretrained_toy(precision: Precision, seed: int = 3) -> SamMed3dNet:
    """The toy with numbers of its own, the same on every machine. Leaves the global RNG as it was.

    Large ones in the decoder, so that clicks change its answers, and a seed that gives masks of some size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = toy(precision)
        for name, value in network.image_encoder.named_parameters():
            if "pos" in name:  # zero in a new network, which would leave them untested
                nn.init.normal_(value, std=0.2)
        for name, value in network.mask_decoder.named_parameters():
            if value.ndim > 1 and not name.startswith("mask_tokens"):
                value.data.mul_(3)
    return network.eval()
