"""Bytes counted with fake tensors, against a sum by hand and against what torch's profiler sees happen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfrbench.components.backbone.vnet import VNet
from sfrbench.machine.live_bytes import LiveBytes, materialise, shapes_only
from sfrbench.machine.training_memory import fits

MB = 2**20


def steps(network: nn.Module, images: torch.Tensor) -> None:
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        loss = network(images).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def held(network: nn.Module, images: torch.Tensor) -> int:
    return sum(part.nbytes for part in (*network.parameters(), *network.buffers(), images))


def test_a_sum_by_hand() -> None:
    with shapes_only(), LiveBytes() as live:
        one = torch.zeros(MB // 4)  # 1 MB
        two = one * 2
        assert live.now == 2 * MB
        three = two[:7].exp()  # a view takes nothing; 28 bytes take a block
        assert live.now == 2 * MB + 512
        del one, two
        assert live.now == 512
        three.add_(1)
    assert (live.now, live.peak) == (512, 2 * MB + 512)


def test_it_is_what_torch_sees_when_the_training_runs() -> None:
    """Kernels of a CPU need little room of their own, so the two agree."""
    shape = (2, 1, 64, 64, 32)
    network, images = VNet(filters=4).build(2).train(), torch.randn(shape)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        steps(network, images)
    results = profile.profiler.kineto_results  # type: ignore[union-attr]
    events = [one for one in results.events() if one.name() == "[memory]"]
    now = peak = held(network, images)
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    with torch.device("meta"):
        network = VNet(filters=4).build(2).train()
    with shapes_only(), LiveBytes() as live:
        materialise(network)
        live.hold(*network.parameters(), *network.buffers())
        steps(network, torch.randn(shape))
    assert live.peak == pytest.approx(peak, rel=0.03)


def test_what_depends_on_numbers_counts_in_full() -> None:
    with shapes_only(), LiveBytes() as live:
        values = torch.randn(4, 1000)
        chosen = values[values > 0]
        assert len(chosen) == 4000
        assert torch.nonzero(values > 0).shape == (4000, 2)
        assert len(torch.bincount(torch.zeros(10, dtype=torch.int64), minlength=3)) == 3
        assert int(torch.randint(2**62, ())) == float(values.sum()) == 1
        assert values.numpy().shape == (4, 1000)
        assert live.peak > 4000 * 16


@pytest.mark.parametrize(("peak", "fit"), [(9.5, True), (9.6, False), (0.1, True)])
def test_a_card_keeps_a_gigabyte_and_a_twentieth(peak: float, fit: bool) -> None:
    assert fits(int(peak * 2**30), 11 * 2**30) == fit
