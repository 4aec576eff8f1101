"""Methods of semi-supervision against their formulas."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Ssl
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.ssl.step import Step
from sfrbench.components.ssl.supervised import Supervised
from sfrbench.stages.retrain.models import Models, update_teacher
from tests.support.ssl_steps import softmax, step_of


def make_step(student: nn.Module, teacher: nn.Module | None, iteration: int, seed: int = 0) -> Step:
    models = Models(student, teacher, {}, 3)
    return step_of(MeanTeacher(), models, iteration, sides=(8, 8, 4), seed=seed)


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    student, teacher = nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(1, 3, 3, padding=1)
    return student, teacher.requires_grad_(False)


@pytest.mark.parametrize("where", ["all", "unlabelled"])
def test_mean_teacher_matches_the_formula_in_float64(pair: tuple[nn.Module, nn.Module], where: str) -> None:
    student, teacher = pair
    method = MeanTeacher.model_validate({"consistency_on": where, "ramp_length": 10, "ramp_unit": 5})
    step = make_step(student, teacher, iteration=27, seed=4)
    loss = method.loss(step)

    first = 0 if where == "all" else 2
    images = step.images[first:].double()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    noisy = images + (noise.double() * 0.1).clip(-0.2, 0.2)
    ours = softmax(copy.deepcopy(student).double()(images).detach().numpy())
    theirs = softmax(copy.deepcopy(teacher).double()(noisy).detach().numpy())
    weight = 0.1 * np.exp(-5 * (1 - 5 / 10) ** 2)  # 27 // 5 = 5 of 10 ramp units
    assert loss.item() == pytest.approx(weight * ((ours - theirs) ** 2).mean(), rel=1e-5)
    assert step.values["consistency_weight"] == pytest.approx(weight)


def test_mean_teacher_trains_the_student_only(pair: tuple[nn.Module, nn.Module]) -> None:
    student, teacher = pair
    MeanTeacher().loss(make_step(student, teacher, 0)).backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in student.parameters())
    assert all(part.grad is None for part in teacher.parameters())


def test_noise_comes_from_the_generator_of_the_step(pair: tuple[nn.Module, nn.Module]) -> None:
    losses = [MeanTeacher().loss(make_step(*pair, 0, seed)).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_ramp_and_weight_scale_the_term(pair: tuple[nn.Module, nn.Module]) -> None:
    early = MeanTeacher().loss(make_step(*pair, 0)).item()
    full = MeanTeacher().loss(make_step(*pair, 6000)).item()
    assert early == pytest.approx(full * np.exp(-5), rel=1e-4)
    assert MeanTeacher(lambda_cons=1).loss(make_step(*pair, 6000)).item() == pytest.approx(
        10 * full, rel=1e-4
    )


def test_supervised_adds_nothing_and_takes_no_unlabelled_patches(pair: tuple[nn.Module, nn.Module]) -> None:
    assert Supervised().loss(make_step(pair[0], None, 3)).item() == 0
    assert not Supervised.uses_unlabelled
    assert not Supervised.needs_teacher


def test_mean_teacher_without_a_teacher_is_a_defect(pair: tuple[nn.Module, nn.Module]) -> None:
    with pytest.raises(ValueError, match="teacher"):
        MeanTeacher().loss(make_step(pair[0], None, 0))


def test_teacher_averages_parameters_and_keeps_its_own_statistics() -> None:
    torch.manual_seed(0)
    student, teacher = nn.BatchNorm3d(2), nn.BatchNorm3d(2)
    with torch.no_grad():
        student.weight.fill_(3.0)
        teacher.weight.fill_(1.0)
    student(torch.randn(4, 2, 4, 4, 4) + 5)
    before = teacher.state_dict()["running_mean"].clone()
    update_teacher(teacher, student, 0.75)
    assert teacher.weight.tolist() == [1.5, 1.5]
    assert torch.equal(teacher.state_dict()["running_mean"], before)
    update_teacher(teacher, student, 0.0)
    assert torch.equal(teacher.weight, student.weight)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.99, 1 - 1 / 3])
def test_the_teacher_is_the_average_of_each_parameter_to_the_bit(alpha: float) -> None:
    torch.manual_seed(0)
    teacher, student = VNet(filters=2, norm="batch").build(3), VNet(filters=2, norm="batch").build(3)
    wanted = [
        old.detach().clone().mul_(alpha).add_(new.detach(), alpha=1 - alpha)
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True)
    ]
    buffers = [buffer.clone() for buffer in teacher.buffers()]
    update_teacher(teacher, student, alpha)
    assert all(map(torch.equal, teacher.parameters(), wanted))
    assert all(map(torch.equal, teacher.buffers(), buffers))


@pytest.mark.parametrize("method", [Supervised, MeanTeacher])
def test_defaults_are_those_of_the_released_code(method: type[Ssl]) -> None:
    fields = method()
    assert (fields.steps, fields.batch_labeled, fields.batch_unlabeled, fields.ema) == (6000, 2, 2, 0.99)
    assert (fields.optim.optimiser, fields.optim.lr, fields.optim.weight_decay) == ("sgd", 0.01, 1e-4)
