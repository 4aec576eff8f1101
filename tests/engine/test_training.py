"""Both training stages end to end on toy volumes: resume to the bit, leaks, pairing, what they write."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Component, Optim
from sfrbench.components.ssl.mean_teacher import MeanTeacher
from sfrbench.components.ssl.supervised import Supervised
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext, no_progress
from sfrbench.engine.training import History, StepResult, TrainingError
from sfrbench.errors import CheckpointError, DataError, InputError
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.retrain.recipe import VALIDATION
from sfrbench.store.store import Artefact
from tests.support.prepared import FAST, PATCH, files, make_prepared, net, sam
from tests.support.stages import settings_of

Run = Callable[..., StageContext]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return make_prepared(tmp_path_factory.mktemp("prepared") / "a")


@pytest.fixture(scope="module")
def pseudolabelled(tmp_path_factory: pytest.TempPathFactory, prepared: Artefact) -> Artefact:
    folder = tmp_path_factory.mktemp("pseudo") / "a"
    (folder / "probs").mkdir(parents=True)
    for index in range(1, 5):
        label = np.load(prepared.folder / "labels" / f"case{index}.npy").astype(np.float16)
        np.save(folder / "probs" / f"case{index}.npy", 0.8 * label[None])
    return artefact_of("pseudolabel", folder)


@pytest.fixture
def run(tmp_path: Path, prepared: Artefact) -> Run:
    """Runs a stage in a folder of its own; the same ``name`` means the same scratch folder."""

    def run(
        stage: Any,
        components: Mapping[str, Component],
        name: str = "one",
        inputs: Mapping[str, Artefact] | None = None,
        kill_at: int | None = None,
        seed: int = 1,
        **settings: Any,
    ) -> StageContext:
        out, scratch = tmp_path / name / "out", tmp_path / name / "scratch"
        out.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(exist_ok=True)

        def progress(done: int, total: int, **values: float) -> None:
            if done == kill_at:
                raise KeyboardInterrupt

        ctx = StageContext(
            components=components,
            settings=settings_of(
                stage,
                **{"split": {"labeled": 1}, "patch": PATCH, "rot_flip": True, "pseudo": "none", **settings},
            ),
            inputs={"prepare": prepared, **(inputs or {})},
            seed=seed,
            out=out,
            scratch=scratch,
            progress=no_progress if kill_at is None else progress,
        )
        stage.run(ctx)
        return ctx

    return run


def history(ctx: StageContext) -> list[dict[str, str]]:
    return list(csv.DictReader((ctx.out / "history.csv").open()))


def online(tuned: StageContext) -> dict[str, Artefact]:
    return {"finetune": artefact_of("finetune", tuned.out)}


def test_finetune_resumes_to_the_bit(run: Run) -> None:
    whole = run(finetune, sam(), "whole")
    with pytest.raises(KeyboardInterrupt):
        run(finetune, sam(), "killed", kill_at=8)
    resumed = run(finetune, sam(), "killed")
    assert (whole.notes["resumed_at"], resumed.notes["resumed_at"]) == (0, 4)
    assert files(resumed) == files(whole)
    assert set(files(whole)) == {"adapter.safetensors", "model.json", "history.csv"}


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_retrain_resumes_to_the_bit(run: Run, pseudolabelled: Artefact, optimiser: str) -> None:
    components = net(optim={**FAST, "optimiser": optimiser}, intensity_augment=True)
    settings: dict[str, Any] = {
        "pseudo": "offline",
        "inputs": {"pseudolabel": pseudolabelled},
        "split": {"labeled": 1, "val": 1},
        "stride": [16, 16, 32],
    }
    whole = run(retrain, components, "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(retrain, components, "killed", kill_at=8, **settings)
    resumed = run(retrain, components, "killed", **settings)
    assert resumed.notes["resumed_at"] == 4
    assert files(resumed) == files(whole)
    names = {"model.safetensors", "model.json", "history.csv", "best.safetensors", "best.json"}
    assert set(files(whole)) == names


def test_time_between_checkpoints_changes_nothing(run: Run) -> None:
    often, never = run(retrain, net(checkpoint_every=1), "a"), run(retrain, net(checkpoint_every=99), "b")
    assert files(often) == files(never)
    assert not (never.scratch / "checkpoint.pt").exists()


def test_a_checkpoint_holds_no_frozen_encoder(run: Run) -> None:
    ctx = run(finetune, sam())
    saved = torch.load(ctx.scratch / "checkpoint.pt", weights_only=True)["states"]["model"]
    adapter = load_file(ctx.out / "adapter.safetensors")
    assert set(saved) == set(adapter)
    assert all(name.startswith("mask_decoder.") for name in saved)
    counts = json.loads((ctx.out / "model.json").read_text())
    assert counts["classes"] == ["background", "ball"]
    assert counts["trainable"] == sum(value.numel() for value in adapter.values()) < counts["total"]


def test_an_unreadable_checkpoint_is_named(run: Run) -> None:
    ctx = run(retrain, net(), "torn")
    (ctx.scratch / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="checkpoint cannot be read"):
        run(retrain, net(), "torn")


def test_labels_of_unlabelled_and_test_cases_do_not_matter(
    run: Run, tmp_path: Path, pseudolabelled: Artefact
) -> None:
    poisoned = make_prepared(tmp_path / "poisoned", poison=True)
    tuned = [run(finetune, sam(), "f1"), run(finetune, sam(), "f2", inputs={"prepare": poisoned})]
    assert files(tuned[0]) == files(tuned[1])
    for mode, source in (("offline", {"pseudolabel": pseudolabelled}), ("online", online(tuned[0]))):
        components = {**sam(), **net(steps=3)}
        clean = run(retrain, components, f"{mode}1", pseudo=mode, inputs=source)
        spoiled = run(retrain, components, f"{mode}2", pseudo=mode, inputs={**source, "prepare": poisoned})
        assert files(clean) == files(spoiled)


def test_seed_decides_everything(run: Run) -> None:
    first, again, other = (run(retrain, net(steps=3), str(i), seed=s) for i, s in enumerate((1, 1, 2)))
    assert files(first) == files(again)
    assert files(first)["model.safetensors"] != files(other)["model.safetensors"]


def test_methods_share_initialisation_and_labelled_patches(run: Run) -> None:
    """The first step's supervised loss is the same to the bit: without dropout and batch statistics it can
    differ only by weights and labelled patches."""
    backbone = VNet(filters=2, norm="group", dropout=False)
    losses = []
    for method in (Supervised, MeanTeacher):
        ctx = run(retrain, {**net(method, steps=1), "backbone": backbone}, method.__name__)
        losses.append(float(history(ctx)[0]["supervised"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("method", [Supervised, MeanTeacher])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_pseudo_labels_enter_every_method(
    run: Run, pseudolabelled: Artefact, method: type[Supervised | MeanTeacher], labels: str
) -> None:
    source = {"pseudolabel": pseudolabelled}
    components = net(method, pseudo_labels=labels, w_pl=0.7, steps=2)
    for row in history(run(retrain, components, pseudo="offline", inputs=source)):
        terms = float(row["supervised"]) + 0.7 * float(row["pseudo"]) + float(row["method"])
        assert float(row["loss"]) == pytest.approx(terms, rel=1e-5)


def test_the_sam_of_online_labels_stays_frozen(run: Run) -> None:
    tuned = run(finetune, sam(steps=3), "f")
    components = {**sam(), **net(Supervised, steps=2)}
    before = (tuned.out / "adapter.safetensors").read_bytes()
    rows = history(run(retrain, components, pseudo="online", inputs=online(tuned)))
    assert all(float(row["pseudo"]) > 0 for row in rows)
    assert (tuned.out / "adapter.safetensors").read_bytes() == before


@pytest.mark.parametrize("method", [Supervised, MeanTeacher])
def test_loss_falls_and_dice_rises(run: Run, method: type[Supervised | MeanTeacher]) -> None:
    components = net(method, steps=60, val_every=10, optim={**FAST, "lr": 0.01})
    components["backbone"] = VNet(filters=4, norm="group", dropout=False)
    ctx = run(retrain, components, split={"labeled": 1, "val": 1}, stride=[8, 8, 8])
    losses = [float(row["supervised"]) for row in history(ctx)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    best = json.loads((ctx.out / "best.json").read_text())
    assert best["dice"] > 0.7
    curve = {int(row["step"]) + 1: float(row[VALIDATION]) for row in history(ctx) if row[VALIDATION]}
    assert list(curve) == [10, 20, 30, 40, 50, 60]
    assert max(curve.values()) == curve[best["step"]] == best["dice"]


def test_finetune_loss_falls(run: Run) -> None:
    ctx = run(finetune, sam(steps=80, optim={**FAST, "lr": 1e-2}))
    losses = [float(row["loss"]) for row in history(ctx)]
    assert len(losses) == 80
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


def test_history_and_notes(run: Run) -> None:
    ctx = run(retrain, net(steps=3, optim=Optim(schedule="poly").model_dump()))
    rows = history(ctx)
    assert list(rows[0])[:3] == ["step", "loss", "lr"]
    assert {"supervised", "method", "consistency", "consistency_weight"} <= set(rows[0])
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert float(rows[2]["lr"]) == pytest.approx(0.01 * (1 / 3) ** 0.9)
    assert ctx.notes["seconds_per_step"] > 0
    described = json.loads((ctx.out / "model.json").read_text())
    assert described["parameters"] == sum(p.numel() for p in VNet(filters=2).build(2).parameters())
    assert not (ctx.out / "best.json").exists()


def test_a_loss_that_is_not_finite_names_step_and_remedy(run: Run) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step \d[\s\S]*optim\.lr"):
        run(
            retrain,
            net(
                Supervised,
                optim={"optimiser": "sgd", "lr": 1, "momentum": 0.99, "weight_decay": 1},
                steps=400,
            )
            | {"backbone": VNet(filters=2, norm="none")},
        )


def test_the_first_bad_step_is_named() -> None:
    log = History()
    for step, value in enumerate((1.0, float("nan"), 2.0)):
        log.add(step, 0.1, StepResult(torch.tensor(value)))
    with pytest.raises(TrainingError, match="at step 1 "):
        log.flush()


def test_a_patch_that_does_not_fit_the_backbone_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="no multiple of 16"):
        run(retrain, net(), patch=[16, 16, 24])


def test_a_method_without_unlabelled_cases_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="unlabelled"):
        run(retrain, net(), split={"labeled": 5})
    run(retrain, net(Supervised, steps=1), split={"labeled": 5})


def test_unknown_source_of_pseudo_labels_is_refused(run: Run) -> None:
    with pytest.raises(ValidationError, match="'none', 'offline' or 'online'"):
        run(retrain, net(), pseudo="sometimes")


def test_labels_without_a_class_train_no_segmenter(tmp_path: Path, run: Run) -> None:
    make_prepared(tmp_path / "a")
    np.save(tmp_path / "a" / "labels" / "case0.npy", np.zeros((20, 18, 30), np.uint8))
    empty = {"prepare": artefact_of("prepare", tmp_path / "a")}
    with pytest.raises(
        DataError, match="none of the 1 labelled training cases has a foreground voxel: case0"
    ):
        run(retrain, net(), inputs=empty)
    run(retrain, net(steps=1), name="two", inputs=empty, split={"labeled": 2})
