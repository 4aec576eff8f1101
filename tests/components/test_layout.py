"""How maps of 3D segmenters lie in memory: on a CPU as ever, on a GPU as their norms want them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sfrbench.components.backbone._layers import Parts
from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.backbone.vnet_magic import VNetMagic
from sfrbench.components.base import Backbone

#: With the copies of maps in a forward pass where they lie in channels last; those of group norm are made
#: inside its kernel, on a GPU alone.
INSTANCE = [(VNetMagic(filters=2), 29), (UNet3d(filters=2), 18)]
FIRST = [*(backbone for backbone, _ in INSTANCE), VNet(filters=2, norm="group")]
LAST = [VNet(filters=2), VNet(filters=2, norm="none")]


class Copies(TorchDispatchMode):
    """Counts copies of whole maps."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (torch.ops.aten.clone, torch.ops.aten.copy_)
        return func(*args, **(kwargs or {}))


def copies(network: Parts) -> int:
    with Copies() as counter:
        network.features(torch.randn(2, 1, 32, 32, 32))
    return counter.count


def weights_lie(network: Parts, layout: torch.memory_format) -> bool:
    """Whether all weights that tell the layouts apart lie in this one."""
    telling = [part for part in network.parameters() if part.ndim == 5 and part.shape[1] > 1]
    return all(part.is_contiguous(memory_format=layout) for part in telling if part[0, 0].numel() > 1)


def built(backbone: Backbone) -> Parts:
    network = backbone.build(3)
    assert isinstance(network, Parts)
    return network.train()


@pytest.mark.parametrize(("backbone", "count"), INSTANCE, ids=["V-Net", "U-Net"])
def test_instance_norm_copies_no_map_in_the_layout_of_a_gpu(backbone: Backbone, count: int) -> None:
    network = built(backbone)
    assert copies(network) == count
    assert copies(network.to(memory_format=network.layout)) == 0


@pytest.mark.parametrize("backbone", LAST, ids=["batch", "none"])
def test_the_other_norms_copy_no_map_in_channels_last(backbone: Backbone) -> None:
    assert copies(built(backbone)) == 0


@pytest.mark.parametrize(
    ("backbone", "layout"),
    [*((one, torch.contiguous_format) for one in FIRST), *((one, torch.channels_last_3d) for one in LAST)],
)
def test_the_layout_is_taken_beside_the_cpu_alone(backbone: Backbone, layout: torch.memory_format) -> None:
    """The last digits of a CPU depend on it."""
    network = built(backbone)
    assert weights_lie(network.to("cpu"), torch.channels_last_3d)
    there = built(backbone).to("meta")
    assert weights_lie(there, layout)
    assert weights_lie(there.to(memory_format=torch.channels_last_3d), torch.channels_last_3d)
