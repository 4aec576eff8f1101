"""Every backbone card: the parts make the whole, to the bit, and inference needs no more than is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.backbone._interface import ALONE, SCALES, SegmentationNetwork, in_parts
from sfrbench.components.base import Backbone
from sfrbench.engine.training import save_weights
from sfrbench.errors import InputError

CARDS = Catalog.read().cards("backbone")
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])


def built(card: Card, classes: int = 3, seed: int = 0, **fields: object) -> nn.Module:
    backbone = card.component({"filters": 2, **fields})
    assert isinstance(backbone, Backbone)
    torch.manual_seed(seed)
    return backbone.build(classes)


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, 32, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_there_are_some() -> None:
    assert {"unet3d", "unet3d_ds", "vnet", "vnet_magic"} <= {card.name for card in CARDS}


@every_card
@both_precisions
@pytest.mark.parametrize("classes", [2, 5])
def test_shapes_and_types(card: Card, precision: str, classes: int) -> None:
    network = built(card, classes, precision=precision)
    logits = network(images())
    assert logits.shape == (2, classes, 32, 16, 16)
    assert logits.dtype == torch.float32
    assert logits.is_contiguous()
    assert torch.isfinite(logits).all()
    assert all(part.dtype == torch.float32 for part in network.parameters())


@every_card
def test_shapes_of_the_parts(card: Card) -> None:
    network = in_parts(built(card))
    maps = network.encode(images())
    shapes = [(*part.shape[:1], *part.shape[2:]) for part in maps]
    assert shapes == [(2, 32 // scale, 16 // scale, 16 // scale) for scale in (1, 2, 4, 8, 16)]
    assert maps[-1].shape[1] == network.bottleneck_channels
    assert network.features(images()).shape == (2, network.feature_channels, 32, 16, 16)


@every_card
@pytest.mark.parametrize("sides", [(50, 32, 36), (17, 16, 16), (8, 16, 16)])
def test_sides_that_cannot_be_halved_four_times_are_refused(card: Card, sides: tuple[int, ...]) -> None:
    network = built(card)
    for call in (network, in_parts(network).features, in_parts(network).encode):
        with pytest.raises(InputError, match=r"no multiple of 16[\s\S]*nearest that fits") as caught:
            call(torch.zeros(1, 1, *sides))
        assert str(list(sides)) in str(caught.value)


def head_of_features(network: SegmentationNetwork, patches: torch.Tensor) -> torch.Tensor:
    return network.head(network.drop(network.features(patches)))


def head_of_decoded(network: SegmentationNetwork, patches: torch.Tensor) -> torch.Tensor:
    return network.head(network.drop(network.decode(network.encode(patches))))


@every_card
@both_precisions
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("way", [head_of_features, head_of_decoded])
def test_the_parts_make_the_whole(card: Card, precision: str, training: bool, way: object) -> None:
    network = built(card, precision=precision).train(training)
    with torch.no_grad():
        torch.manual_seed(7)
        whole = network(images())
        torch.manual_seed(7)
        assert torch.equal(way(in_parts(network), images()), whole)  # type: ignore[operator]


@every_card
def test_one_encoding_can_be_decoded_twice(card: Card) -> None:
    network = in_parts(built(card).eval())
    with torch.no_grad():
        maps = network.encode(images())
        kept = [part.clone() for part in maps]
        first, second = network.decode(maps), network.decode(maps)
        changed = network.decode((*maps[:-1], maps[-1] + 1))
    assert torch.equal(first, second)
    assert all(torch.equal(one, other) for one, other in zip(maps, kept, strict=True))
    assert not torch.equal(first, changed)


@every_card
@both_precisions
def test_scales_are_the_levels_of_the_decoder(card: Card, precision: str) -> None:
    network = in_parts(built(card, precision=precision).eval(), SCALES)
    with torch.no_grad():
        maps = network.encode(images())
        scales = network.decode_scales(maps)
        assert torch.equal(scales[0], network.decode(maps))
    assert network.scale_channels[0] == network.feature_channels
    widths_and_sides = zip(network.scale_channels, (1, 2, 4, 8), strict=True)
    expected = [(2, width, 32 // by, 16 // by, 16 // by) for width, by in widths_and_sides]
    assert [part.shape for part in scales] == expected


@every_card
def test_a_decoder_alone_decodes_and_holds_no_encoder(card: Card) -> None:
    whole, alone = built(card).eval(), built(card).eval()
    in_parts(alone, ALONE).strip_encoder()
    maps = in_parts(whole).encode(images())
    with torch.no_grad():
        assert torch.equal(alone.decode(maps), in_parts(whole).decode(maps))
    sum(part.sum() for part in maps).backward()
    encoder = {name for name, part in whole.named_parameters() if part.grad is not None}
    left = {name for name, _ in alone.named_parameters()}
    assert encoder
    assert left == {name for name, _ in whole.named_parameters()} - encoder


@every_card
def test_features_leave_out_the_dropout(card: Card) -> None:
    network = built(card)
    assert isinstance(in_parts(network).drop, nn.Module)
    maps = torch.ones(4, in_parts(network).feature_channels, 4, 4, 4)
    assert torch.equal(in_parts(network.eval()).drop(maps), maps)


@every_card
def test_same_seed_same_weights(card: Card) -> None:
    one, same, other = built(card).state_dict(), built(card).state_dict(), built(card, seed=1).state_dict()
    assert list(one) == list(same)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


@every_card
def test_precision_leaves_the_weights_alone(card: Card) -> None:
    one, other = built(card).state_dict(), built(card, precision="bf16").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@every_card
def test_stored_weights_are_the_network(card: Card, tmp_path: Path) -> None:
    trained = built(card)
    trained(images())  # moves running statistics, where there are any
    save_weights(tmp_path / "model.safetensors", trained.state_dict())
    loaded = built(card, seed=5)
    loaded.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images()), trained.eval()(images()))


@every_card
@both_precisions
def test_gradients_reach_all_that_inference_needs(card: Card, precision: str) -> None:
    network = built(card, precision=precision)
    network(images()).square().mean().backward()
    network.eval()
    with torch.no_grad():
        logits = network(images())
        for part in network.parameters():
            if part.grad is None:
                part.fill_(torch.nan)  # nothing may notice
            else:
                assert torch.isfinite(part.grad).all()
        assert torch.equal(network(images()), logits)


def test_a_network_without_the_parts_is_named() -> None:
    with pytest.raises(InputError, match=r"encode, decode of Conv3d"):
        in_parts(nn.Conv3d(1, 2, 1))
