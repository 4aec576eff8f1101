"""Weights of SAM 2 from Meta's files or from transformers' folders, loaded strictly.

Names as in facebookresearch/sam2 (``sam2_base.py`` and below) and in transformers' ``Sam2VideoModel``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sfrbench.components.foundation._sam2_nets import IMAGE_FOURIER, POINT_FOURIER
from sfrbench.components.foundation.segmenter import load_exactly, read_state
from sfrbench.errors import NotReadyError

_HEADS = r"iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d|object_pointer_proj"
_THREE_LAYERS = rf"((?:{_HEADS})"
_TWO_LAYERS = r"((?:vision_encoder\.backbone\.blocks|mask_decoder\.transformer\.layers)\.\d+\.mlp"

#: Meta's names to transformers', one rule after the other.
_RULES: tuple[tuple[str, str], ...] = (
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"mask_downsampler\.encoder\.12\.", "mask_downsampler.final_conv."),
    *(
        (rf"mask_downsampler\.encoder\.{3 * layer + part}\.", f"mask_downsampler.layers.{layer}.{name}.")
        for layer in range(4)
        for part, name in enumerate(("conv", "layer_norm"))
    ),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"\.gamma$", ".scale"),
    (r"\.norm", ".layer_norm"),
    (r"\.out_proj\.", ".o_proj."),
    (_TWO_LAYERS + r")\.layers\.0\.", r"\1.proj_in."),
    (_TWO_LAYERS + r")\.layers\.1\.", r"\1.proj_out."),
    (_THREE_LAYERS + r")\.layers\.0\.", r"\1.proj_in."),
    (_THREE_LAYERS + r")\.layers\.1\.", r"\1.layers.0."),
    (_THREE_LAYERS + r")\.layers\.2\.", r"\1.proj_out."),
)
#: Four tables of one row each, which transformers has as one.
_POINTS = tuple(f"prompt_encoder.point_embeddings.{index}.weight" for index in range(4))


def renamed(name: str) -> str:
    """A name of Meta's as transformers has it."""
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return name


def from_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's tensors under transformers' names, in float32; no tensor is left out."""
    found = {renamed(name): _single(value) for name, value in state.items()}
    if all(name in found for name in _POINTS):
        found["prompt_encoder.point_embed.weight"] = torch.cat([found.pop(name) for name in _POINTS])
    return found


def _single(value: Tensor) -> Tensor:
    """Numbers in float32; integers as they are, so that they are noticed where none belong."""
    return value.float() if value.is_floating_point() else value


def load(network: nn.Module, path: Path) -> nn.Module:
    """The network (in place) with the weights of a file, see ``read``. Raises ``NotReadyError`` naming every
    tensor at fault."""
    load_exactly(network, read(path), str(path))
    return network


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file under transformers' names, float32: Meta's, or ``model.safetensors`` of a folder
    in transformers' layout. Raises ``NotReadyError`` where it is neither."""
    state = _safetensors(path) if path.suffix == ".safetensors" else from_meta(read_state(path, "model"))
    for name, other in ((IMAGE_FOURIER, POINT_FOURIER), (POINT_FOURIER, IMAGE_FOURIER)):
        if name not in state and other in state:  # one table under two names
            state[name] = state[other]
    return state


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    hint = "fetch the folder again"
    try:
        return {name: _single(value) for name, value in load_file(path).items()}
    except OSError as error:
        raise NotReadyError(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from error
    except SafetensorError as error:
        raise NotReadyError(f"is no safetensors file: {error}", where=str(path), hint=hint) from error
