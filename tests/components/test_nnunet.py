"""nnU-Net's U-Nets: planned as its planner does, with its counts, its outputs and its initial weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone._nnunet import NnUNetModule, _Residual
from sfrbench.components.backbone._topology import Topology, planned
from sfrbench.components.backbone.nnunet import NnUNet
from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.errors import InputError

CUBE = (2, 2, 2)
FLAT = (1, 2, 2)
LA = ((112, 112, 80), (0.625, 0.625, 0.625))


def of(patch: Any, voxel: Any, **fields: Any) -> NnUNet:
    found = NnUNet(**fields).settled({"dataset": Phantom(patch=patch, voxel=voxel)})
    assert isinstance(found, NnUNet)
    return found


def built(backbone: NnUNet, classes: int = 3, seed: int = 0) -> NnUNetModule:
    torch.manual_seed(seed)
    network = backbone.build(classes)
    assert isinstance(network, NnUNetModule)
    return network


@pytest.mark.parametrize(
    ("patch", "voxel", "strides", "flat_kernels"),
    [
        (*LA, [CUBE] * 4, 0),
        ((96, 96, 96), (1.5, 1.5, 2.0), [CUBE] * 4, 0),
        ((128, 128, 128), (1, 1, 1), [CUBE] * 5, 0),
        ((80, 112, 112), (1.25, 0.625, 0.625), [FLAT, *[CUBE] * 3], 1),
        ((32, 128, 128), (5, 1, 1), [FLAT, FLAT, *[CUBE] * 3], 2),
        ((48, 192, 192), (3, 0.8, 0.8), [FLAT, *[CUBE] * 3, FLAT], 1),
        ((64, 64, 32), (1.25, 1.25, 1.25), [CUBE] * 3 + [(2, 2, 1)], 0),
    ],
)
def test_stages_are_those_of_nnu_nets_planner(
    patch: Any, voxel: Any, strides: list[Any], flat_kernels: int
) -> None:
    found = planned(patch, voxel)
    assert list(found.strides) == [(1, 1, 1), *strides]
    kernels = [(1, 3, 3)] * flat_kernels + [(3, 3, 3)] * (len(strides) + 1 - flat_kernels)
    assert list(found.kernels) == kernels
    assert all(side % by == 0 for side, by in zip(patch, found.multiples, strict=True))


def test_one_axis_alone_is_halved_while_it_has_twelve_voxels() -> None:
    assert [planned((side, 4, 4), (1, 1, 1)).strides[1:] for side in (11, 12)] == [(), ((2, 1, 1),)]
    assert planned((7, 7, 7), (1, 1, 1)).strides == ((1, 1, 1),)
    assert len(planned((8, 8, 4), (1, 1, 1)).strides) == 2


@pytest.mark.parametrize(
    ("patch", "voxel", "plain", "residual"),
    [
        (*LA, 16_547_592, 62_809_928),
        ((128, 128, 128), (1, 1, 1), 31_195_594, 102_349_770),
        ((80, 112, 112), (1.25, 0.625, 0.625), 16_465_096, 62_727_432),
        ((32, 128, 128), (5, 1, 1), 30_748_554, 101_681_546),
        ((48, 192, 192), (3, 0.8, 0.8), 30_703_498, None),
    ],
)
def test_parameters_are_those_of_the_package(
    patch: Any, voxel: Any, plain: int, residual: int | None
) -> None:
    for encoder, count in (("plain", plain), ("residual", residual)):
        backbone = of(patch, voxel, encoder=encoder)
        with torch.device("meta"):
            network = built(backbone, 2)
        seen = sum(part.numel() for part in network.parameters())
        assert count in (None, seen)
        cost = backbone.cost(patch, 2)
        assert cost is not None
        assert cost.parameters == seen


@pytest.mark.parametrize(("name", "heads"), [("nnunet_plain", 8_493_600), ("nnunet_resenc", 57_107_456)])
def test_the_cards_say_so_and_the_deployed_network_has_one_head(name: str, heads: int) -> None:
    card = Catalog.read().card("backbone", name)
    backbone = card.component({}).settled({"dataset": Phantom(patch=LA[0])})
    assert isinstance(backbone, NnUNet)
    costs = [one.cost(LA[0], 2) for one in (backbone, backbone.deployed())]
    whole, alone = (cost.parameters for cost in costs if cost is not None)
    assert whole == card.figures["parameters_k2_five_stages"]
    assert whole - alone == sum(2 * width + 2 for width in (64, 128, 256))
    assert costs[0] is not None
    assert whole - costs[0].decoder_parameters == heads
    with torch.device("meta"):
        assert len(built(backbone, 2).state_dict()) == (88 if name == "nnunet_plain" else 208)


#: Per level the mean of the logits and of their squares, by dynamic-network-architectures 0.4.4 in float64.
FACTS: dict[tuple[str, bool], list[tuple[float, float]]] = {
    ("plain", False): [
        (0.173276922, 1.17690161),
        (-0.178795909, 2.49858498),
        (-0.406591096, 1.38199665),
        (0.111210016, 1.94720045),
    ],
    ("plain", True): [
        (0.169154253, 1.6921623),
        (-0.189123734, 1.86192762),
        (-0.390456427, 1.2812297),
        (0.118220208, 1.81346496),
        (0.442535615, 0.820488468),
    ],
    ("residual", False): [
        (0.0743039032, 0.691618853),
        (0.312890997, 1.10193132),
        (0.0160080024, 0.513006611),
        (-0.48768502, 0.993544592),
    ],
    ("residual", True): [
        (0.0941343502, 0.531098649),
        (0.295636915, 1.03319209),
        (-0.0110169842, 0.544327382),
        (-0.479835637, 0.950152331),
        (0.0561251166, 0.51518247),
    ],
}


def filled(network: nn.Module) -> None:
    """The same weights everywhere: no generator's, sines."""
    with torch.no_grad():
        for index, (name, part) in enumerate(network.named_parameters()):
            wave = np.sin(1 + 0.7 * index + np.arange(part.numel()))
            norm = part.ndim == 1 and name.endswith("weight")
            values = (1 if norm else 0) + (0.3 if part.ndim == 1 else 2 / math.sqrt(part[0].numel())) * wave
            part.copy_(torch.from_numpy(values).view(part.shape))


def waves(sides: tuple[int, int, int]) -> torch.Tensor:
    return torch.from_numpy(np.sin(0.05 * np.arange(math.prod(sides)) ** 1.3)).view(1, 1, *sides)


def levels(network: NnUNetModule, images: torch.Tensor) -> list[torch.Tensor]:
    maps = network.encode(images)
    scales = network.decode_scales(maps)
    return [network.head(network.drop(scales[0])), *network.coarse_logits(maps, scales)]


@pytest.mark.parametrize(("encoder", "flat"), list(FACTS), ids=lambda value: str(value))
def test_logits_of_all_levels_are_those_of_the_package(encoder: str, flat: bool) -> None:
    patch, voxel, sides = ((32, 128, 128), (5, 1, 1), (16, 32, 32)) if flat else (*LA, (32, 32, 16))
    network = built(of(patch, voxel, encoder=encoder, filters=2, max_filters=8)).double()
    filled(network)
    with torch.no_grad():
        found = levels(network, waves(sides))
    seen = [(float(one.double().mean()), float(one.double().square().mean())) for one in found]
    for ours, theirs in zip(seen, FACTS[encoder, flat], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


def test_levels_halve_and_are_finest_first() -> None:
    network = built(of((64, 64, 32), (1, 1, 1), filters=2))
    sizes = [tuple(one.shape[2:]) for one in levels(network, torch.zeros(1, 1, 64, 64, 32))]
    assert sizes == [(64, 64, 32), (32, 32, 16), (16, 16, 8), (8, 8, 4)]
    bare = built(of((64, 64, 32), (1, 1, 1), filters=2, deep_supervision=False))
    assert len(levels(bare, torch.zeros(1, 1, 64, 64, 32))) == 1
    whole = network.state_dict()
    assert all(torch.equal(part, whole[name]) for name, part in bare.state_dict().items())


@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_initial_weights(encoder: str) -> None:
    network = built(of(*LA, encoder=encoder, filters=8))
    for part in network.modules():
        if isinstance(part, nn.Conv3d | nn.ConvTranspose3d):
            fan_in = part.weight[0].numel()
            spread = math.sqrt(2 / ((1 + 0.01**2) * fan_in))
            assert part.weight.std().item() == pytest.approx(
                spread, rel=5 / math.sqrt(2 * part.weight.numel())
            )
            assert part.bias is None or not bool(part.bias.any())
        if isinstance(part, nn.LeakyReLU):
            assert part.negative_slope == 0.01
        if isinstance(part, nn.InstanceNorm3d):
            assert (part.eps, part.affine, part.track_running_stats) == (1e-5, True, False)
    blocks = [part for part in network.modules() if isinstance(part, _Residual)]
    assert len(blocks) == (1 + 3 + 4 + 6 + 6 if encoder == "residual" else 0)
    for block in blocks:
        maps = torch.randn(1, *block.first[0].weight.shape[1:2], 4, 4, 4)  # type: ignore[union-attr]
        assert torch.equal(block(maps), nn.functional.leaky_relu(block.short(maps), 0.01))


def test_a_settled_backbone_has_its_stages_in_the_key() -> None:
    given = NnUNet(strides=((1, 1, 1), *[CUBE] * 4))
    settled = given.settled({"dataset": Phantom(patch=(96, 96, 96))})
    assert settled.key_settings() == of((96, 96, 96), (1, 1, 1)).key_settings()
    assert settled.key_settings()["kernels"] == [[3, 3, 3]] * 5
    assert of((64, 64, 32), (1, 1, 1)).key_settings() != settled.key_settings()
    other = NnUNet(voxel=(1, 1, 5)).settled({"dataset": Phantom(patch=(96, 96, 96))})
    assert other.key_settings() != settled.key_settings()
    assert given.settled({}).key_settings() == settled.key_settings()


def test_what_does_not_fit_is_refused_with_its_reason() -> None:
    def faults(backbone: Any, **fields: Any) -> list[str]:
        cell = {"dataset": Phantom(**fields)}
        told: list[str] = backbone.settled(cell).conflicts(cell)
        return told

    assert faults(NnUNet(), patch=(64, 64, 32)) == []
    assert "[50, 64, 32] has a side that is no multiple of 8" in faults(NnUNet(), patch=(50, 64, 32))[0]
    assert "its own in [16, 16, 8]" in faults(of((64, 64, 32), (1, 1, 1)), patch=(64, 64, 36))[0]
    assert "too small" in faults(NnUNet(), patch=(7, 7, 7))[0]
    two = NnUNet(strides=((1, 1, 1), CUBE))
    assert "one voxel left" in faults(two, patch=(2, 2, 2))[0]
    own = Decathlon()
    assert "dataset does not state" in NnUNet().settled({"dataset": own}).conflicts({"dataset": own})[0]
    with pytest.raises(InputError, match="not planned yet"):
        NnUNet().build(2)
    with pytest.raises(InputError, match=r"\[18, 16, 16\][\s\S]*no multiple of 16"):
        built(of(*LA, filters=2))(torch.zeros(1, 1, 18, 16, 16))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"strides": [CUBE, CUBE]}, "1 in the first stage"),
        ({"strides": [(1, 1, 1), (3, 2, 2)]}, "strides are 1 or 2"),
        ({"kernels": [(3, 3, 3), (3, 3, 3)]}, "without strides"),
        ({"strides": [(1, 1, 1), CUBE], "kernels": [(3, 3, 3)] * 3}, "one a stage"),
        ({"strides": [(1, 1, 1), CUBE], "kernels": [(2, 3, 3)] * 2}, "kernels are 1, 3, 5 or 7"),
    ],
)
def test_stages_that_make_no_network_are_refused(fields: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        NnUNet(**fields)


def test_a_topology_knows_its_multiples() -> None:
    assert Topology(((1, 1, 1), FLAT, CUBE), ((3, 3, 3),) * 3).multiples == (2, 4, 4)
