"""SAM 2 with a semantic head: its parts are transformers', its counts Meta's; LoRA on its fused qkv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    Sam2VisionModel,
)

from sfrbench.components.costs.hiera import TOY, Hiera
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.finetune.msa import Msa
from sfrbench.components.finetune.parts import Parts
from sfrbench.components.foundation import _sam2_nets
from sfrbench.components.foundation._sam2_semantic import Sam2Segmenter
from sfrbench.components.foundation.sam2 import MedicalSam2, Sam2, Sam2Like, Sam2Toy
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.errors import InputError, NotReadyError
from tests.support.sam2_names import meta_state

#: Parameters of the vision model, of LoRA's of rank 4, and of all of LoRA's model for 2 classes: those that
#: train and all. Computed apart from this package.
COUNTS = {
    "tiny": (27_219_136, 69_888, 4_010_575, 31_229_967),
    "small": (34_316_992, 94_464, 4_035_151, 38_352_399),
    "base_plus": (69_106_816, 165_760, 4_106_447, 73_213_519),
    "large": (212_703_280, 429_696, 4_370_383, 217_073_919),
}
DECODERS = {2: 3_934_467, 4: 4_215_109, 5: 4_355_430, 9: 4_916_714, 14: 5_618_319}
#: Inputs and outputs of the fused layers of 'tiny'.
QKV = [(96, 288), (96, 576), (192, 576), (192, 1152), *[(384, 1152)] * 6, (384, 2304), (768, 2304)]


def size(*networks: nn.Module, trained: bool = False) -> int:
    parts = [part for network in networks for part in network.parameters()]
    return sum(part.numel() for part in parts if part.requires_grad or not trained)


def on_meta(foundation: Sam2Like, classes: int = 2) -> SamSegmenter:
    with torch.device("meta"):
        return foundation.untrained(classes)


def toy(classes: int = 3, **fields: Any) -> Sam2Segmenter:
    torch.manual_seed(0)
    model = Sam2Toy.model_validate({"canvas": 64, **fields}).build(classes, None)
    assert isinstance(model, Sam2Segmenter)
    return model


def disturb(model: nn.Module) -> None:
    """Move every adapter's B away from zero, as training does."""
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(value, std=0.05)


def picture(side: int = 64, count: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_the_four_sizes(name: str) -> None:
    vision, lora, trained, total = COUNTS[name]
    foundation = Sam2.model_validate({"size": name})
    model = on_meta(foundation)
    assert (size(model.image_encoder), size(model.prompt_encoder)) == (vision, 6_220)
    assert size(model.mask_decoder) == DECODERS[2]
    cost = foundation.cost(2)
    assert cost is not None
    assert (cost.encoder_parameters, cost.prompt_parameters) == (vision, 6_220)
    with torch.device("meta"):
        Lora().attach(model)
    assert sum(part.numel() for one, part in model.named_parameters() if "lora_" in one) == lora
    assert (size(model, trained=True), size(model)) == (trained, total)
    tuned = Lora().cost(cost, 1)
    assert tuned is not None
    assert tuned.trained == trained


def test_counts_of_the_decoder() -> None:
    for classes, count in DECODERS.items():
        cost = Sam2().cost(classes)
        assert cost is not None
        assert cost.decoder_parameters == count
    assert size(on_meta(Sam2(), 5).mask_decoder) == DECODERS[5]


def test_shapes_of_the_tiny_encoder() -> None:
    encoder: Any = on_meta(Sam2(canvas=512)).image_encoder
    fused = [block.attn.qkv for block in encoder.backbone.blocks]
    assert [(layer.in_features, layer.out_features) for layer in fused] == QKV
    with torch.device("meta"):
        maps = encoder(torch.empty(1, 3, 512, 512))
    assert [tuple(one.shape) for one in maps] == [(1, 256, side, side) for side in (128, 64, 32)]


@pytest.mark.parametrize("name", ["tiny", "large"])
def test_sides_that_are_multiples_of_32(name: str) -> None:
    encoder = on_meta(Sam2.model_validate({"size": name})).image_encoder
    for h, w in [(32, 64), (96, 1024), *[(side, side) for side in (64, 128, 224, 256, 992, 1024)]]:
        with torch.device("meta"):
            maps = encoder(torch.empty(1, 3, h, w))
        assert [one.shape[2:] for one in maps] == [(h // step, w // step) for step in (4, 8, 16)]


@pytest.mark.parametrize("side", [64, 96, 160])
def test_logits_are_a_quarter_of_the_canvas(side: int) -> None:
    model = toy(canvas=side)
    with torch.no_grad():
        assert model(picture(side, 1)).shape == (1, 3, side // 4, side // 4)
        assert model.segment(picture(side, 1)).shape == (1, 3, side, side)


@pytest.mark.parametrize("side", [100, 1000, 1020])
def test_other_canvases_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        Sam2(canvas=side)
    with pytest.raises(InputError, match=f"must be multiples of 32, got \\({side}, {side}\\)"):
        toy()(torch.zeros(1, 1, side, side))


def theirs(classes: int = 4) -> Any:
    """Transformers' own model with the toy's shapes, written out, and the numbers of ours."""
    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        global_attention_blocks=[4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=64,
    )
    prompts = Sam2PromptEncoderConfig(hidden_size=64, image_size=64)
    decoder = Sam2MaskDecoderConfig(hidden_size=64, mlp_dim=128, iou_head_hidden_dim=64)
    decoder.num_multimask_outputs = classes - 1
    whole = Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    whole._attn_implementation = "sdpa"
    return Sam2Model(whole).eval()


def filled(other: Any, model: Sam2Segmenter) -> Any:
    state = {name.replace("image_encoder.", "vision_encoder."): v for name, v in model.state_dict().items()}
    table = "prompt_encoder.shared_embedding.positional_embedding"
    other.load_state_dict({**state, "shared_image_embedding.positional_embedding": state[table]})
    return other


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("sides", [(64, 96), (128, 128), (224, 160)])
def test_the_encoder_is_transformers(sides: tuple[int, int], precision: str) -> None:
    model = toy()
    vision = filled(theirs(3), model).vision_encoder
    assert isinstance(vision, Sam2VisionModel)
    assert size(model.image_encoder) == size(vision) == 325_216
    images = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        ours, wanted = model.image_encoder(images), vision(images).fpn_hidden_states
    assert [tuple(one.shape[2:]) for one in ours] == [
        tuple(side // step for side in sides) for step in (4, 8, 16)
    ]
    far = 1e-5 if precision == "fp32" else 2**-6 * float(wanted[0].abs().max())
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=far, rtol=1e-5)
        assert one.abs().max() > 0.1


def test_the_decoder_is_transformers() -> None:
    """All four tokens of one forward: three with several masks, the first with one."""
    model = toy(4)
    other = filled(theirs(), model).train()  # which in evaluation may swap the first for another
    image = picture()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (image - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        fine, middle, deep = other.get_image_embeddings(pixels)
        given = {
            "image_embeddings": deep,
            "image_positional_embeddings": other.get_image_wide_positional_embeddings(),
            "sparse_prompt_embeddings": torch.zeros(2, 1, 0, 64),
            "dense_prompt_embeddings": other.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1),
            "high_resolution_features": [fine, middle],
        }
        masks = [other.mask_decoder(**given, multimask_output=many)[0][:, 0] for many in (False, True)]
        logits = model(image)
    torch.testing.assert_close(logits, torch.cat(masks, 1), atol=1e-5, rtol=1e-5)
    assert logits.shape == (2, 4, 16, 16)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("high_res", [True, False])
def test_stored_embeddings_decode_to_the_same_bits(high_res: bool) -> None:
    model = toy(high_res=high_res)
    with torch.no_grad():
        embedding = model.encode(picture())
        assert embedding.shape == (2, 64 * (21 if high_res else 1), 4, 4)
        assert torch.equal(model.decode(embedding), model(picture()))


def test_finer_maps_count_where_they_are_asked_for() -> None:
    with torch.no_grad():
        assert not torch.allclose(toy(high_res=True)(picture()), toy(high_res=False)(picture()), atol=1e-2)


def test_unit_input_gets_imagenet_s_mean_and_deviation() -> None:
    image = picture()
    channels = [(image - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    with torch.no_grad():
        unit, plain = toy(norm="unit")(image), toy(norm="zscore")(torch.cat(channels, 1))
    torch.testing.assert_close(unit, plain, atol=1e-5, rtol=1e-5)


def test_prompts_are_not_for_this_model() -> None:
    with pytest.raises(InputError, match="takes no prompts"):
        toy().ask(torch.zeros(1, 64, 4, 4), (), None, None)


class Whole(Sam2):
    """The size of the whole toy, of which files can be written."""

    @property
    def hiera(self) -> Hiera:
        return TOY


@pytest.mark.parametrize("layout", ["meta", "folder"])
@pytest.mark.parametrize("release", ["sam2", "sam2.1"])
def test_both_layouts_of_files_are_loaded(tmp_path: Path, release: Any, layout: str) -> None:
    network: Any = _sam2_nets.toy(release, 64)
    path = tmp_path / ("model.safetensors" if layout == "folder" else "meta.pt")
    if layout == "folder":
        save_file({name: value.clone() for name, value in network.state_dict().items()}, path)
    else:
        torch.save({"model": meta_state(network, release)}, path)
    foundation = Whole(release=release, canvas=64, norm="zscore")
    model = foundation.build(3, path)
    with torch.no_grad():
        maps: Any = model.image_encoder(picture(channels=3))
        wanted = network.get_image_features(picture(channels=3), return_dict=True).fpn_hidden_states
    deep = wanted[-1].permute(1, 2, 0).unflatten(-1, (4, 4))
    torch.testing.assert_close(maps[-1], deep, atol=1e-6, rtol=1e-6)
    assert torch.equal(model.no_memory_embedding, network.no_memory_embedding)
    other = "sam2" if release == "sam2.1" else "sam2.1"
    with pytest.raises(NotReadyError, match="occlusion_spatial_embedding_parameter"):
        Whole(release=other, canvas=64).build(3, path)


@pytest.mark.parametrize("made", [Sam2(), MedicalSam2()])
def test_nothing_starts_from_random_numbers(made: Sam2Like) -> None:
    with pytest.raises(NotReadyError, match=f"'{made.weights}' has no weight file here"):
        made.build(2, None)


def test_lora_starts_as_nothing_and_merges_without_a_trace() -> None:
    model, image = toy(), picture()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        original = model(image)
        Lora(rank=2).attach(model)
        torch.testing.assert_close(model(image), original, atol=1e-6, rtol=1e-5)
        disturb(model)
        adapted = model(image)
        assert (adapted - original).abs().max() > 1e-3
        expected = {}
        for index, block in enumerate(model.image_encoder.backbone.blocks):
            parts = block.attn.qkv
            for place, one in (("first", parts.q), ("last", parts.v)):
                a, b = one.lora_A["default"].weight, one.lora_B["default"].weight
                expected[index, place] = (b.double() @ a.double()).float()
        Lora(rank=2).merge(model)
        torch.testing.assert_close(model(image), adapted, atol=1e-5, rtol=1e-5)
    after = model.state_dict()
    assert list(after) == list(before)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    names = [f"image_encoder.backbone.blocks.{index}.attn.qkv.weight" for index in range(6)]
    assert changed == set(names)
    for index, name in enumerate(names):
        q, k, v = (after[name] - before[name]).chunk(3)
        torch.testing.assert_close(q, expected[index, "first"], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(v, expected[index, "last"], atol=1e-6, rtol=1e-4)
        assert not k.any()


@pytest.mark.parametrize("high_res", [True, False])
def test_heads_that_are_not_run_do_not_move(high_res: bool) -> None:
    model = toy(high_res=high_res)
    Lora().attach(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2, weight_decay=0.1)
    model(picture()).square().mean().backward()
    optimiser.step()
    unused = ["mask_decoder.iou_prediction_head.", "mask_decoder.pred_obj_score_head.", "prompt_encoder."]
    unused += [] if high_res else ["mask_decoder.conv_s0.", "mask_decoder.conv_s1."]
    reached = {name for name, value in model.named_parameters() if value.grad is not None}
    no_mask = "prompt_encoder.no_mask_embed.weight"
    assert reached == {name for name in trained if not name.startswith(tuple(unused))} | {no_mask}
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved <= reached
    assert "mask_decoder.obj_score_token.weight" in moved


def test_checkpointing_changes_no_gradient() -> None:
    grads = []
    for again in (False, True):
        model = toy(checkpointing=again)
        Parts(parts=("image_encoder", "mask_decoder")).attach(model)
        model(picture()).square().mean().backward()
        grads.append([part.grad for part in model.parameters() if part.grad is not None])
    for plain, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, plain)


def test_bf16_is_near() -> None:
    with torch.no_grad():
        exact, rough = (toy(precision=precision)(picture()) for precision in ("fp32", "bf16"))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max()


def test_a_fine_tuning_says_what_it_is_defined_for() -> None:
    (reason,) = Msa().conflicts({"foundation": Sam2Toy()})
    assert "it is defined for segment-anything's ViT and a TinyViT" in reason
    assert "this foundation's image encoder is a Hiera" in reason
    assert Lora().conflicts({"foundation": Sam2Toy()}) == []
