"""Dropout that a patch meets alike in whatever batch it is."""

from __future__ import annotations

import pytest
import torch

from sfrbench.components.backbone._layers import Dropout
from sfrbench.components.backbone._vnet import VNetModule


def dropped(drop: Dropout, maps: torch.Tensor, seed: int = 3) -> torch.Tensor:
    torch.manual_seed(seed)
    return drop(drop(maps))  # type: ignore[no-any-return]


@pytest.mark.parametrize("channels", [True, False])
def test_a_sample_loses_the_same_in_every_batch(channels: bool) -> None:
    maps = torch.rand(4, 6, 3, 5, 2) + 0.1
    drop = Dropout(0.5, channels=channels)
    alone, together = dropped(drop, maps[:1]), dropped(drop, maps)
    assert torch.equal(alone, together[:1])
    assert not torch.equal(dropped(drop, maps, seed=4), together)
    masks = (together[:, :, 0, 0, 0] == 0) if channels else (together == 0)
    assert not torch.equal(masks[0], masks[1])


def test_share_and_scale() -> None:
    drop = Dropout(0.25, channels=False)
    torch.manual_seed(0)
    out = drop(torch.ones(2, 8, 20, 20, 20))
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert out.max().item() == pytest.approx(1 / 0.75)
    whole = Dropout(0.5, channels=True)(torch.ones(4, 32, 3, 3, 3)).flatten(2)
    assert (whole == whole[..., :1]).all()
    assert torch.equal(drop.eval()(out), out)


def test_the_labelled_gradient_does_not_depend_on_the_unlabelled_patch() -> None:
    network = VNetModule(2, filters=2, norm="instance")
    images = torch.randn(2, 1, 32, 32, 16)
    grads = []
    for batch in (images[:1], images):
        network.zero_grad()
        torch.manual_seed(7)
        network(batch)[:1].square().mean().backward()
        parts = [part.grad.flatten() for part in network.parameters() if part.grad is not None]
        grads.append(torch.cat(parts))
    assert torch.cosine_similarity(*grads, dim=0) > 0.9999  # unpaired masks give about 0.1
