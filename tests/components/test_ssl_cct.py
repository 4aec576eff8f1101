"""CCT against its formula, and its perturbations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.base import Backbone
from sfrbench.components.ssl._perturb import drop_strongest, drop_values, multiply_noise
from sfrbench.components.ssl.cct import Cct
from tests.support.ssl_steps import TINY, models_of, numbers, softmax, step_of, trained

UNET = UNet3d(filters=2, dropout=0)


def perturbed_like_the_source(maps: list[np.ndarray], seed: int) -> list[list[np.ndarray]]:
    """Three lists of maps from the same draws."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> np.ndarray:
        return torch.rand(shape, generator=rng).double().numpy()

    noisy = [part * (0.7 + 0.6 * draw(1, *part.shape[1:])) for part in maps]
    dropped = [np.where(draw(*part.shape) < 0.3, 0, part / 0.7) for part in maps]
    removed = []
    for part in maps:
        strength = part.mean(1, keepdims=True)
        limit = (0.7 + 0.2 * draw()) * strength.reshape(len(part), -1).max(1)
        removed.append(np.where(strength >= limit.reshape(-1, 1, 1, 1, 1), 0, part))
    return [noisy, dropped, removed]


@pytest.mark.parametrize(
    ("classes", "counts", "backbone"), [(2, (2, 2), TINY), (5, (1, 1), TINY), (3, (1, 2), UNET)]
)
def test_matches_the_formula_in_float64(classes: int, counts: tuple[int, int], backbone: Backbone) -> None:
    method = Cct(ramp_length=10, ramp_unit=5)
    models = models_of(method, classes, backbone)
    step = step_of(method, models, iteration=27, counts=counts)
    outputs = method.outputs(step)
    loss = method.loss(step).item()

    maps = [numbers(part) for part in models.student.encode(step.images)]
    main, errors = softmax(numbers(models.student(step.images))), []
    versions = zip(models.networks.values(), perturbed_like_the_source(maps, 5), outputs[1:], strict=True)
    for decoder, version, output in versions:
        features = decoder.decode(tuple(torch.from_numpy(part) for part in version))
        probs = softmax(numbers(decoder.head(features)))
        assert np.allclose(softmax(numbers(output)), probs, atol=1e-6)
        errors.append(((main - probs)[counts[0] :] ** 2).mean())
    assert loss == pytest.approx(0.1 * np.exp(-5 * (1 - 5 / 10) ** 2) * np.mean(errors), rel=1e-5)


def test_trains_encoder_and_all_decoders_which_are_decoders_alone() -> None:
    method = Cct()
    models = models_of(method, 2, double=False)
    step = step_of(method, models, counts=(1, 1))
    before = list(method.outputs(step))
    loss = method.loss(step)
    assert all(one is other for one, other in zip(before[1:], method.outputs(step)[1:], strict=True))
    loss.backward()
    assert method.combine == "mean"
    for network in (models.student, *models.networks.values()):
        assert trained(network)
    for decoder in models.networks.values():
        inside = {name.split(".")[0] for name, _ in decoder.named_parameters()}
        assert inside == {"ups", "decoder", "head"}


def test_decoders_survive_a_checkpoint() -> None:
    method = Cct()
    models = models_of(method, 2, double=False)
    before = method.outputs(step_of(method, models, counts=(1, 1)))
    other = models_of(method, 2, double=False)
    for name, decoder in other.networks.items():
        torch.nn.init.zeros_(decoder.head.weight)
        decoder.load_state_dict(models.networks[name].state_dict())
    after = method.outputs(step_of(method, other, counts=(1, 1)))
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_perturbations_keep_shape_and_type_and_change_what_they_say(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 8, 8, 8, generator=rng).to(dtype) + 0.5
    noisy = multiply_noise(maps, rng, 0.3)
    factors = (noisy / maps).float()
    assert 0.68 < factors.min() < 0.72
    assert 1.28 < factors.max() < 1.32
    dropped = drop_values(maps, rng, 0.3)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    removed = drop_strongest(maps, rng, 0.7, 0.9)
    gone = (removed == 0).all(1)
    assert gone.any(3).any(2).any(1).all()  # in each patch
    assert torch.equal(removed != 0, (~gone).unsqueeze(1).expand_as(removed))
    assert noisy.dtype == dropped.dtype == removed.dtype == dtype


def test_maps_without_any_activation_stay_at_zero() -> None:
    rng = torch.Generator().manual_seed(0)
    assert drop_strongest(torch.zeros(1, 2, 2, 2, 2), rng, 0.7, 0.9).abs().sum() == 0
