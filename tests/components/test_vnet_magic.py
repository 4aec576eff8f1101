"""MagicNet's V-Net: its counts with and without the location head, and the head on cubes."""

from __future__ import annotations

import pytest
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone._interface import in_parts
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.backbone.vnet_magic import VNetMagic
from sfrbench.errors import InputError


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        network, head = VNetMagic().build(14), VNetMagic().location_head()
    network_count, head_count = (sum(p.numel() for p in part.parameters()) for part in (network, head))
    assert (network_count, head_count) == (9_443_470, 8_511_515)
    figures = Catalog.read().card("backbone", "vnet_magic").figures
    assert figures["parameters_k14"] == network_count + head_count == 17_954_985
    assert figures["parameters_k14_inference"] == network_count
    assert figures["parameters_location_head"] == head_count


def test_what_is_stored_is_the_plain_v_net() -> None:
    networks = []
    for backbone in (VNetMagic(filters=2), VNet(filters=2, norm="instance", dropout=False)):
        torch.manual_seed(3)
        networks.append(backbone.build(3))
    one, other = (network.state_dict() for network in networks)
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    images = torch.randn(2, 1, 32, 32, 16)
    assert torch.equal(networks[0](images), networks[1](images))


@pytest.mark.parametrize(("filters", "cube", "width"), [(16, 32, 2048), (2, 32, 256), (2, 48, 864)])
def test_the_width_follows_filters_and_cube(filters: int, cube: int, width: int) -> None:
    with torch.device("meta"):
        head = VNetMagic(filters=filters).location_head(cube)
    assert next(head.parameters()).shape == (4096, width)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cubes_to_scores(precision: str) -> None:
    backbone = VNetMagic.model_validate({"filters": 2, "precision": precision})
    network, head = backbone.build(3), backbone.location_head(cube=32, positions=8)
    scores = head(in_parts(network).encode(torch.randn(8, 1, 32, 32, 32))[-1])
    assert scores.shape == (8, 8)
    assert scores.dtype == torch.float32
    scores.log_softmax(1).diagonal().mean().backward()
    reached = {name.split(".")[0] for name, part in network.named_parameters() if part.grad is not None}
    assert reached == {"encoder", "downs"}
    assert all(part.grad is not None for part in head.parameters())


def test_a_cube_that_cannot_be_halved_four_times_is_refused() -> None:
    with pytest.raises(InputError, match="no multiple of 16"):
        VNetMagic().location_head(cube=24)
