"""A GPU whose memory does not suffice: one message with the fields that help, and what each leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Backbone, Component, Ssl
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.engine.context import StageContext
from sfrbench.errors import told
from sfrbench.machine import training_memory
from sfrbench.machine.memory_advice import advice, counter
from sfrbench.machine.training_memory import retraining
from sfrbench.run.executors import memory
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.settings import SplitSettings
from tests.support.prepared import make_prepared

GB = 2**30
SIDES = (96, 96, 96)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


def settings() -> RetrainSettings:
    return RetrainSettings(split=SplitSettings(), patch=SIDES, rot_flip=True, pseudo="none")


def parts(backbone: Backbone, ssl: Ssl) -> dict[str, Component]:
    return {"backbone": backbone, "ssl": ssl}


def lines(error: Exception) -> list[str]:
    return [line.strip() for line in told(error).splitlines()]


def counted(those: Any) -> int:
    """Numbers that tell the ways apart."""
    backbone, ssl = those["backbone"], those["ssl"]
    less = 4 * backbone.checkpointing + 3 * (backbone.precision == "bf16") + 5 * (ssl.batch_labeled == 1)
    return int(10 - less) * GB


def test_each_field_that_helps_is_named_with_what_it_leaves() -> None:
    said = lines(advice("retrain", parts(VNet(), MeanTeacher()), 11 * GB, counted))
    what = "the GPU's memory of 11.0 GB does not suffice for retrain, which takes about 10.0 GB and what CUDA"
    assert said[0].startswith(what)
    assert said[1:] == [
        "--set backbone.checkpointing=true: 6.0 GB, 4.0 less; the same numbers and keys, more time",
        "--set backbone.precision=bf16: 7.0 GB, 3.0 less; other numbers, another key",
        "--set ssl.batch_labeled=1 --set ssl.batch_unlabeled=1: 5.0 GB, 5.0 less; other numbers, another key",
        "or a card that nothing else uses (see nvidia-smi), or a larger one",
    ]


def test_the_numbers_are_those_of_the_settings() -> None:
    count, given = counter("retrain", settings(), 2), parts(VNet(filters=8), MeanTeacher())
    assert count is not None
    assert count(given) == retraining(MeanTeacher(), VNet(filters=8), 2, SIDES)


def test_what_is_chosen_already_is_not_named() -> None:
    given = parts(VNet(checkpointing=True, precision="bf16"), MeanTeacher(batch_labeled=1, batch_unlabeled=1))
    assert len(lines(advice("retrain", given, 2 * GB, lambda _: GB))) == 2
    given = {"stitch": GridStitch(), "foundation": SamVit(), "finetune": Lora(batch=1)}
    said = told(advice("finetune", given, 2 * GB, lambda _: GB))
    assert "--set foundation.checkpointing=true" in said
    assert "batch" not in said


class Odd(UNet3d):
    """A network that nobody can count."""

    def build(self, classes: int, inputs: int = 1) -> Any:
        raise ValueError("not here")


def test_without_numbers_the_fields_are_named_still() -> None:
    count = counter("retrain", settings(), 2)
    said = lines(advice("retrain", parts(Odd(), MeanTeacher()), 11 * GB, count))
    assert said[0] == "the GPU's memory of 11.0 GB does not suffice for retrain"
    assert said[1] == "--set backbone.checkpointing=true: the same numbers and keys, more time"


def test_a_stage_that_trains_nothing_asks_for_another_card() -> None:
    assert counter("predict", settings(), 2) is None
    assert len(lines(advice("predict", parts(VNet(), MeanTeacher()), 11 * GB, None))) == 2


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 3 * GB))
    prepared = make_prepared(tmp_path / "prepared")
    given = parts(VNet(filters=2), MeanTeacher())
    return StageContext(given, settings(), {"prepare": prepared}, 0, tmp_path, tmp_path, device="cuda:0")


def test_a_node_without_room_says_it(ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_memory, "retraining", lambda *_, pseudo: 4 * GB)
    error = memory.explained(FULL, "retrain", ctx)
    assert error is not None
    assert "memory of 3.0 GB" in str(error)
    assert "--set backbone.checkpointing=true: " in str(error)


def test_other_errors_and_other_devices_are_left_alone(ctx: Any) -> None:
    assert memory.explained(RuntimeError("shapes differ"), "retrain", ctx) is None
    object.__setattr__(ctx, "device", "cpu")
    assert memory.explained(RuntimeError("not enough memory: out of memory"), "retrain", ctx) is None
