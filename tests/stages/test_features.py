"""The features stage: equal to the network's own forward pass, bounded, repeatable, and behind the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sfrbench.components.backbone.unet3d import UNet3d
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.backbone.vnet_magic import VNetMagic
from sfrbench.components.base import Backbone
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext
from sfrbench.engine.inference import backbone_forward, windows
from sfrbench.engine.volumes import LabelView, Volumes
from sfrbench.errors import InputError
from sfrbench.stages.features import run as features
from sfrbench.store.store import Artefact
from tests.support.prepared import make_prepared
from tests.support.stages import settings_of

NET = VNet(filters=4, norm="instance", dropout=True)
PATCH, STRIDE = (16, 16, 32), (8, 8, 16)
SETTINGS: dict[str, Any] = {
    "split": {"labeled": 2, "choice": 0, "val": 0, "unlabeled": None},
    "patch": list(PATCH),
    "stride": list(STRIDE),
    "checkpoint": "last",
    "cases": 2,
    "voxels": 30,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """Only what the stage may open: neither the test case's label nor that of a case that is not drawn."""
    folder = tmp_path_factory.mktemp("prepared") / "a"
    make_prepared(folder)
    for path in (folder / "labels").iterdir():
        if path.stem not in DRAWN:
            path.unlink()
    return artefact_of("prepare", folder)


#: Labelled are the first two of five training cases; of the other three the fixed seed draws two.
DRAWN = ["case0", "case1", *features.some(["case2", "case3", "case4"], 2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    folder = tmp_path_factory.mktemp("retrain")
    torch.manual_seed(2)
    state = {name: value.contiguous() for name, value in NET.build(2).state_dict().items()}
    save_file(state, folder / "model.safetensors")
    return artefact_of("retrain", folder)


def run(folder: Path, prepared: Artefact, trained: Artefact, **settings: Any) -> Path:
    (folder / "out").mkdir(parents=True)
    (folder / "scratch").mkdir()
    inputs = {"prepare": prepared, "retrain": trained}
    features.run(
        StageContext(
            {"backbone": NET},
            settings_of(features, **{**SETTINGS, **settings}),
            inputs,
            0,
            folder / "out",
            folder / "scratch",
        )
    )
    return folder / "out"


def by_hand(network: torch.nn.Module, image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Predicted class and mean feature of each voxel, from forward passes with a hook at the head."""
    seen: list[torch.Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))  # type: ignore[union-attr]
    padded = torch.nn.functional.pad(image, (1, 1))  # 30 slices, 32 in a patch
    total, hits = torch.zeros((3, *padded.shape)), torch.zeros(padded.shape)
    for x, y, z in windows((20, 18, 32), PATCH, STRIDE):
        at = (slice(x, x + 16), slice(y, y + 16), slice(z, z + 32))
        with torch.no_grad():
            probabilities = network(padded[at][None, None]).softmax(1)[0]
        total[(slice(None), *at)] += torch.cat([probabilities, seen[-1].mean(1)])
        hits[at] += 1
    hook.remove()
    total = (total / hits)[..., 1:-1]
    return total[:2].argmax(0).numpy(), total[2].numpy()


def test_samples_are_those_of_the_forward_pass(tmp_path: Path, prepared: Artefact, trained: Artefact) -> None:
    out = run(tmp_path, prepared, trained)
    index = json.loads((out / "index.json").read_text())
    assert index == {"classes": ["background", "ball"], "labelled": DRAWN[:2], "unlabelled": DRAWN[2:]}
    torch.manual_seed(2)
    network = NET.build(2).eval()
    volumes = Volumes(prepared)
    for case in DRAWN:
        predicted, value = by_hand(network, torch.from_numpy(np.array(volumes.image(case))))
        truth = np.load(prepared.folder / "labels" / f"{case}.npy")
        samples, counts = np.load(out / "samples" / f"{case}.npy"), np.load(out / "counts" / f"{case}.npy")
        assert samples.dtype == np.float32
        assert samples.shape == (2, 30)
        for label in (0, 1):
            right = value[(truth == label) & (predicted == label)]
            assert right.size  # or this says nothing
            assert counts[label].tolist() == [(truth == label).sum(), right.size]
            found = samples[label][~np.isnan(samples[label])]
            assert found.size == min(right.size, 30)
            nearest = np.abs(found[:, None] - right[None]).min(1)
            np.testing.assert_allclose(nearest, 0, atol=1e-5 * np.abs(right).max())


def test_a_voxel_is_drawn_once_and_fewer_leave_a_gap() -> None:
    value, truth = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros((2, 3, 4), np.uint8)
    truth[0, 0], predicted = 1, np.zeros((2, 3, 4), np.uint8)
    predicted[0, 0, :3] = 1
    found = features.sample(value, predicted, truth, 3, 25, "a")
    assert found["counts"].tolist() == [[20, 20], [4, 3], [0, 0]]
    assert sorted(found["samples"][0, :20]) == list(range(4, 24))
    assert list(found["samples"][0, :20]) != sorted(found["samples"][0, :20])  # in random order
    assert sorted(found["samples"][1, :3]) == [0, 1, 2]
    assert np.isnan(found["samples"][1, 3:]).all()
    assert np.isnan(found["samples"][2]).all()


def test_equal_runs_are_equal_and_arms_look_at_the_same_cases(
    tmp_path: Path, prepared: Artefact, trained: Artefact
) -> None:
    one, two = (run(tmp_path / name, prepared, trained) for name in "ab")
    for path in sorted(one.rglob("*.*")):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes(), path
    names = [f"c{i}" for i in range(50)]
    chosen = features.some(names, 7)
    assert chosen == features.some(names, 7)
    assert chosen == sorted(chosen, key=names.index)
    assert len(set(chosen)) == 7
    assert features.some(names, 60) == names


def test_labels_are_opened_for_evaluation_and_for_these_cases_only(
    tmp_path: Path, prepared: Artefact, trained: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], str]] = []
    original = Volumes.labels

    def labels(self: Volumes, ids: Any, purpose: str) -> LabelView:
        asked.append((list(ids), purpose))
        return original(self, asked[-1][0], purpose)

    monkeypatch.setattr(Volumes, "labels", labels)
    out = run(tmp_path, prepared, trained)
    assert asked == [(DRAWN, "evaluate: features")]
    ledger = json.loads((out / "ledger.json").read_text())
    assert ledger == {"labels_opened": sorted(DRAWN), "purpose": "evaluate: features"}


BACKBONES = [
    VNet(filters=4, norm="batch"),
    VNet(filters=4, norm="instance", precision="bf16"),
    UNet3d(filters=4),
    UNet3d(filters=4, deep_supervision=True),
    VNetMagic(filters=4),
]


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda b: f"{type(b).__name__}-{b.precision}")
def test_every_backbone_says_what_its_features_are(backbone: Backbone) -> None:
    torch.manual_seed(0)
    network = backbone.build(3).eval()
    patches = torch.randn(2, 16, 16, 32)
    seen: list[torch.Tensor] = []
    network.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))  # type: ignore[union-attr]
    expected = backbone_forward(network)(patches)
    both = features.features_forward(network)(patches)
    assert torch.equal(both[:, :3], expected)
    assert torch.equal(both[:, 3], seen[0].float().mean(1))
    assert float(both[:, 3].std()) > 0


def test_a_network_without_parts_is_refused() -> None:
    with pytest.raises(InputError, match=r"features.* of Conv3d"):
        features.features_forward(torch.nn.Conv3d(1, 2, 1))


@pytest.mark.parametrize("bare", [["case2"], ["case2", "case3", "case4"]])
def test_unlabelled_cases_without_a_label_are_not_looked_at(
    tmp_path: Path, trained: Artefact, bare: list[str]
) -> None:
    folder = tmp_path / "prepared"
    make_prepared(folder)
    index = json.loads((folder / "index.json").read_text())
    for case in bare:
        (folder / "labels" / f"{case}.npy").unlink()
        index["cases"][case] = {**index["cases"][case], "labelled": False}
    (folder / "index.json").write_text(json.dumps(index))
    out = run(tmp_path / "run", artefact_of("prepare", folder), trained)
    known = [case for case in ("case2", "case3", "case4") if case not in bare]
    assert json.loads((out / "index.json").read_text())["unlabelled"] == known
    assert json.loads((out / "ledger.json").read_text())["labels_opened"] == ["case0", "case1", *known]
