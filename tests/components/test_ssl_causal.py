"""CauSSL, on mutual consistency and on CPS, against its formulas."""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Ssl
from sfrbench.components.ssl._independence import Independence, shared_kernels, upsampling_decoder
from sfrbench.components.ssl.causal import Causal
from sfrbench.components.ssl.causal_cps import CausalCps
from sfrbench.stages.retrain.models import Models
from tests.support.ssl_steps import models_of, numbers, softmax, step_of, trained

GAME = {"game_after": 10, "game_every": 4, "game_steps": 3}


def players_of(models: Models) -> list[Any]:
    names = ("second",) if "second" in models.networks else ("trilinear", "nearest")
    return [models.student, *(models.networks[name] for name in names)]


def cosines(kernels: list[list[Any]], matrices: list[Any]) -> float:
    """The term, row by row."""
    total = 0.0
    for layer, mixing in enumerate(matrices):
        rows = [
            kernels[player][layer].reshape(len(kernels[player][layer]), -1) for player in range(len(kernels))
        ]
        for player, own in enumerate(rows):
            others = np.concatenate([row for other, row in enumerate(rows) if other != player])
            values = []
            for row in range(len(own)):
                rebuilt = mixing[player][row] @ others
                product = rebuilt @ own[row]
                values.append(product**2 / (rebuilt @ rebuilt) / (own[row] @ own[row]))
            total += float(np.mean(values))
    return total / len(matrices)


def independence(models: Models) -> float:
    game = models.networks["independence"]
    assert isinstance(game, Independence)
    kernels = [[numbers(part) for part in parts] for parts in shared_kernels(players_of(models))]
    return cosines(kernels, [numbers(part) for part in game.matrices(game.mixing)])


@pytest.mark.parametrize("mode", ["trilinear", "nearest"])
def test_small_maps_are_convolved_in_fp32_before_upsampling_too(mode: str) -> None:
    """A patch of 32 voxels has a bottleneck of 2, which the first 1x1x1 convolution of the decoder reads."""
    network = VNet(filters=2, precision="bf16").build(2)
    decoder = upsampling_decoder(copy.deepcopy(network), mode)
    seen = {}
    for part in decoder.modules():
        if isinstance(part, torch.nn.Conv3d):
            part.register_forward_hook(lambda _, given, made: seen.update({given[0].shape[2]: made.dtype}))
    decoder.decode(network.encode(torch.zeros(1, 1, 32, 32, 32)))
    assert seen == {
        2: torch.float32,
        4: torch.bfloat16,
        8: torch.bfloat16,
        16: torch.bfloat16,
        32: torch.bfloat16,
    }


@pytest.mark.parametrize(
    ("classes", "counts", "iteration"), [(2, (2, 2), 27), (5, (1, 1), 27), (5, (1, 1), 11)]
)
def test_mutual_consistency_matches_the_formula_in_float64(
    classes: int, counts: tuple[int, int], iteration: int
) -> None:
    method = Causal.model_validate({**GAME, "ramp_length": 10, "ramp_unit": 5})
    models = models_of(method, classes)
    step = step_of(method, models, iteration, counts)
    loss = method.loss(step).item()

    decoders = players_of(models)
    maps = models.student.encode(step.images_u)
    logits = [numbers(one.head(one.decode(maps))) for one in decoders]
    probs = [softmax(part) for part in logits]
    sharp = [part**2 / (part**2).sum(1, keepdims=True) for part in probs]
    distance = sum(((probs[i] - sharp[j]) ** 2).mean() for i in range(3) for j in range(3) if i != j)
    expected = 0.1 * np.exp(-5 * (1 - (iteration // 5) / 10) ** 2) * distance
    if iteration >= 12:
        expected += 3.0 * independence(models)
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("classes", "iteration"), [(2, 27), (5, 20), (2, 14), (2, 11)])
def test_cps_matches_the_formula_in_float64(classes: int, iteration: int) -> None:
    method = CausalCps.model_validate({**GAME, "cross_after": 20, "ramp_length": 10, "ramp_unit": 5})
    models = models_of(method, classes)
    step = step_of(method, models, iteration, (1, 1))
    loss = method.loss(step).item()
    one, two = (softmax(numbers(network(step.images_u))) for network in players_of(models))

    def cross_entropy(probs: Any, labels: Any) -> float:
        return float(-np.log(np.take_along_axis(probs, labels[:, None], 1)).mean())

    weight = 0.03 * np.exp(-5 * (1 - (iteration // 5) / 10) ** 2)
    both = cross_entropy(one, two.argmax(1)) + cross_entropy(two, one.argmax(1))
    expected = weight * both if iteration > 20 else 0.0
    expected += 3.0 * independence(models) if iteration >= 12 else 0.0
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", [Causal(), CausalCps()])
def test_a_game_is_adam_on_the_plain_formula(method: Ssl) -> None:
    models = models_of(method, 3)
    game: Any = models.networks["independence"]
    kernels = shared_kernels(players_of(models))
    own = [part.clone().requires_grad_() for part in game.matrices(game.mixing)]
    optimiser = torch.optim.Adam(own, 2e-2)
    for _ in range(6):
        total = torch.zeros((), dtype=torch.float64)
        for layer, mixing in enumerate(own):
            rows = [part[layer].detach().flatten(1) for part in kernels]
            for player in range(len(rows)):
                others = torch.cat(rows[:player] + rows[player + 1 :])
                rebuilt = functional.normalize(mixing[player] @ others, dim=1)
                cosine = torch.einsum("nc,nc->n", rebuilt, functional.normalize(rows[player], dim=1))
                total = total - cosine.square().mean() / len(own)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    before = independence(models)
    game.ascend(kernels, 4, 2e-2)
    game.ascend(kernels, 2, 2e-2)  # goes on where the first stopped
    for mine, theirs in zip(game.matrices(game.mixing), own, strict=True):
        assert numbers(mine) == pytest.approx(numbers(theirs), rel=1e-6, abs=1e-9)
    assert independence(models) > before


def test_games_are_played_when_the_source_plays_them() -> None:
    played = {}
    for method in (Causal(game_steps=1), CausalCps(game_steps=1)):
        models = models_of(method, 2, VNet(filters=2, norm="none", dropout=False), double=False)
        game: Any = models.networks["independence"]
        counts = []
        for iteration in (0, 41, 60, 61, 120, 480, 540):
            step = step_of(method, models, iteration, (1, 1), (16, 16, 16))
            method.loss(step)
            counts.append(int(game.count))
            assert ("independence" in step.values) == (counts[-1] > 0)
        played[type(method)] = counts
    assert played[Causal] == [0, 0, 1, 1, 2, 3, 4]
    assert played[CausalCps] == [0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "method", [Causal.model_validate(GAME), CausalCps.model_validate({**GAME, "cross_after": 0})]
)
def test_trains_every_network_and_no_matrix_and_falls(method: Ssl) -> None:
    models = models_of(method, 2, double=False)
    optimiser = torch.optim.SGD(models.parameters(), 0.01)
    losses = []
    for iteration in (12, 13, 14, 15):
        step = step_of(method, models, iteration, (1, 1))
        loss = method.loss(step)
        (loss + torch.stack([part.square().mean() for part in method.outputs(step)]).sum()).backward()
        assert all(trained(network) for network in players_of(models))
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not list(models.networks["independence"].parameters())


SHAPES = [(4, 3, 2, 1, 1), (2, 4, 1, 1, 1)]


def wave(shape: tuple[int, ...], start: int) -> torch.Tensor:
    return torch.sin(1 + 0.7 * (start + torch.arange(prod(shape), dtype=torch.float64))).reshape(shape)


def three_decoders() -> tuple[Any, list[list[torch.Tensor]], list[torch.Tensor]]:
    """A game over two layers of numbers from a formula: the module, kernels, and matrices by layer."""
    kernels = [[wave(shape, 100 * p + 40 * n) for n, shape in enumerate(SHAPES)] for p in range(3)]
    matrices = [
        torch.stack([wave((shape[0], 2 * shape[0]), 500 + 100 * p + 50 * n) for p in range(3)])
        for n, shape in enumerate(SHAPES)
    ]
    game: Any = Independence(kernels).double()
    game.mixing = torch.cat([part.flatten() for part in matrices])
    for part in (part for parts in kernels for part in parts):
        part.requires_grad_()
    return game, kernels, matrices


def slopes(own: Any, others: Any, mixing: Any, layers: int) -> Any:
    """The derivative of the mean over rows of cos^2 w.r.t. ``own``, all others constant, over ``layers``."""
    rebuilt, out = mixing @ others, np.zeros_like(own)
    for n, row in enumerate(own):
        length = np.sqrt(row @ row)
        toward, along = rebuilt[n] / np.sqrt(rebuilt[n] @ rebuilt[n]), row / length
        cosine = toward @ along
        out[n] = 2 * cosine * (toward - cosine * along) / length / len(own) / layers
    return out


@pytest.mark.parametrize(("into", "descend"), [("own", [0, 1, 2]), ("first", [0])])
def test_gradients_of_the_term_match_the_formula_and_the_released_code(into: str, descend: list[int]) -> None:
    """A decoder descends its own part, in which the others are constants; of "first" decoder 1 alone."""
    game, kernels, matrices = three_decoders()
    value = game(kernels, into)
    value.backward()
    for p in range(3):
        for n, kernel in enumerate(kernels[p]):
            if p not in descend:
                assert kernel.grad is None
                continue
            rows = [numbers(parts[n]).reshape(SHAPES[n][0], -1) for parts in kernels]
            others = np.concatenate(rows[:p] + rows[p + 1 :])
            expected = slopes(rows[p], others, numbers(matrices[n][p]), len(SHAPES))
            assert numbers(kernel.grad).reshape(expected.shape) == pytest.approx(
                expected, rel=1e-9, abs=1e-12
            )
    # JuzhengMiao/CauSSL, l_correlation_cos_mean_mct1 + 2 + 3 on these numbers: the value, and the norm of the
    # gradient on decoder 1; decoders 2 and 3 get none
    assert value.item() == pytest.approx(1.5507067910123644, rel=1e-12)
    norms = [part.grad.norm().item() for part in kernels[0] if part.grad is not None]
    assert norms == pytest.approx([0.11402334981664775, 0.1923166741884607], rel=1e-9)


def test_the_two_targets_of_the_term_differ_in_the_other_networks_alone() -> None:
    found = {}
    for into in ("own", "first"):
        models = models_of(Causal(), 2)
        kernels = shared_kernels(players_of(models))
        game: Any = models.networks["independence"]
        game(kernels, into).backward()
        found[into] = [[part.grad for part in parts] for parts in kernels]
    assert all(torch.equal(a, b) for a, b in zip(found["own"][0], found["first"][0], strict=True))
    assert all(part.abs().sum() > 0 for parts in found["own"] for part in parts)
    assert all(part is None for parts in found["first"][1:] for part in parts)


def test_a_game_goes_on_from_its_state_to_the_bit() -> None:
    method = Causal.model_validate(GAME)
    models, others = (models_of(method, 2, double=False) for _ in range(2))
    method.loss(step_of(method, models, 12, (1, 1)))
    for name, network in models.networks.items():
        others.networks[name].load_state_dict(copy.deepcopy(network.state_dict()))
    values = [method.loss(step_of(method, some, 16, (1, 1))).item() for some in (models, others)]
    assert values[0] == values[1]


def test_the_three_decoders_and_what_of_them_is_compared() -> None:
    models = models_of(Causal(), 4, VNet(filters=4), double=False)
    trilinear, nearest = (models.networks[name] for name in ("trilinear", "nearest"))
    kinds = [
        [(part.mode, part.align_corners) for part in network.modules() if isinstance(part, torch.nn.Upsample)]
        for network in (trilinear, nearest)
    ]
    assert kinds == [[("trilinear", True)] * 4, [("nearest", None)] * 4]
    assert not any("encoder" in name or "downs" in name for name, _ in trilinear.named_parameters())
    kernels = shared_kernels(players_of(models))
    widths = [32, 32, 32, 16, 16, 16, 8, 8, 4]  # 3, 3, 2, 1 convolutions; then the head
    assert [len(part) for part in kernels[0]] == [*widths, 4]
    assert all(part.shape[2:] == (3, 3, 3) for part in kernels[0][:-1])
    both = shared_kernels(players_of(models_of(CausalCps(), 4, VNet(filters=4), double=False)))
    assert len(both[0]) == 12 + 4 + 4 + 9 + 1  # encoder, down, up, decoder, head


def test_works_on_the_3d_u_net_and_in_bfloat16() -> None:
    for backbone in (
        UNet3d(filters=2),
        VNet.model_validate({"filters": 2, "norm": "batch", "precision": "bf16"}),
    ):
        method = Causal.model_validate(GAME)
        models = models_of(method, 2, backbone, double=False)
        loss = method.loss(step_of(method, models, 12, (1, 1)))
        loss.backward()
        assert torch.isfinite(loss)
        assert loss.dtype == torch.float32
