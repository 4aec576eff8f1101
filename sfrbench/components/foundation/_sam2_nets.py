"""The networks of SAM 2 and 2.1 (Ravi et al. 2024): transformers' classes with the constants of Meta's files.

Constants are those of facebookresearch/sam2, ``sam2/configs``. Networks are built without touching the global
random numbers.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfrbench.components.costs.hiera import TOY, Hiera

Release = Literal["sam2", "sam2.1"]
#: One table of random frequencies under two names: of positions in the image, and of prompts.
IMAGE_FOURIER = "shared_image_embedding.positional_embedding"
POINT_FOURIER = "prompt_encoder.shared_embedding.positional_embedding"
TOY_SCORE = 0.9  # so that it judges objects present on most slices


def vision(hiera: Hiera, canvas: int) -> Any:
    """Transformers' settings of the image encoder for a square input of ``canvas`` pixels."""
    import transformers as of

    widths = list(hiera.widths)
    backbone = of.Sam2HieraDetConfig(
        hidden_size=hiera.width,
        num_attention_heads=hiera.heads,
        image_size=[canvas, canvas],
        blocks_per_stage=list(hiera.blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[hiera.heads * 2**stage for stage in range(4)],
        window_size_per_stage=list(hiera.windows),
        global_attention_blocks=list(hiera.whole),
        window_positional_embedding_background_size=[hiera.background] * 2,
    )
    return of.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[canvas // step] * 2 for step in (4, 8, 16)],
        fpn_hidden_size=hiera.out,
    )


def config(hiera: Hiera, release: Release, canvas: int) -> Any:
    """Transformers' settings of the whole network for a square input of ``canvas`` pixels.

    2.1 tells the memory how long ago a pointer was made, and that an object was hidden; 2.0 has no weights
    for either.
    """
    import transformers as of

    return of.Sam2VideoConfig(
        vision_config=vision(hiera, canvas),
        prompt_encoder_config={"image_size": canvas},
        image_size=canvas,
        memory_attention_rope_feat_sizes=[canvas // 16] * 2,
        memory_attention_num_layers=hiera.memory_layers,
        enable_occlusion_spatial_embedding=release == "sam2.1",
        enable_temporal_pos_encoding_for_object_pointers=release == "sam2.1",
    )


def skeleton(hiera: Hiera, release: Release, canvas: int) -> nn.Module:
    """The network in evaluation mode with random weights; the global random numbers stay as they are."""
    from transformers import Sam2VideoModel

    settings = config(hiera, release, canvas)
    settings._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = Sam2VideoModel(settings)
    return network.eval().requires_grad_(False)


def toy(release: Release, canvas: int, seed: int = 2025) -> nn.Module:
    """A network of eight million parameters with numbers from a fixed seed.

    Nothing is left at zero, as tables and biases of a new network are, so that all parts have their say.
    """
    network = skeleton(TOY, release, canvas)
    fill(network, seed)
    with torch.no_grad():
        state = network.state_dict()
        state[IMAGE_FOURIER].copy_(state[POINT_FOURIER])
        state["mask_decoder.pred_obj_score_head.proj_out.bias"].fill_(TOY_SCORE)
    return network


def fill(network: nn.Module, seed: int) -> None:
    """Put numbers from a fixed seed into every tensor of a network (in place)."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(network.state_dict().items()):
            value.copy_(_drawn(name, value, numbers))


def _drawn(name: str, like: Tensor, numbers: torch.Generator) -> Tensor:
    """Numbers of about the size that a trained network has there."""
    drawn = torch.randn(like.shape, generator=numbers)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * drawn
    if "positional_embedding" in name:
        return drawn
    if like.ndim >= 2 and name.endswith("weight") and "embed" not in name and "token" not in name:
        return drawn / math.sqrt(like[0].numel())
    return 0.1 * drawn
