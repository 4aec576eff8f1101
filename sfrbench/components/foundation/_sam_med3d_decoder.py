"""SAM-Med3D's prompt encoder and mask decoder, by the names of its weight file.

As released (uni-medical/SAM-Med3D, ``prompt_encoder3D.py`` and ``mask_decoder3D.py``): points are encoded by
their axes in order, the grid of tokens with the first two swapped. The weights were trained with that.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sfrbench.components._autocast import knows_autocast
from sfrbench.components.foundation import _samlib
from sfrbench.components.foundation._sam_med3d_encoder import LayerNorm3d


class Positions(nn.Module):
    """Random Fourier features of places in [0, 1]^3: sine, cosine and sine again, always in float32."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, features))

    def forward(self, places: Tensor) -> Tensor:
        """(..., 3) to (..., 3 * features)."""
        matrix = self.positional_encoding_gaussian_matrix
        device = matrix.device.type
        with torch.autocast(device, enabled=False) if knows_autocast(device) else nullcontext():
            angles = 2 * torch.pi * ((2 * places - 1) @ matrix)
            return torch.cat([angles.sin(), angles.cos(), angles.sin()], -1)


class PromptEncoder(nn.Module):
    """Clicks and the previous logits, for a cube of ``side`` voxels and ``grid`` tokens a side."""

    def __init__(self, *, dim: int, side: int, grid: int, hidden: int = 16) -> None:
        super().__init__()
        self.dim, self.side, self.grid = dim, side, grid
        self.pe_layer = Positions(dim // 3)
        self.point_embeddings = nn.ModuleList(
            nn.Embedding(1, dim) for _ in range(2)
        )  # beside the object, on it
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, hidden // 4, 2, stride=2),
            LayerNorm3d(hidden // 4),
            nn.GELU(),
            nn.Conv3d(hidden // 4, hidden, 2, stride=2),
            LayerNorm3d(hidden),
            nn.GELU(),
            nn.Conv3d(hidden, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)  # in the file; its authors give zeros as a mask instead

    def points(self, places: Tensor, labels: Tensor) -> Tensor:
        """Clicks at voxels (n, 3) of the cube, with labels (n,) of 1 and 0, to tokens (1, n + 1, dim).

        The token more is a point that is none, as SAM adds it where no box is given.
        """
        encoded = self.pe_layer((places.float() + 0.5) / self.side)
        kinds = torch.cat([embedding(labels.new_zeros(1)) for embedding in self.point_embeddings])
        tokens = torch.cat([encoded + kinds[labels], self.not_a_point_embed.weight])
        return tokens[None]

    def dense(self) -> Tensor:
        """The encoding (1, dim, g, g, g) of the grid; that at (i, j, k) is of the place (j, i, k)."""
        device = self.pe_layer.positional_encoding_gaussian_matrix.device
        middle = torch.arange(self.grid, device=device) + 0.5
        i, j, k = torch.meshgrid(middle, middle, middle, indexing="ij")
        encoded: Tensor = self.pe_layer(torch.stack([j, i, k], -1) / self.grid)
        return encoded.movedim(-1, 0)[None]

    def mask(self, logits: Tensor) -> Tensor:
        """Logits (1, 1, 4g, 4g, 4g) to an embedding (1, dim, g, g, g)."""
        embedding: Tensor = self.mask_downscaling(logits)
        return embedding


class MaskDecoder(nn.Module):
    """SAM's decoder with maps in 3D, for three masks and one, of which only the one is asked for.

    The two-way transformer is segment-anything's: it sees the tokens in a row.
    """

    def __init__(self, *, dim: int, heads: int = 8, mlp_dim: int = 2048, hidden: int = 256) -> None:
        super().__init__()
        self.transformer: Any = _samlib.TwoWayTransformer(
            depth=2, embedding_dim=dim, mlp_dim=mlp_dim, num_heads=heads
        )
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(4, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(dim, dim // 4, 2, stride=2),
            LayerNorm3d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose3d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(_samlib.MLP(dim, dim, dim // 8, 3) for _ in range(4))
        self.iou_prediction_head = _samlib.MLP(dim, hidden, 4, 3)  # in the file; nothing asks for it

    def forward(self, embedding: Tensor, positions: Tensor, points: Tensor, mask: Tensor) -> Tensor:
        """Embedding, its positions and the previous mask's, (1, dim, g, g, g) each, with clicks (1, n, dim),
        to logits (1, 1, 4g, 4g, 4g) of the mask of token 0."""
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])[None]
        # The transformer wants two axes after the channels, and then makes one of them.
        answers, keys = self.transformer(
            (embedding + mask).flatten(3), positions.flatten(3), torch.cat([tokens, points], 1)
        )
        maps = self.output_upscaling(keys.transpose(1, 2).reshape(embedding.shape))
        weights = self.output_hypernetworks_mlps[0](answers[:, 1])  # (1, dim / 8)
        logits: Tensor = torch.einsum("bc,bcxyz->bxyz", weights, maps)[:, None]
        return logits
