"""Pseudo-labels as they are stored: labels for methods that use them hard, probabilities for the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext
from sfrbench.engine.hard_labels import hardened
from sfrbench.engine.predictions import label_map
from sfrbench.engine.volumes import harden
from sfrbench.errors import DataError
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.pseudolabel import run as pseudolabel
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.retrain.data import as_target
from sfrbench.store.store import Artefact
from tests.support.prepared import FAST, PATCH, files, make_prepared, net, sam
from tests.support.specs import GOOD, plan_of, stages
from tests.support.stages import settings_of, stage_of


def run(folder: Path, stage: Any, components: Any, inputs: Any, **settings: Any) -> StageContext:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    told = {"split": {"labeled": 1}, "patch": PATCH, "rot_flip": True, "pseudo": "offline", **settings}
    ctx = StageContext(components, settings_of(stage, **told), inputs, 1, folder / "out", folder / "scratch")
    stage.run(ctx)
    return ctx


def stored(ctx: StageContext, stage: Any) -> Artefact:
    return artefact_of(stage_of(stage), ctx.out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    """Prepared volumes, a fine-tuned SAM, and its pseudo-labels in both forms."""
    folder = tmp_path_factory.mktemp("made")
    prepared = make_prepared(folder / "prepared")
    tuned = stored(
        run(folder / "tuned", finetune, sam(steps=80, optim={**FAST, "lr": 1e-2}), {"prepare": prepared}),
        finetune,
    )
    sources = {"prepare": prepared, "finetune": tuned}
    both = {
        keep: stored(
            run(folder / keep, pseudolabel, sam(), sources, sam_stride=PATCH, keep=keep), pseudolabel
        )
        for keep in ("labels", "probabilities")
    }
    return {**sources, **both}


def most_probable(foreground: NDArray[np.float16]) -> NDArray[np.intp]:
    """In float64, where every sum here is exact; (B, K - 1, ...) to (B, ...)."""
    wide = foreground.astype(np.float64)
    background = np.maximum(1 - wide.sum(1, keepdims=True), 0)
    return np.concatenate([background, wide], 1).argmax(1)


def by_all_classes(foreground: torch.Tensor) -> torch.Tensor:
    """As it was made of the crop of each step: all K maps in float32, and their argmax."""
    wide = foreground.float()
    background = (1 - wide.sum(1, keepdim=True)).clamp(min=0)
    return torch.cat([background, wide], 1).argmax(1)


@pytest.mark.parametrize("classes", [2, 3, 14, 40])
def test_hard_labels_are_exact_and_ties_go_to_the_lowest(classes: int) -> None:
    """Rounded softmax of many scales; sums above 1; and few different values, so that most voxels tie."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(1, classes, 20000)) * rng.uniform(0, 12, 20000)
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    coarse = rng.choice([0, 2**-24, 2**-11, 0.125, 0.25, 0.5, 1], size=(1, classes - 1, 20000))
    above = softmax[:, 1:] * rng.choice([1, 1.0005, 1.01])
    for values in (softmax[:, 1:], above, coarse, coarse / coarse.sum(1, keepdims=True).clip(1)):
        half = values.astype(np.float16)
        wanted = most_probable(half)
        given = torch.from_numpy(half)
        assert hardened(given).dtype == torch.uint8
        for found in (
            hardened(given),
            hardened(given.float()),
            by_all_classes(given),
            as_target(given, False),
        ):
            np.testing.assert_array_equal(found.numpy(), wanted)
        np.testing.assert_array_equal(harden(half[0][..., None, None], classes).ravel(), wanted[0])
        assert 1 < len(np.unique(wanted)) <= classes


def test_background_where_there_are_no_numbers() -> None:
    given = torch.tensor([[[0.2, torch.nan, 0.9], [torch.nan, 0.9, 0.0]]])
    assert hardened(given).tolist() == by_all_classes(given).tolist() == [[0, 0, 1]]


def test_stored_labels_are_the_most_probable_classes(made: dict[str, Artefact]) -> None:
    labels, probs = made["labels"], made["probabilities"]
    cases = labels.read_json("index.json")["cases"]
    assert cases == probs.read_json("index.json")["cases"] == ["case1", "case2", "case3", "case4"]
    assert set(labels.record["files"]) == {"index.json", *(f"labels/{case}.npy" for case in cases)}
    assert set(probs.record["files"]) == {"index.json", *(f"probs/{case}.npy" for case in cases)}
    for case in cases:
        found, known = np.load(labels.path(f"labels/{case}.npy")), np.load(probs.path(f"probs/{case}.npy"))
        assert (found.dtype, known.dtype, known.shape) == (np.uint8, np.float16, (1, *found.shape))
        np.testing.assert_array_equal(found, most_probable(known[None])[0])
        assert 0 < found.mean() < 1


def test_a_run_that_was_killed_when_probabilities_were_kept_ends_as_it_began(
    tmp_path: Path, made: dict[str, Artefact]
) -> None:
    (tmp_path / "scratch" / "probs").mkdir(parents=True)
    content = made["probabilities"].path("probs/case1.npy").read_bytes()
    (tmp_path / "scratch" / "probs" / "case1.npy").write_bytes(content)
    (tmp_path / "scratch" / "finished.json").write_text('{"case1": 1.0}')
    sources = {"prepare": made["prepare"], "finetune": made["finetune"]}
    ended = stored(run(tmp_path, pseudolabel, sam(), sources, sam_stride=PATCH), pseudolabel)
    assert ended.record["files"] == made["probabilities"].record["files"]


def test_a_training_on_labels_is_that_on_probabilities_to_the_bit(
    tmp_path: Path, made: dict[str, Artefact]
) -> None:
    """So trainings on labels of before, when probabilities were kept for all, stay what they are."""
    found = [
        files(run(tmp_path / name, retrain, net(), {"prepare": made["prepare"], "pseudolabel": made[name]}))
        for name in ("labels", "probabilities")
    ]
    assert found[0] == found[1]
    nothing = run(tmp_path / "none", retrain, net(), {"prepare": made["prepare"]}, pseudo="none")
    assert files(nothing)["model.safetensors"] != found[0]["model.safetensors"]


def test_soft_labels_are_those_of_the_probabilities(tmp_path: Path, made: dict[str, Artefact]) -> None:
    sources = {"prepare": made["prepare"], "pseudolabel": made["probabilities"]}
    soft = run(tmp_path / "soft", retrain, net(pseudo_labels="soft"), sources)
    hard = run(tmp_path / "hard", retrain, net(pseudo_labels="hard"), sources)
    assert files(soft)["model.safetensors"] != files(hard)["model.safetensors"]


def test_the_report_shows_both_forms_alike(made: dict[str, Artefact]) -> None:
    shown = [np.asarray(label_map(made[keep], "case2", 2)) for keep in ("labels", "probabilities")]
    np.testing.assert_array_equal(*shown)
    assert shown[0].any()


def test_labels_of_a_model_that_gives_no_numbers_are_a_fault(
    tmp_path: Path, made: dict[str, Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pseudolabel, "by_sam", lambda *_: lambda volume, _: torch.full((2, *volume.shape), torch.nan)
    )
    sources = {"prepare": made["prepare"], "finetune": made["finetune"]}
    with pytest.raises(DataError, match=r"case case1 .*not finite"):
        run(tmp_path, pseudolabel, sam(), sources, sam_stride=PATCH)


BOTH = GOOD.replace(
    "seeds: [0, 1]",
    "  - {name: soft, pseudo: offline, ssl.pseudo_labels: soft}\n"
    "  - {name: soft_too, pseudo: offline, ssl.pseudo_labels: soft, ssl.w_pl: 0.5}\nseeds: [0]",
)


def test_soft_arms_have_a_node_of_their_own(tmp_path: Path) -> None:
    """And those of hard arms have the key of before, when there was one for both."""
    plan = plan_of(tmp_path, BOTH)
    before = stages(plan_of(tmp_path, GOOD.replace("seeds: [0, 1]", "seeds: [0]")))
    assert stages(plan)["pseudolabel"] == before["pseudolabel"] + 1
    assert stages(plan)["finetune"] == before["finetune"]
    links = {cell.arm: cell.nodes.get("pseudolabel") for cell in plan.cells}
    assert links["soft"] == links["soft_too"] != links["sfr"]
    told = {arm: plan.nodes[link].settings.told() for arm, link in links.items() if link is not None}
    assert told["soft"] == {**told["sfr"], "keep": "probabilities"}
    assert "keep" not in json.dumps(told["sfr"])
