"""Levels that run twice to keep nothing between: the same bits of a whole training, and less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sfrbench.catalog.cards import Catalog
from sfrbench.components.backbone.nnunet import NnUNet
from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Backbone, Ssl
from sfrbench.components.ssl.magicnet import MagicNet
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.ssl.supervised import Supervised
from sfrbench.components.ssl.urpc import Urpc
from sfrbench.engine.context import StageContext
from sfrbench.engine.training import descend, make_optimiser
from sfrbench.machine.training_memory import retraining
from sfrbench.stages.retrain.data import Batch, known_of
from sfrbench.stages.retrain.models import update_teacher
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.retrain.run import training_step
from sfrbench.stages.settings import SplitSettings
from tests.support.ssl_steps import models_of

SIDES = (32, 32, 16)
STAGES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 1))
METHODS = {
    card.name: card for card in Catalog.read().cards() if card.kind == "ssl" and "_source" not in card.name
}


def trained(method: Ssl, backbone: Backbone, again: bool, pseudo: bool = True) -> dict[str, torch.Tensor]:
    """All states after the last two steps of a training, and their losses."""
    models = models_of(
        method, 3, backbone.model_copy(update={"checkpointing": again}), double=False, sides=SIDES
    )
    mode: Any = "offline" if pseudo else "none"
    told = RetrainSettings(split=SplitSettings(), patch=SIDES, rot_flip=True, pseudo=mode)
    ctx: Any = StageContext({}, told, {}, 1, Path(), Path())
    optimiser = make_optimiser(method.optim, models.parameters())
    draw = torch.Generator().manual_seed(7)
    found: dict[str, torch.Tensor] = {}
    for step in (method.steps - 2, method.steps - 1):
        torch.manual_seed(step)
        images = torch.randn(4, 1, *SIDES, generator=draw)
        labels = torch.randint(0, 3, (4, *SIDES), generator=draw)
        known = known_of(method, labels[:2].byte().numpy(), 3)
        batch = Batch(images, labels[:2], labels[2:] if pseudo else None, known=known)
        result = training_step(ctx, method, models, batch, step)
        descend(optimiser, result.loss, models.parameters(), 0.01, None)
        if models.teacher is not None:
            update_teacher(models.teacher, models.student, 0.99)
        found[f"loss {step}"] = result.loss.detach()
    for name, state in models.states().items():
        found |= {f"{name}.{part}": value for part, value in state.state_dict().items()}
    return found


def differing(method: Ssl, backbone: Backbone, pseudo: bool = True) -> list[str]:
    once, twice = (trained(method, backbone, again, pseudo) for again in (False, True))
    return [name for name in once if not torch.equal(once[name], twice[name])]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_to_the_same_bits(name: str) -> None:
    method: Any = METHODS[name].component({"steps": 60})
    if isinstance(method, MagicNet):
        method = method.model_copy(update={"cubes_per_side": (2, 1, 1), "blend_after": 0})
    backbone = VNet(filters=2, dropout=not isinstance(method, MagicNet))
    assert differing(method, backbone) == []


@pytest.mark.parametrize(
    "backbone",
    [
        VNet(filters=2, norm="instance"),
        VNet(filters=2, precision="bf16"),
        UNet3d(filters=2),
        UNet3d(filters=2, precision="bf16", level_dropout=(0.5, 0.3, 0.2, 0.1)),
        NnUNet(filters=2, strides=STAGES),
        NnUNet(filters=2, strides=STAGES, encoder="residual", precision="bf16"),
    ],
    ids=["instance norm", "bf16", "U-Net", "U-Net bf16", "nnU-Net", "ResEnc bf16"],
)
def test_so_does_every_backbone(backbone: Backbone) -> None:
    assert differing(MeanTeacher(), backbone) == []
    assert differing(MeanTeacher(), backbone, pseudo=False) == []


def test_so_do_heads_at_coarser_levels() -> None:
    assert differing(Urpc(), UNet3d(filters=2, deep_supervision=True)) == []


def test_running_statistics_see_each_batch_once() -> None:
    network = VNet(filters=2, checkpointing=True).build(2).train()
    network(torch.randn(2, 1, *SIDES)).sum().backward()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm3d)]
    assert {int(norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None} == {1}


def test_the_field_is_in_no_key() -> None:
    for kind in (VNet, UNet3d, NnUNet):
        assert kind(checkpointing=True).key_settings() == kind().key_settings()


def test_half_of_a_v_net_s_training_is_kept() -> None:
    once, twice = (
        retraining(Supervised(), VNet(checkpointing=again), 2, (112, 112, 80)) for again in (False, True)
    )
    assert twice < 0.65 * once
