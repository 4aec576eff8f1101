"""Tensors of Meta's files of SAM 2, tiny, by the names that facebookresearch/sam2's classes give them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

from sfrbench.components.foundation._sam2_weights import renamed

#: ``{a,b}`` stands for each of its words, ``{0-3}`` for each of its numbers, ``*`` for weight and bias.
_FORMS = """
image_encoder.trunk.{pos_embed,pos_embed_window}
image_encoder.trunk.patch_embed.proj.*
image_encoder.trunk.blocks.{0-11}.{norm1,norm2,attn.qkv,attn.proj,mlp.layers.0,mlp.layers.1}.*
image_encoder.trunk.blocks.{1,3,10}.proj.*
image_encoder.neck.convs.{0-3}.conv.*
{maskmem_tpos_enc,no_mem_embed,no_mem_pos_enc,no_obj_ptr}
{mask_downsample,obj_ptr_proj.layers.0,obj_ptr_proj.layers.1,obj_ptr_proj.layers.2}.*
memory_attention.norm.*
memory_attention.layers.{0-3}.{norm1,norm2,norm3,linear1,linear2}.*
memory_attention.layers.{0-3}.{self_attn,cross_attn_image}.{q_proj,k_proj,v_proj,out_proj}.*
memory_encoder.{out_proj,pix_feat_proj}.*
memory_encoder.mask_downsampler.encoder.{0,1,3,4,6,7,9,10,12}.*
memory_encoder.fuser.layers.{0-1}.{dwconv,norm,pwconv1,pwconv2}.*
memory_encoder.fuser.layers.{0-1}.gamma
sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
sam_prompt_encoder.{point_embeddings.0,point_embeddings.1,point_embeddings.2,point_embeddings.3}.weight
sam_prompt_encoder.{not_a_point_embed,no_mask_embed}.weight
sam_prompt_encoder.mask_downscaling.{0,1,3,4,6}.*
sam_mask_decoder.{iou_token,mask_tokens,obj_score_token}.weight
sam_mask_decoder.{conv_s0,conv_s1,output_upscaling.0,output_upscaling.1,output_upscaling.3}.*
sam_mask_decoder.{iou_prediction_head,pred_obj_score_head}.layers.{0-2}.*
sam_mask_decoder.output_hypernetworks_mlps.{0-3}.layers.{0-2}.*
sam_mask_decoder.transformer.{norm_final_attn}.*
sam_mask_decoder.transformer.final_attn_token_to_image.{q_proj,k_proj,v_proj,out_proj}.*
sam_mask_decoder.transformer.layers.{0-1}.{norm1,norm2,norm3,norm4,mlp.layers.0,mlp.layers.1}.*
sam_mask_decoder.transformer.layers.{0-1}.self_attn.{q_proj,k_proj,v_proj,out_proj}.*
sam_mask_decoder.transformer.layers.{0-1}.cross_attn_token_to_image.{q_proj,k_proj,v_proj,out_proj}.*
sam_mask_decoder.transformer.layers.{0-1}.cross_attn_image_to_token.{q_proj,k_proj,v_proj,out_proj}.*
"""
#: Where the toy widens its channels, and the tiny size does not.
_TOY = ("image_encoder.trunk.blocks.{2,4}.proj.*",)
#: What 2.1 has beyond 2.0.
_NEWER = "{no_obj_embed_spatial}\nobj_ptr_tpos_proj.*\n"


def _each(form: str) -> Iterator[str]:
    found = re.search(r"\{([^}]*)\}", form)
    if found is None:
        yield form
        return
    span = re.fullmatch(r"(\d+)-(\d+)", found[1])
    words = map(str, range(int(span[1]), int(span[2]) + 1)) if span else found[1].split(",")
    for word in words:
        yield from _each(form[: found.start()] + word + form[found.end() :])


def names_of(release: str) -> list[str]:
    """Of ``sam2`` or ``sam2.1``, tiny."""
    forms = (_FORMS + (_NEWER if release == "sam2.1" else "")).replace("*", "{weight,bias}").split()
    return [name for form in forms for name in _each(form)]


def meta_state(network: nn.Module, release: str) -> dict[str, Tensor]:
    """The weights of a small network under Meta's names, as its own classes would save them."""
    more = [name for form in _TOY for name in _each(form.replace("*", "{weight,bias}"))]
    ours = network.state_dict()
    state: dict[str, Tensor] = {}
    for name in [*names_of(release), *more]:
        point = re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.(\d)\.weight", name)
        if point:
            at = int(point[1])
            state[name] = ours["prompt_encoder.point_embed.weight"][at : at + 1].clone()
        elif renamed(name) in ours:
            state[name] = ours[renamed(name)].clone()
    return state
