"""Deep supervision: nnU-Net's weights and targets, for every method, and no trace of it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from sfrbench.components.backbone.nnunet import NnUNet
from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Backbone, Ssl
from sfrbench.components.ssl._supervised import pseudo_label_loss, supervised_loss
from sfrbench.components.ssl.bcp import Bcp
from sfrbench.components.ssl.causal import Causal
from sfrbench.components.ssl.causal_cps import CausalCps
from sfrbench.components.ssl.cct import Cct
from sfrbench.components.ssl.cps import Cps
from sfrbench.components.ssl.magicnet import MagicNet
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.ssl.slc_net import SlcNet
from sfrbench.components.ssl.supervised import Supervised
from sfrbench.components.ssl.urpc import Urpc
from sfrbench.engine.context import StageContext
from sfrbench.engine.training import StepResult
from sfrbench.maths.losses import level_weights, over_levels, segmentation_loss, shrunk
from sfrbench.stages.retrain.data import Batch, known_of
from sfrbench.stages.retrain.models import Models
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.retrain.run import training_step
from sfrbench.stages.settings import SplitSettings
from tests.support.ssl_steps import models_of

SIDES = (32, 16, 16)
STAGES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 1, 1))
DEEP = NnUNet(filters=2, strides=STAGES)


def test_weights_are_nnu_nets() -> None:
    """Those of 5 and 6 stages, which have 4 and 5 levels in the decoder."""
    assert level_weights(4) == pytest.approx([0.5714, 0.2857, 0.1429, 0], abs=5e-5)
    assert level_weights(5) == pytest.approx([0.5333, 0.2667, 0.1333, 0.0667, 0], abs=5e-5)
    assert (level_weights(1), level_weights(2)) == ([1.0], [1.0, 0.0])
    assert sum(level_weights(7)) == pytest.approx(1)


@pytest.mark.parametrize("sides", [(4, 4, 2), (8, 2, 4), (3, 5, 4), (8, 8, 4)])
def test_hard_targets_are_those_of_the_nearest_voxels(sides: tuple[int, int, int]) -> None:
    labels = torch.randint(0, 256, (2, 8, 8, 4), generator=torch.Generator().manual_seed(0))
    theirs = functional.interpolate(labels[:, None].double(), sides, mode="nearest-exact")[:, 0]
    assert torch.equal(shrunk(labels, sides), theirs.long())


def test_soft_targets_are_means_that_still_sum_to_one() -> None:
    probs = torch.randn(2, 3, 8, 8, 4, generator=torch.Generator().manual_seed(0)).double().softmax(1)
    small = shrunk(probs, (4, 4, 4))
    assert torch.allclose(small, probs.view(2, 3, 4, 2, 4, 2, 4).mean((3, 5)))
    assert torch.allclose(small.sum(1), torch.ones(2, 4, 4, 4).double())


def test_losses_are_weighted_over_the_levels() -> None:
    draw = torch.Generator().manual_seed(1)
    levels = [torch.randn(2, 3, *(8 // 2**level,) * 3, generator=draw).double() for level in range(4)]
    labels = torch.randint(0, 3, (2, 8, 8, 8), generator=draw)
    labels[:, 5:] = 255
    each = [
        segmentation_loss(one, labels[:, 2**i // 2 :: 2**i, 2**i // 2 :: 2**i, 2**i // 2 :: 2**i])
        for i, one in enumerate(levels)
    ]
    wanted = (4 * each[0] + 2 * each[1] + each[2]) / 7
    assert torch.allclose(over_levels(segmentation_loss, levels, labels), wanted)
    ssl = Supervised()
    assert torch.allclose(supervised_loss(ssl, levels[0], labels, levels[1:]), wanted)
    assert torch.allclose(pseudo_label_loss(ssl, levels[0], labels, levels[1:]), wanted)
    assert torch.equal(supervised_loss(ssl, levels[0], labels), each[0])


def stepped(method: Ssl, backbone: Backbone, pseudo: bool) -> tuple[Models, StepResult]:
    """The last step of a training, with gradients; two labelled and two unlabelled patches."""
    models = models_of(method, 3, backbone, double=False, sides=SIDES)
    mode: Any = "offline" if pseudo else "none"
    told = RetrainSettings(split=SplitSettings(), patch=SIDES, rot_flip=True, pseudo=mode)
    ctx: Any = StageContext({}, told, {}, 1, Path(), Path())
    draw = torch.Generator().manual_seed(7)
    images = torch.randn(4, 1, *SIDES, generator=draw)
    labels = torch.randint(0, 3, (4, *SIDES), generator=draw)
    known = known_of(method, labels[:2].byte().numpy(), 3)
    torch.manual_seed(0)
    batch = Batch(images, labels[:2], labels[2:] if pseudo else None, known=known)
    result = training_step(ctx, method, models, batch, method.steps - 1)
    result.loss.backward()
    return models, result


METHODS = [
    Supervised(),
    MeanTeacher(),
    Urpc(),
    Cps(),
    CausalCps(cross_after=0, game_after=9999),
    SlcNet(passes=2),
    Cct(),
    Causal(game_after=9999),
    MagicNet(cubes_per_side=(2, 1, 1), blend_after=0),
    Bcp(pretrain=0.0),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_every_method_is_supervised_at_the_coarser_levels(method: Any) -> None:
    """With SFR's pseudo-labels. Every network that has an output of its own learns by all its levels but the
    coarsest, whose weight is 0; the teacher by none."""
    models, result = stepped(method, DEEP, pseudo=True)
    assert bool(torch.isfinite(result.loss))
    assert all(part.grad is None for part in (models.teacher.parameters() if models.teacher else ()))
    deep = [one for one in (models.student, *models.networks.values()) if hasattr(one, "auxiliary")]
    assert len(deep) == {"Cps": 2, "CausalCps": 2, "SlcNet": 2, "Cct": 4, "Causal": 3}.get(
        type(method).__name__, 1
    )
    for network in deep:
        finer, coarsest = network.auxiliary
        assert float(finer.weight.grad.abs().sum()) > 0
        assert coarsest.weight.grad is None


def test_the_terms_of_a_step_are_the_weighted_ones() -> None:
    """Against the levels' losses one by one."""
    method: Any = Supervised(sup_ce=0.3, sup_dice="foreground")
    models, result = stepped(method, DEEP, pseudo=True)
    draw = torch.Generator().manual_seed(7)
    images = torch.randn(4, 1, *SIDES, generator=draw)
    labels = torch.randint(0, 3, (4, *SIDES), generator=draw)
    student: Any = models.student
    maps = student.encode(images)
    scales = student.decode_scales(maps)
    half = student.auxiliary[0](scales[1])
    rows = {"supervised": slice(0, 2), "pseudo": slice(2, 4)}
    for name, part in rows.items():
        loss = supervised_loss if name == "supervised" else pseudo_label_loss
        fine = loss(method, student(images)[part], labels[part])
        coarse = loss(method, half[part], labels[part, 1::2, 1::2, 1::2])
        found = result.values[name]
        assert torch.allclose(torch.as_tensor(found), (2 * fine + coarse) / 3, rtol=1e-5)


def test_a_network_without_heads_has_the_plain_losses() -> None:
    bare = DEEP.model_copy(update={"deep_supervision": False})
    models, result = stepped(Supervised(), bare, pseudo=False)
    draw = torch.Generator().manual_seed(7)
    images = torch.randn(4, 1, *SIDES, generator=draw)
    labels = torch.randint(0, 3, (4, *SIDES), generator=draw)
    loss = segmentation_loss(models.student(images[:2]), labels[:2])
    assert torch.equal(torch.as_tensor(result.values["supervised"]), loss)
    assert not torch.equal(stepped(Supervised(), DEEP, pseudo=False)[1].loss, loss)


@pytest.mark.parametrize("backbone", [VNet(filters=2), UNet3d(filters=2, deep_supervision=True)])
def test_networks_of_ssl4mis_have_none(backbone: Backbone) -> None:
    """The heads of its 3D U-Net are for methods that ask for logits of all levels in full size."""
    assert not hasattr(backbone.build(2), "coarse_logits")
