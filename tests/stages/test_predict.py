"""The stages that predict: trained models are restored, kills cost one case, labels stay closed."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfrbench.components.base import Backbone, Component, Finetune
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.foundation.segmenter import SamSegmenter, trained_state
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.engine import whole_volumes
from sfrbench.engine.context import Progress, StageContext, no_progress
from sfrbench.engine.inference import backbone_forward, load_backbone, load_segmenter, slide
from sfrbench.errors import InputError, NotReadyError
from sfrbench.stages.predict import run as predict
from sfrbench.stages.pseudolabel import run as pseudolabel
from sfrbench.store.store import Artefact, Store
from tests.support.stages import settings_of


class TinyBackbone(Backbone):
    """One convolution."""

    def build(self, classes: int) -> nn.Module:
        return nn.Conv3d(1, classes, 3, padding=1)


def publish(store: Store, stage: str, files: dict[str, Any]) -> Artefact:
    folder = store.new_folder()
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, np.ndarray):
            np.save(path, value)
        elif name.endswith(".json"):
            path.write_text(json.dumps(value), encoding="utf-8")
        else:
            save_file(value, path)
    return store.publish(stage, f"{stage}key", folder, {"stage": stage})


CASES = {"t0": (12, 10, 9), "t1": (8, 16, 8), "t2": (6, 9, 17), "e0": (14, 8, 8), "e1": (5, 8, 9)}


def prepared(store: Store) -> Artefact:
    """A cohort without any label file: a stage that opens labels fails on it."""
    rng = np.random.default_rng(0)
    index = {
        "dataset": "fake",
        "classes": ["background", "a", "b"],
        "train": ["t0", "t1", "t2"],
        "test": ["e0", "e1"],
        "cases": {
            case: {"shape": shape, "spacing": [1, 1, 1], "affine": None, "range": [-2.5, 2.5], "source": {}}
            for case, shape in CASES.items()
        },
    }
    images = {
        f"images/{case}.npy": rng.normal(size=shape).astype(np.float32) for case, shape in CASES.items()
    }
    return publish(store, "prepare", {"index.json": index, **images})


def retrained(store: Store, *, best: bool) -> Artefact:
    torch.manual_seed(5)
    files: dict[str, Any] = {"model.safetensors": dict(TinyBackbone().build(3).state_dict())}
    if best:
        files["best.safetensors"] = dict(TinyBackbone().build(3).state_dict())
    return publish(store, "retrain", files)


def context(
    tmp_path: Path,
    stage: ModuleType,
    components: dict[str, Component],
    inputs: dict[str, Artefact],
    **settings: Any,
) -> StageContext:
    (tmp_path / "out").mkdir()
    defaults = {"split": {}, "patch": [8, 8, 8], "stride": [4, 4, 4], "sam_stride": [4, 4, 4]}
    return StageContext(
        components,
        settings_of(stage, **{**defaults, **settings}),
        inputs,
        0,
        tmp_path / "out",
        tmp_path / "scratch",
    )


def predict_context(tmp_path: Path, *, best: bool = False, **settings: Any) -> StageContext:
    store = Store(tmp_path / "store")
    settings.setdefault("checkpoint", "best_val" if best else "last")
    inputs = {"prepare": prepared(store), "model": retrained(store, best=best)}
    return context(
        tmp_path,
        predict,
        {"backbone": TinyBackbone()},
        inputs,
        **{"model_stage": "retrain", "subset": "test", **settings},
    )


@pytest.mark.parametrize("best", [False, True])
def test_predict_writes_the_argmax_of_the_mean(tmp_path: Path, best: bool) -> None:
    ctx = predict_context(tmp_path, best=best)
    predict.run(ctx)
    index = json.loads((ctx.out / "index.json").read_text())
    assert index["cases"] == ["e0", "e1"]
    assert all(index["seconds_per_case"][case] >= 0 for case in index["cases"])
    torch.manual_seed(5)
    network = TinyBackbone().build(3)
    if best:
        network = TinyBackbone().build(3)
    forward = backbone_forward(network)
    for case in index["cases"]:
        image = torch.from_numpy(np.load(ctx.inputs["prepare"].path(f"images/{case}.npy")))
        mean = slide(image, (8, 8, 8), (4, 4, 4), forward, 3)
        label = np.load(ctx.out / "labels" / f"{case}.npy")
        assert label.dtype == np.uint8
        assert np.array_equal(label, mean.argmax(0).numpy())
        assert set(np.unique(label)) == {0, 1, 2}


def test_predict_of_validation_cases(tmp_path: Path) -> None:
    ctx = predict_context(tmp_path, subset="val", split={"val": 1, "max_test": 1})
    predict.run(ctx)
    assert [path.name for path in (ctx.out / "labels").iterdir()] == ["t2.npy"]


class Killed(Exception):
    """What the test raises in the middle of a stage."""


def killed_at(case: int) -> Progress:
    def progress(done: int, total: int, **values: float) -> None:
        if done == case:
            raise Killed

    return progress


def test_a_killed_prediction_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = predict_context(tmp_path)
    object.__setattr__(ctx, "progress", killed_at(1))
    with pytest.raises(Killed):
        predict.run(ctx)
    first = (ctx.scratch / "labels" / "e0.npy").read_bytes()
    (ctx.scratch / "labels" / "e1.npy").write_bytes(b"half a file")  # begun, and not in the ledger
    calls: list[torch.Size] = []
    original = slide

    def counted(volume: torch.Tensor, *args: Any) -> torch.Tensor:
        calls.append(volume.shape)
        return original(volume, *args)

    monkeypatch.setattr(whole_volumes, "slide", counted)
    object.__setattr__(ctx, "progress", no_progress)
    predict.run(ctx)
    assert calls == [CASES["e1"]]
    assert (ctx.out / "labels" / "e0.npy").read_bytes() == first
    assert np.load(ctx.out / "labels" / "e1.npy").shape == CASES["e1"]


def test_best_checkpoint_needs_validation_cases(tmp_path: Path) -> None:
    artefact = retrained(Store(tmp_path), best=False)
    with pytest.raises(InputError, match=r"no validation cases to choose by\n.*dataset\.val"):
        load_backbone(TinyBackbone(), artefact, "best_val", classes=3, device="cpu")


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    artefact = retrained(Store(tmp_path), best=False)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    network = load_backbone(TinyBackbone(), artefact, "last", classes=3, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training


class DecoderOnly(Finetune):
    """Trains the mask decoder; nothing to merge."""

    def attach(self, model: SamSegmenter) -> None:
        model.requires_grad_(False)
        model.mask_decoder.requires_grad_(True)

    def merge(self, model: SamSegmenter) -> None:
        pass


def finetuned(store: Store, finetune: Finetune) -> tuple[SamSegmenter, Artefact]:
    """A toy SAM whose trained parameters are far from their initial values, and its artefact."""
    torch.manual_seed(11)
    model = SamToy().build(3, None)
    finetune.attach(model)
    with torch.no_grad():
        for value in (value for value in model.parameters() if value.requires_grad):
            value.add_(0.2 * torch.randn_like(value))
    return model, publish(store, "finetune", {"adapter.safetensors": trained_state(model)})


def test_load_segmenter_restores_every_trained_parameter(tmp_path: Path) -> None:
    model, artefact = finetuned(Store(tmp_path), Lora())
    torch.manual_seed(12)
    before = torch.get_rng_state()
    loaded = load_segmenter(SamToy(), Lora(), artefact, classes=3, weights=None, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training
    assert not any(value.requires_grad for value in loaded.parameters())
    canvases = torch.rand(2, 1, 64, 64)
    assert "image_encoder.blocks.0.attn.qkv.weight" in loaded.state_dict()  # merged
    difference = (loaded.segment(canvases) - model.segment(canvases)).abs().max()
    assert difference < 1e-4 * model.segment(canvases).abs().max()
    with pytest.raises(InputError, match="do not fit the model"):
        load_segmenter(SamToy(), Lora(), artefact, classes=4, weights=None, device="cpu")


class SamWithWeights(SamToy):
    """A foundation that needs a file."""

    weights: ClassVar[str | None] = "sam_of_the_test"


def test_missing_weights_are_named(tmp_path: Path) -> None:
    _, artefact = finetuned(Store(tmp_path), DecoderOnly())
    with pytest.raises(NotReadyError, match=r"'sam_of_the_test' are needed.*\n.*weights get sam_of_the_test"):
        load_segmenter(SamWithWeights(), DecoderOnly(), artefact, classes=3, weights=None, device="cpu")


def expected_probabilities(model: SamSegmenter, artefact: Artefact, case: str) -> torch.Tensor:
    image = torch.from_numpy(np.load(artefact.path(f"images/{case}.npy")))
    stitch = GridStitch()

    def forward(patches: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            maps = model.segment(stitch.to_canvases(patches, 64, 0.0)).softmax(1)
        return stitch.from_canvases(maps, (8, 8, 8))[None]

    scaled = ((image + 2.5) / 5).clamp(0, 1)  # the range of every case is [-2.5, 2.5]
    return slide(scaled, (8, 8, 8), (4, 4, 4), forward, 3)


SAM = {"stitch": GridStitch(), "foundation": SamToy(), "finetune": DecoderOnly()}


def test_pseudolabel_stores_foreground_probabilities(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    model, artefact = finetuned(store, DecoderOnly())
    inputs = {"prepare": prepared(store), "finetune": artefact}
    ctx = context(
        tmp_path,
        pseudolabel,
        dict(SAM),
        inputs,
        split={"labeled": 1, "choice": 1, "val": 0, "unlabeled": None},
        keep="probabilities",
    )
    object.__setattr__(ctx, "progress", killed_at(1))
    with pytest.raises(Killed):
        pseudolabel.run(ctx)
    seen: list[tuple[int, int]] = []
    object.__setattr__(ctx, "progress", lambda done, total, **_: seen.append((done, total)))
    pseudolabel.run(ctx)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert json.loads((ctx.out / "index.json").read_text()) == {"cases": ["t0", "t2"]}
    for case in ("t0", "t2"):
        stored = np.load(ctx.out / "probs" / f"{case}.npy")
        assert stored.dtype == np.float16
        expected = expected_probabilities(model, inputs["prepare"], case)[1:].numpy()
        assert stored.shape == expected.shape == (2, *CASES[case])
        assert np.allclose(stored, expected, atol=1e-3)
        assert stored.std() > 0.01


def test_predict_by_the_fine_tuned_sam(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    model, artefact = finetuned(store, DecoderOnly())
    inputs = {"prepare": prepared(store), "model": artefact}
    ctx = context(
        tmp_path, predict, dict(SAM), inputs, split={"max_test": 1}, subset="test", model_stage="finetune"
    )
    predict.run(ctx)
    label = np.load(ctx.out / "labels" / "e0.npy")
    expected = expected_probabilities(model, inputs["prepare"], "e0").argmax(0)
    assert np.array_equal(label, expected.numpy())
    assert len(np.unique(label)) > 1
