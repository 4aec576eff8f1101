"""LoRA: which numbers train, that it starts as the identity, and that it merges without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfrbench.components.finetune import _lora
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.foundation import _build
from sfrbench.components.foundation.segmenter import (
    load_trained,
    trained_state,
)
from sfrbench.components.foundation.toy import SamToy
from sfrbench.errors import InputError
from tests.support.vits import tiny, vit_b

#: SFR_FT of the paper with SAM ViT-B, recomputed: classes, all parameters, trainable parameters
COUNTS = [
    (2, 93_602_286, 3_931_374),
    (5, 94_023_249, 4_352_337),
    (9, 94_584_533, 4_913_621),
    (14, 95_286_138, 5_615_226),
]


def disturb(model: nn.Module) -> None:
    """Move every adapter's B away from zero, as training does."""
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(value, std=0.02)


@pytest.mark.parametrize(("classes", "total", "trainable"), COUNTS)
def test_parameter_counts_of_the_paper_model(classes: int, total: int, trainable: int) -> None:
    with torch.device("meta"):
        model = _build.vit("b", canvas=1024, classes=classes, precision="fp32")
        Lora().attach(model)
    assert sum(p.numel() for p in model.parameters()) == total
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable
    lora = [p.numel() for name, p in model.named_parameters() if "lora_" in name]
    assert sum(lora) == 147_456


@pytest.mark.parametrize("make", [vit_b, tiny])
def test_first_forward_is_unchanged_and_merging_is_exact(make: type) -> None:
    model = make()
    image = torch.randn(1, 1, model.canvas, model.canvas)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        original = model(image)
        Lora().attach(model)
        torch.testing.assert_close(model(image), original, atol=1e-6, rtol=1e-5)
        disturb(model)
        adapted = model(image)
        assert (adapted - original).abs().max() > 1e-3
        Lora().merge(model)
        merged = model(image)
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=1e-5)
    after = model.state_dict()
    assert list(after) == list(before)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if name.endswith("attn.qkv.weight")}


def test_keys_stay_as_they_were() -> None:
    model = tiny()
    attention = model.image_encoder.layers[1].blocks[0].attn
    old = attention.qkv.weight.detach().clone()
    Lora(rank=2).attach(model)
    disturb(model)
    Lora(rank=2).merge(model)
    new, old = (rows.view(attention.heads, 3, -1, 128) for rows in (attention.qkv.weight.detach(), old))
    assert torch.equal(new[:, 1], old[:, 1])
    assert not torch.equal(new[:, 0], old[:, 0])
    assert not torch.equal(new[:, 2], old[:, 2])


@pytest.mark.parametrize("groups", [1, 4])
def test_split_and_fuse_restore_the_layer(groups: int) -> None:
    torch.manual_seed(0)
    fused = nn.Linear(16, 48)
    x = torch.randn(5, 7, 16)
    split = _lora.SplitQkv(fused, groups)
    torch.testing.assert_close(split(x), fused(x), atol=1e-6, rtol=1e-6)
    again = split.fuse()
    assert torch.equal(again.weight, fused.weight)
    assert torch.equal(again.bias, fused.bias)


def test_exactly_the_decoder_and_the_adapters_train() -> None:
    model = SamToy().build(3, None)
    Lora(rank=2).attach(model)
    training = {name for name, value in model.named_parameters() if value.requires_grad}
    for name, _ in model.named_parameters():
        inside = name.startswith(("prompt_encoder.", "mask_decoder.")) or "lora_" in name
        assert (name in training) == inside, name
    model(torch.rand(1, 1, 64, 64)).square().mean().backward()
    reached = {name for name, value in model.named_parameters() if value.grad is not None}
    assert reached <= training
    assert {name for name in training if "lora_B" in name} <= reached
    assert [name for name in reached if name.startswith("prompt_")] == ["prompt_encoder.no_mask_embed.weight"]


def test_initial_adapters() -> None:
    torch.manual_seed(3)
    model = SamToy().build(2, None)
    Lora(rank=4).attach(model)
    layer = model.image_encoder.blocks[0].attn.qkv.q
    assert layer.scaling["default"] == 1.0
    assert not layer.lora_B["default"].weight.any()
    bound = (1 / 32) ** 0.5  # Kaiming-uniform with a = sqrt 5: 1 / sqrt(inputs)
    assert 0.5 * bound < layer.lora_A["default"].weight.abs().max() <= bound


def test_trained_state_comes_back() -> None:
    torch.manual_seed(0)
    model = SamToy().build(3, None)
    Lora().attach(model)
    disturb(model)
    state = trained_state(model)
    torch.manual_seed(99)
    other = SamToy().build(3, None)
    Lora().attach(other)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert not torch.equal(other(image), model(image))
        load_trained(other, state)
        assert torch.equal(other(image), model(image))
    del state["mask_decoder.iou_token.weight"]
    state["extra"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"missing mask_decoder.iou_token.weight; unexpected extra"):
        load_trained(other, state)
    narrow = SamToy().build(2, None)
    Lora().attach(narrow)
    with pytest.raises(InputError, match=r"is \(3, 32\), not \(2, 32\)"):
        load_trained(narrow, trained_state(model))


def test_attaching_twice_is_refused() -> None:
    model = SamToy().build(2, None)
    Lora().attach(model)
    with pytest.raises(InputError, match="adapters in it already"):
        Lora().attach(model)
    with pytest.raises(InputError, match="merged before"):
        model.image_encoder.blocks[0].attn.qkv.fuse()


def test_same_seed_same_bits() -> None:
    def step() -> list[torch.Tensor]:
        torch.manual_seed(5)
        model = SamToy(precision="bf16").build(3, None)
        Lora().attach(model)
        image, target = torch.rand(2, 1, 64, 64), torch.randint(0, 3, (2, 64, 64))
        loss = nn.functional.cross_entropy(model.segment(image), target)
        loss.backward()
        grads = [value.grad for value in model.parameters() if value.grad is not None]
        return [loss.detach(), *grads]

    assert all(torch.equal(a, b) for a, b in zip(step(), step(), strict=True))


def test_a_toy_learns() -> None:
    torch.manual_seed(0)
    model = SamToy().build(2, None)
    Lora().attach(model)
    image = torch.zeros(2, 1, 64, 64)
    image[:, :, 16:40, 16:40] = 1
    target = image[:, 0].long()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model.segment(image), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
