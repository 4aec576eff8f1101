"""V-Net: the published parameter counts, shapes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from sfrbench.components.backbone.vnet import VNet
from sfrbench.errors import InputError


@pytest.mark.parametrize(("classes", "count"), [(2, 9_448_866), (14, 9_449_070)])
def test_published_parameter_counts(classes: int, count: int) -> None:
    assert sum(part.numel() for part in VNet().build(classes).parameters()) == count


def test_instance_norm_without_affine_has_the_count_of_magicnet() -> None:
    network = VNet(norm="instance", dropout=False).build(14)
    assert sum(part.numel() for part in network.parameters()) == 9_443_470


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_are_float32_of_the_input_size(norm: str, precision: str) -> None:
    network = VNet.model_validate({"filters": 2, "norm": norm, "precision": precision}).build(3)
    logits = network(torch.randn(2, 1, 32, 16, 16))
    assert logits.shape == (2, 3, 32, 16, 16)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(part.grad is not None and part.grad.dtype == torch.float32 for part in network.parameters())


def test_bf16_is_close_to_fp32() -> None:
    images = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    results = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        settings = {"filters": 4, "norm": "group", "precision": precision}
        results.append(VNet.model_validate(settings).build(2).eval()(images).detach())
    difference = results[0] - results[1]
    assert 0 < float(difference.std()) < 0.1 * float(results[0].std())


def test_dropout_is_active_in_training_and_off_in_evaluation() -> None:
    images = torch.randn(1, 1, 16, 16, 32)
    network = VNet(filters=4, norm="none").build(2)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))
    plain = VNet(filters=4, norm="none", dropout=False).build(2)
    assert torch.equal(plain(images), plain(images))


def test_a_patch_that_cannot_be_halved_four_times_is_refused() -> None:
    network = VNet(filters=2).build(2)
    with pytest.raises(InputError, match=r"no multiple of 16[\s\S]*\[48, 32, 32\]"):
        network(torch.zeros(1, 1, 50, 32, 36))


def test_same_seed_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(VNet(filters=2).build(2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    "module",
    [
        "backbone.vnet",
        "ssl.supervised",
        "ssl.mean_teacher",
        "ssl.step",
        "backbone.unet3d",
        "backbone.vnet_magic",
    ],
)
def test_importing_a_component_does_not_import_torch(module: str) -> None:
    code = f"import sys, sfrbench.components.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
