"""3D U-Net: the published parameter count, its initialisation, its dropout, and logits at all scales."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone._layers import Dropout
from sfrbench.components.backbone._unet3d import UNet3dModule
from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.errors import InputError

WAY_UP = (0.5, 0.3, 0.2, 0.1)


def images() -> torch.Tensor:
    return torch.randn(1, 1, 32, 32, 16, generator=torch.Generator().manual_seed(1))


def made(seed: int = 0, **fields: object) -> UNet3dModule:
    torch.manual_seed(seed)
    network = UNet3d.model_validate({"filters": 2, **fields}).build(3)
    assert isinstance(network, UNet3dModule)
    return network


@pytest.mark.parametrize(("name", "heads"), [("unet3d", 0), ("unet3d_ds", 454)])
def test_published_parameter_counts(name: str, heads: int) -> None:
    card = Catalog.read().card("backbone", name)
    backbone = card.component({})
    assert isinstance(backbone, UNet3d)
    with torch.device("meta"):
        network = backbone.build(2)
    counts = {name: part.numel() for name, part in network.named_parameters()}
    assert sum(counts.values()) == card.figures["parameters_k2"] == 5_884_050 + heads
    assert sum(count for name, count in counts.items() if name.startswith("auxiliary.")) == heads


def test_the_cards_are_the_two_networks_of_ssl4mis() -> None:
    drops = {}
    for name in ("unet3d", "unet3d_ds"):
        backbone = Catalog.read().card("backbone", name).component({"filters": 2})
        assert isinstance(backbone, UNet3d)
        found = [part for part in backbone.build(2).modules() if isinstance(part, Dropout)]
        drops[name] = [(part.channels, part.share) for part in found]
    assert drops["unet3d"] == [(False, 0.3)] * 2
    assert drops["unet3d_ds"] == [(True, share) for share in WAY_UP]


def test_kaiming_initialisation() -> None:
    network = made(filters=16)
    convs = [part for part in network.modules() if isinstance(part, nn.Conv3d)]
    assert len(convs) == 2 * 5 + 2 * 4 + 1
    for conv in convs:
        fan_in = conv.in_channels * math.prod(conv.kernel_size)
        tolerance = 4 / math.sqrt(2 * conv.weight.numel())  # four standard errors of a standard deviation
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=tolerance)
        assert conv.bias is not None
        assert conv.bias.abs().max() <= 1 / math.sqrt(fan_in)


def test_every_dropout_acts_in_training_alone() -> None:
    for fields in ({"dropout": 0.3}, {"dropout": 0, "level_dropout": WAY_UP}):
        network = made(**fields)
        assert not torch.equal(network(images()), network(images()))
        network.eval()
        assert torch.equal(network(images()), network(images()))
    plain = made(dropout=0)
    assert isinstance(plain.drop, nn.Identity)
    assert torch.equal(plain(images()), plain(images()))


def test_scales_are_four_logits_of_full_size_finest_first() -> None:
    network = made(deep_supervision=True).eval()
    with torch.no_grad():
        scales = network.scales(images())
        assert [part.shape for part in scales] == [(1, 3, 32, 32, 16)] * 4
        assert torch.equal(scales[0], network(images()))
    # a map of fewer voxels, enlarged, changes less from voxel to voxel
    roughness = [part.diff(dim=2).square().mean() / part.var() for part in scales]
    assert roughness == sorted(roughness, reverse=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scales_train_every_head(precision: str) -> None:
    network = made(deep_supervision=True, precision=precision, level_dropout=WAY_UP)
    scales = network.scales(images())
    assert all(part.dtype == torch.float32 for part in scales)
    sum(part.square().mean() for part in scales).backward()  # type: ignore[union-attr]
    assert all(part.grad is not None for part in network.parameters())


def test_heads_at_coarser_levels_leave_the_rest_as_it_is() -> None:
    plain, more = made(), made(deep_supervision=True)
    states = plain.state_dict(), more.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(plain.eval()(images()), more.eval()(images()))
    with pytest.raises(InputError, match=r"unet3d_ds"):
        plain.scales(images())


def test_bf16_is_close_to_fp32() -> None:
    one, other = (made(precision=precision).eval()(images()).detach() for precision in ("fp32", "bf16"))
    assert 0 < float((one - other).std()) < 0.1 * float(one.std())


def test_a_patch_with_a_single_voxel_at_the_bottleneck_is_refused() -> None:
    assert UNet3d().conflicts({"dataset": Phantom(patch=(16, 16, 32))}) == []
    assert "one voxel left" in UNet3d().conflicts({"dataset": Phantom(patch=(16, 16, 16))})[0]
    assert "no multiple of 16" in UNet3d().conflicts({"dataset": Phantom(patch=(24, 32, 32))})[0]


@pytest.mark.parametrize(
    ("patch", "fits"),
    [
        ((16, 16, 16), (32, 16, 16)),
        ((10, 12, 20), (16, 16, 32)),
        ((20, 20, 12), (32, 16, 16)),
        ((24, 24, 16), (32, 32, 16)),
    ],
)
def test_the_patch_that_a_refusal_names_fits(patch: tuple[int, int, int], fits: tuple[int, int, int]) -> None:
    (fault,) = UNet3d().conflicts({"dataset": Phantom(patch=patch)})
    assert fault.endswith(f"nearest that fits: {list(fits)}")
    assert UNet3d().conflicts({"dataset": Phantom(patch=fits)}) == []
