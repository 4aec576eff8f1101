"""SAMUS: what it adds to the unit, its token grid, where its positions come from, what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfrbench.catalog.cards import Catalog
from sfrbench.components.finetune import _samus
from sfrbench.components.finetune.samus import Samus
from sfrbench.components.foundation import _build
from sfrbench.components.foundation.lite_medsam import LiteMedSam
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.segmenter import SamSegmenter
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import InputError
from tests.support.vits import tiny

# SAM ViT-B, C = 768, by hand. A convolution of 3 x 3 has no bias, its norm a weight and a bias each channel:
#   branch           9 (3*64 + 64*128 + 128*256 + 256*768) + 2 (64 + 128 + 256 + 768) = 2_142_272
#   bottleneck       768*192 + 192 + 192*768 + 768                                    =   295_872
#   768 to 768       9 * 768 * 768 + 2 * 768                                          = 5_309_952
#   cross-attention  4 (768*768 + 768)                                                = 2_362_368
# branch, one bottleneck (input), one 768 to 768 (positions), and in each of 4 blocks one of the last three:
ADDED = 2_142_272 + 295_872 + 5_309_952 + 4 * (295_872 + 5_309_952 + 2_362_368)
#   global tables    4 blocks * 2 axes * 63 distances * 64 channels; SAM at 1024 has 127 distances
TABLES, SAM_TABLES = 4 * 2 * 63 * 64, 4 * 2 * 127 * 64
#   head             K * 256 tokens and K MLPs of 139_808
HEAD = 256 + 139_808


def toy(canvas: int = 64, **fields: object) -> SamSegmenter:
    torch.manual_seed(0)
    model = SamToy(canvas=canvas).build(3, None)
    Samus.model_validate(fields).attach(model)
    return model


@pytest.mark.parametrize(("tokens", "sam"), [(2, 93_454_830), (4, 93_735_472)])
def test_parameter_counts(tokens: int, sam: int) -> None:
    with torch.device("meta"):
        model = _build.vit("b", canvas=256, classes=tokens, precision="fp32")
        Samus().attach(model)
    assert ADDED == 39_620_864  # methods.md: about 39.6 M, and 133.3 M in all
    total = sum(value.numel() for value in model.parameters())
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert total == sam + ADDED + TABLES - SAM_TABLES
    assert trainable == ADDED + TABLES + tokens * HEAD
    figures = Catalog.read().card("finetune", "samus").figures
    if tokens == 2:
        assert (figures["total_2_classes"], figures["trainable_2_classes"]) == (total, trainable)
    else:  # SAMUS's own: 4 tokens, and no head that trains
        assert figures["source_total"] == total == 133_323_568
        assert figures["source_trainable"] == trainable - tokens * HEAD == 39_653_120
    assert model.image_encoder.get_parameter("pos_embed").shape == (1, 64, 64, 768)
    assert model.image_encoder(torch.empty(2, 3, 256, 256, device="meta")).shape == (2, 256, 32, 32)


@pytest.mark.parametrize("canvas", [64, 96, 128])
def test_the_grid_is_twice_as_fine(canvas: int) -> None:
    model, plain = toy(canvas), SamToy(canvas=canvas).build(3, None)
    image = torch.randn(2, 1, canvas, canvas)
    with torch.no_grad():
        assert plain.encode(image).shape == (2, 32, canvas // 8, canvas // 8)
        assert model.encode(image).shape == (2, 32, canvas // 4, canvas // 4)
        assert model(image).shape == (2, 3, canvas, canvas)
        assert model.segment(image.expand(-1, 3, -1, -1)).shape == (2, 3, canvas, canvas)
        for block in model.image_encoder.get_submodule("blocks").children():
            tokens = torch.randn(1, canvas // 4, canvas // 4, 32)
            maps = () if block.window_size else (tokens,)
            assert isinstance(block(tokens, *maps), tuple) == (not block.window_size)


@pytest.mark.parametrize("canvas", [64, 128])
def test_positions_come_from_the_checkpoint(canvas: int) -> None:
    encoder, state = toy(canvas).image_encoder, _build.toy_state()
    side = 2 * canvas // 4
    wanted = F.interpolate(state["image_encoder.pos_embed"].permute(0, 3, 1, 2), side, mode="bilinear")
    assert torch.equal(encoder.get_parameter("pos_embed"), wanted.permute(0, 2, 3, 1))
    for name in ("blocks.1.attn.rel_pos_h", "blocks.1.attn.rel_pos_w"):
        table = F.interpolate(state[f"image_encoder.{name}"].T[None], side - 1, mode="linear")[0].T
        assert torch.equal(encoder.get_parameter(name), table)
    windowed = "blocks.0.attn.rel_pos_h"
    assert torch.equal(encoder.get_parameter(windowed), state[f"image_encoder.{windowed}"])


def test_without_its_additions_it_is_the_pretrained_vit_on_a_finer_grid() -> None:
    model = toy()
    encoder = model.image_encoder
    silent = ("cross_adapter.proj", "refine_adapter.1", "_adapter.up", "post_pos_embed.1.1")
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if any(part in name for part in silent):
                value.zero_()
    plain = SamToy(canvas=128).build(3, None).image_encoder
    plain.get_submodule("patch_embed.proj").stride = (4, 4)
    kept = {name: encoder.state_dict()[name] for name in plain.state_dict()}
    plain.load_state_dict({**kept, "pos_embed": torch.zeros(1, 16, 16, 32)})
    image = torch.randn(2, 3, 64, 64)
    enlarged = F.interpolate(image, 68, mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(encoder(image), plain(enlarged), atol=1e-5, rtol=1e-5)


def test_a_global_block_is_the_published_formula() -> None:
    block = toy().image_encoder.get_submodule("blocks.1")
    x, maps = torch.randn(2, 2, 16, 16, 32)

    def bottleneck(y: Tensor) -> Tensor:
        return block.mlp_adapter.up(F.gelu(block.mlp_adapter.down(y)))

    def cross(y: Tensor) -> Tensor:
        parts = block.cross_adapter
        q, k, v = (
            layer(z).reshape(2, 256, 2, 16) for layer, z in ((parts.q, y), (parts.k, maps), (parts.v, maps))
        )
        weight = torch.einsum("bqhc,bkhc->bhqk", q, k).div(4).softmax(-1)
        return parts.proj(torch.einsum("bhqk,bkhc->bqhc", weight, v).reshape(2, 16, 16, 32))

    with torch.no_grad():
        y = block.norm1(x)
        wanted = x + block.attn(y + cross(y))
        y = block.norm2(wanted)
        wanted = wanted + block.mlp(y) + 0.5 * bottleneck(y)
        tokens, refined = block(x, maps)
        torch.testing.assert_close(tokens, wanted, atol=1e-5, rtol=1e-5)
        again = block.refine_adapter(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        assert torch.equal(refined, again)


def test_gradients_reach_branch_and_tables_and_a_copy_is_its_own() -> None:
    model = toy()
    image = torch.randn(1, 1, 64, 64)
    other = copy.deepcopy(model)
    with torch.no_grad():
        first = model(image)
        assert torch.equal(model(image), first)
    model(image).square().mean().backward()
    reached = {
        name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()
    }
    for name in ("cnn_embed.0.0.weight", "post_pos_embed.1.0.weight", "blocks.1.refine_adapter.0.weight",
                 "blocks.1.attn.rel_pos_h", "blocks.1.attn.rel_pos_w", "blocks.1.cross_adapter.k.weight",
                 "input_adapter.down.weight"):  # fmt: skip
        assert f"image_encoder.{name}" in reached, name
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
        assert torch.equal(other(image), first)


def test_bf16_is_near_fp32() -> None:
    model = toy()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        exact = model(image)
        model.precision = "bf16"
        torch.testing.assert_close(model(image), exact, atol=0.1 * float(exact.std()), rtol=0.1)


@pytest.mark.parametrize("whole", [False, True])
def test_the_decoder_trains_where_asked(whole: bool) -> None:
    model = toy(train_decoder=whole)
    flags = {value.requires_grad for value in model.mask_decoder.transformer.parameters()}
    assert flags == {whole}
    assert all(value.requires_grad for value in model.mask_decoder.mask_tokens.parameters())
    assert not any(value.requires_grad for value in model.prompt_encoder.parameters())


def test_what_it_refuses() -> None:
    assert "TinyViT" in Samus().conflicts({"foundation": LiteMedSam()})[0]
    assert Samus().conflicts({"foundation": SamVit()}) == []
    with pytest.raises(InputError, match="ViT encoders"):
        Samus().attach(tiny())
    with pytest.raises(InputError, match="already"):
        Samus().attach(toy())
    model = SamToy().build(2, None)
    model.image_encoder.get_submodule("patch_embed").proj = nn.Conv2d(3, 32, 14, 14)
    with pytest.raises(InputError, match="power of two"):
        _samus.attach(model)


def test_it_trains_to_the_same_bits_where_its_parts_run_twice() -> None:
    found = []
    for again in (False, True):
        torch.manual_seed(4)
        model = SamToy(checkpointing=again).build(3, None)
        Samus().attach(model)
        model.train()(torch.randn(2, 1, 64, 64)).square().mean().backward()
        found.append({name: part.grad for name, part in model.named_parameters() if part.requires_grad})
    once, twice = found
    assert all(grad is not None and torch.equal(grad, twice[name]) for name, grad in once.items())
