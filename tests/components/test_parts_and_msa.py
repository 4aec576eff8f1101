"""Strategies without LoRA: parameter counts to the unit, what is refused, how adapters sit in a block."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Finetune
from sfrbench.components.finetune import _adapter
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.finetune.msa import Msa
from sfrbench.components.finetune.parts import Parts
from sfrbench.components.foundation import _build
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import InputError
from tests.components.test_lora import tiny, vit_b

#: Card, tokens, all parameters, trained parameters; SAM ViT-B. With 4 tokens: the constants of MedSAM.
COUNTS = [
    ("decoder_only", 4, 93_735_472, 4_058_340),
    ("encoder_decoder", 4, 93_735_472, 93_729_252),
    ("full", 4, 93_735_472, 93_735_472),
    ("decoder_only", 2, 93_454_830, 3_777_698),
    ("encoder_decoder", 2, 93_454_830, 93_448_610),
    ("full", 2, 93_454_830, 93_454_830),
    ("frozen", 2, 93_454_830, 2 * 256 + 2 * 139_808),
    ("samed", 2, 93_602_286, 3_931_374),
    ("samed", 9, 94_584_533, 4_913_621),
    ("msa", 2, 100_555_758, 7_100_928 + 3_777_698),
    ("msa", 4, 100_836_400, 7_100_928 + 4_058_340),
]


def made(name: str) -> Finetune:
    found = Catalog.read().card("finetune", name).component({})
    assert isinstance(found, Finetune)
    return found


@pytest.mark.parametrize(("name", "tokens", "total", "trainable"), COUNTS)
def test_parameter_counts(name: str, tokens: int, total: int, trainable: int) -> None:
    with torch.device("meta"):
        model = _build.vit("b", canvas=1024, classes=tokens, precision="fp32")
        made(name).attach(model)
    assert sum(value.numel() for value in model.parameters()) == total
    assert sum(value.numel() for value in model.parameters() if value.requires_grad) == trainable
    figures = Catalog.read().card("finetune", name).figures
    if tokens == 2 and name != "lora":
        assert figures["trainable_2_classes"] == trainable


def test_parts_in_any_order_are_the_same_settings() -> None:
    one, two = (
        Parts.model_validate({"parts": order})
        for order in (["mask_decoder", "image_encoder"], ["image_encoder", "mask_decoder"])
    )
    assert one.key_settings() == two.key_settings()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"parts": ["head", "mask_decoder"]}, "part of 'mask_decoder'"),
        ({"parts": []}, "at least 1 item"),
        ({"parts": ["neck"]}, "image_encoder"),
        ({"parts": ["image_encoder"], "views": 4}, "stale"),
        ({"views": 0}, "greater than or equal to 1"),
    ],
)
def test_what_parts_refuses(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Parts.model_validate(fields)


def test_a_later_field_leaves_old_keys_alone() -> None:
    assert "loss_on" not in Lora().key_settings()
    assert Lora(loss_on="low_res").key_settings()["loss_on"] == "low_res"


@pytest.mark.parametrize("make", [vit_b, tiny])
def test_zero_start_is_the_pretrained_model(make: type) -> None:
    model = make()
    image = torch.randn(1, 1, model.canvas, model.canvas)
    names = set(model.state_dict())
    with torch.no_grad():
        original = model(image)
        Msa(zero_start=True).attach(model)
        torch.testing.assert_close(model(image), original, atol=1e-6, rtol=1e-5)
        for name, value in model.named_parameters():
            if name.endswith("_adapter.up.bias"):
                nn.init.constant_(value, 0.1)
        assert (model(image) - original).abs().max() > 1e-3
    assert names < set(model.state_dict())


def test_a_block_with_adapters_is_the_published_formula() -> None:
    torch.manual_seed(0)
    block = SamToy().build(2, None).image_encoder.blocks[1]  # global attention
    plain = SamToy().build(2, None).image_encoder.blocks[1]
    assert _adapter.attach(block, ratio=0.25, activation="gelu", mlp_scale=0.5, zero=False) == 1
    x = torch.randn(1, 8, 8, 32)

    def bottleneck(adapter: nn.Module, y: torch.Tensor) -> torch.Tensor:
        assert adapter.down.out_features == 8
        return adapter.up(nn.functional.gelu(adapter.down(y)))

    with torch.no_grad():
        attention = plain.attn(plain.norm1(x))
        y = x + attention + bottleneck(block.attn.space_adapter, attention)
        normed = plain.norm2(y)
        y = y + plain.mlp(normed) + 0.5 * bottleneck(block.mlp.mlp_adapter, normed)
        torch.testing.assert_close(block(x), y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", ["sam", "msa"])
def test_windows_are_filled_up_before_or_after_the_norm(padding: str) -> None:
    """A block on 6 x 6 tokens in windows of 4, written plainly: segment-anything's Block cuts windows of
    norm1(x), Medical SAM Adapter's normalises windows of x, whose zeros become the norm's bias."""
    torch.manual_seed(0)
    model = SamToy().build(2, None)
    Msa.model_validate({"window_padding": padding, "zero_start": True}).attach(model)
    block = model.image_encoder.get_submodule("blocks.0")
    assert block.window_size == 4
    nn.init.normal_(block.norm1.bias)
    if padding == "msa":
        _adapter.pad_before_norm(model.image_encoder)
    x = torch.randn(1, 6, 6, 32)
    room = nn.functional.pad
    with torch.no_grad():
        if padding == "msa":
            tokens = block.norm1(room(x, (0, 0, 0, 2, 0, 2)))
        else:
            tokens = room(block.norm1(x), (0, 0, 0, 2, 0, 2))
        windows = tokens.reshape(2, 4, 2, 4, 32).transpose(1, 2).reshape(4, 16, 32)
        q, k, v = block.attn.qkv(windows).reshape(4, 16, 3, 2, 16).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / 4
        rows, columns = torch.arange(16) // 4, torch.arange(16) % 4
        for table, place in ((block.attn.rel_pos_h, rows), (block.attn.rel_pos_w, columns)):
            scores = scores + torch.einsum("nhqc,qkc->nhqk", q, table[place[:, None] - place + 3])
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(4, 16, 32)
        out = block.attn.proj(mixed).reshape(2, 2, 4, 4, 32).transpose(1, 2).reshape(1, 8, 8, 32)[:, :6, :6]
        y = x + out  # both adapters are the identity
        torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)), atol=1e-5, rtol=1e-4)


def test_the_cards_pad_as_the_source_and_old_keys_stay() -> None:
    for name in ("msa", "msa_relu"):
        assert made(name).model_dump()["window_padding"] == "msa"
    assert "window_padding" not in Msa().key_settings()
    torch.manual_seed(0)
    model, plain = SamToy().build(2, None), SamToy().build(2, None)
    made("msa").attach(model)
    first, other = (each.image_encoder.get_submodule("blocks.0") for each in (model, plain))
    assert torch.equal(first.attn.beyond, other.norm1.bias)
    assert model.image_encoder.get_submodule("blocks.1").attn.beyond is None  # global: no windows
    assert other.attn.beyond is None
    assert not any("beyond" in name for name in model.state_dict())


def test_tinyvit_gets_adapters_in_its_ten_transformer_blocks() -> None:
    model = tiny()
    Msa().attach(model)
    found = [name for name, module in model.named_modules() if isinstance(module, _adapter.Adapter)]
    assert len(found) == 20
    assert not any(".layers.0." in name for name in found)


def test_activation_and_ratio() -> None:
    torch.manual_seed(0)
    model = SamToy().build(2, None)
    Msa(activation="relu", ratio=0.5).attach(model)
    adapter = model.image_encoder.blocks[0].mlp.mlp_adapter
    assert isinstance(adapter.act, nn.ReLU)
    assert (adapter.down.in_features, adapter.down.out_features) == (32, 16)


def test_adapters_need_transformer_blocks_and_come_once() -> None:
    model = SamToy().build(2, None)
    Msa().attach(model)
    with pytest.raises(InputError, match="adapters in it already"):
        Msa().attach(model)
    with pytest.raises(InputError, match="no transformer block"):
        _adapter.attach(nn.Conv2d(1, 1, 1), ratio=0.25, activation="gelu", mlp_scale=0.5, zero=False)
