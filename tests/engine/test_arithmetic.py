"""Torch's switches for TF32: what is set holds inside, and everything is as it was outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.backends import cudnn, mkldnn

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Optim
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.engine import arithmetic as module
from sfrbench.engine.arithmetic import arithmetic, in_tf32, now
from sfrbench.engine.context import StageContext
from sfrbench.engine.training import StepResult, train
from sfrbench.errors import NotReadyError
from sfrbench.stages.retrain import data

HOLDERS = {
    "all": torch.backends,
    "cudnn": cudnn,
    "convolutions": cudnn.conv,
    "recurrences": cudnn.rnn,
    "products": torch.backends.cuda.matmul,
    "processor": mkldnn.matmul,
}


def everything() -> dict[str, object]:
    """All that torch knows of it, by its words and by its old flags, which it refuses where they differ."""
    found: dict[str, object] = {name: holder.fp32_precision for name, holder in HOLDERS.items()}
    old: dict[str, Callable[[], object]] = {
        "flag of convolutions": lambda: cudnn.allow_tf32,
        "flag of products": lambda: torch.backends.cuda.matmul.allow_tf32,
        "of all products": torch.get_float32_matmul_precision,
    }
    for name, read in old.items():
        try:
            found[name] = read()
        except RuntimeError:
            found[name] = "mixed"
    return found | {"trials": cudnn.benchmark, "repeats": cudnn.deterministic, "cudnn on": cudnn.enabled}


def without_quarrels(found: dict[str, object], before: dict[str, object]) -> dict[str, object]:
    """Old flags that were at odds with the words follow these now."""
    return {name: "mixed" if before[name] == "mixed" else value for name, value in found.items()}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    words = {name: holder.fp32_precision for name, holder in HOLDERS.items()}
    name, flag, trials = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(name)
    torch.backends.fp32_precision, cudnn.fp32_precision = words["all"], words["cudnn"]
    cudnn.allow_tf32, cudnn.benchmark = flag, trials
    for kind, holder in HOLDERS.items():
        holder.fp32_precision = words[kind]


def nothing() -> None:
    pass


def products_for_all() -> None:
    torch.set_float32_matmul_precision("medium")


def flags() -> None:
    cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, cudnn.benchmark = False, True, True


def a_default() -> None:
    torch.backends.fp32_precision = "tf32"


def words_apart() -> None:
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "ieee", "tf32"


@pytest.mark.parametrize("before", [nothing, products_for_all, flags, a_default, words_apart])
@pytest.mark.parametrize("tf32", [False, True])
def test_it_holds_inside_and_leaves_no_trace(before: Callable[[], None], tf32: bool) -> None:
    before()
    there = everything()
    with arithmetic(tf32=tf32) as held:
        inside = everything()
        assert held == now()
        assert held == {"tf32_products": tf32, "tf32_convolutions": tf32, "repeatable_convolutions": True}
        word = "tf32" if tf32 else "ieee"
        assert {inside[name] for name in ("convolutions", "recurrences", "products")} == {word}
        assert inside["processor"] == "ieee"  # tf32 is a card's: a processor's bits are those of fp32
        assert (inside["flag of convolutions"], inside["flag of products"]) == (tf32, tf32)
        assert (inside["trials"], inside["repeats"], inside["cudnn on"]) == (False, True, True)
    assert without_quarrels(everything(), there) == there


def test_one_inside_another_and_an_error_leave_no_trace() -> None:
    there = everything()
    with arithmetic(tf32=True) as outer:
        with pytest.raises(ZeroDivisionError), arithmetic(tf32=False):
            _ = 1 / 0
        assert now() == outer
    assert everything() == there


def test_a_torch_that_does_not_take_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = everything()
    monkeypatch.setattr(module, "_set", lambda tf32: None)
    torch.backends.cuda.matmul.allow_tf32 = True
    with pytest.raises(
        NotReadyError, match=r"torch does not take fp32 here; it says .*'tf32_products': True"
    ):
        arithmetic(tf32=False).__enter__()
    monkeypatch.undo()
    torch.backends.cuda.matmul.allow_tf32 = False
    assert everything() | {"products": there["products"], "processor": there["processor"]} == there


def test_training_keeps_what_the_node_has_set(tmp_path: Path) -> None:
    """Torch's own ``cudnn.flags`` would turn TF32 on again."""
    layer = torch.nn.Linear(2, 1)
    seen = []

    def step(index: int, batch: None) -> StepResult:
        seen.append(now())
        return StepResult(layer(torch.ones(1, 2)).sum())

    def nothing(index: int) -> None:
        return None

    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    ctx = StageContext({}, MeanTeacher(), {}, 0, tmp_path / "out", tmp_path / "scratch")
    for tf32 in (False, True):
        with arithmetic(tf32=tf32) as held:
            train(
                ctx,
                {},
                layer.parameters(),
                Optim(),
                steps=1,
                checkpoint_every=9,
                seed=0,
                batches=nothing,
                step_fn=step,
            )
        assert seen[-1] == held
    cudnn.deterministic = False
    train(
        ctx,
        {},
        layer.parameters(),
        Optim(),
        steps=1,
        checkpoint_every=9,
        seed=0,
        batches=nothing,
        step_fn=step,
    )
    assert seen[-1]["repeatable_convolutions"]  # without a node, too
    assert not cudnn.deterministic


def test_what_computes_in_tf32() -> None:
    assert in_tf32(VNet(precision="tf32"), "cuda:1")
    assert not in_tf32(VNet(precision="tf32"), "cpu")
    assert not in_tf32(SamToy(precision="bf16"), "cuda")  # what bf16 leaves in float32 stays there
    assert not in_tf32(MeanTeacher(), "cuda")


@pytest.mark.parametrize(("sam", "segmenter"), [("tf32", "fp32"), ("fp32", "tf32"), ("tf32", "tf32")])
def test_a_frozen_sam_in_the_loop_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sam: str, segmenter: str
) -> None:
    """As on a card: there a component says alone what is TF32."""
    monkeypatch.setattr(data, "in_tf32", lambda component, device: in_tf32(component, "cuda"))
    seen = []

    def forward(patches: torch.Tensor) -> torch.Tensor:
        seen.append(now()["tf32_products"])
        return torch.zeros(1, 2, 4, 4, 4)

    monkeypatch.setattr(data, "fine_tuned_forward", lambda *_: forward)
    monkeypatch.setattr(data, "crop_input", lambda *_: torch.zeros(4, 4, 4))
    parts = {"foundation": SamToy(precision=sam), "backbone": VNet(precision=segmenter)}
    ctx = StageContext(parts, MeanTeacher(), {}, 0, tmp_path, tmp_path)
    volumes = SimpleNamespace(classes=["background", "organ"])
    with arithmetic(tf32=segmenter == "tf32") as around:
        label = data._online(ctx, volumes)
        label.label(label.read([SimpleNamespace(plain=None)], [0]))
        assert now() == around
    assert seen == [sam == "tf32"]
