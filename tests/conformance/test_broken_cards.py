"""A broken card from outside is named by the command, with what does not hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.conformance.checks import title
from sfrbench.conformance.suites import Examination, suite_of
from tests.support.places import ROOT

CODE = '''
from typing import ClassVar

import numpy as np
import torch

from sfrbench.components.base import Protocol, Selector, Ssl
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.base_prompts import Click, Said
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.prompter.boxes import SliceBoxes
from sfrbench.components.prompter.clicks import Clicks
from sfrbench.components.stitch.grid import GridStitch


class OffByOne(GridStitch):
    def from_canvases(self, maps, shape):
        return super().from_canvases(maps, shape).roll(1, -1)


class OffOnACanvas(GridStitch):
    """Off by a slice on every canvas, which a roll of the volume is not."""

    def from_canvases(self, maps, shape):
        whole = super().from_canvases(maps, shape)
        return torch.cat([part.roll(1, -1) for part in whole.split(20, -1)], -1)


class OtherLabels(GridStitch):
    """Trains each slice under the labels of its neighbour."""

    def training_canvas(self, image, label, canvas, rng, progress):
        return super().training_canvas(image, label.roll(1, -1), canvas, rng, progress)


class Forgets(Ssl):
    """Says that it uses labels, and trains on zeros."""

    uses_labels: ClassVar[bool] = True

    def loss(self, step):
        zeros = torch.zeros_like(step.labels)
        return torch.nn.functional.cross_entropy(step.logits_l, zeros) + step.logits_u.square().mean()


class Restless(Ssl):
    """Has chance of its own, so that a step does not repeat."""

    calls: ClassVar[list[int]] = []

    def loss(self, step):
        self.calls.append(1)
        return step.logits_u.square().mean() * len(self.calls)


class ForgetsAll(Ssl):
    """Leaves no L_sup to the loop, and trains on zeros in its place."""

    plain = "none"

    def loss(self, step):
        logits = step.student(step.images)
        return logits[: len(step.labels), 1].square().mean() + logits[len(step.labels) :].square().mean()


class Drowns(Ssl):
    """Declares nothing, and drowns the labels."""

    def loss(self, step):
        zeros = torch.zeros_like(step.labels)
        return 3 * torch.nn.functional.cross_entropy(step.logits_l, zeros) + step.logits_u.square().mean()


class OtherGrid(Phantom):
    def read_case(self, root, case):
        read = super().read_case(root, case)
        return read.model_copy(update={"label": read.label[:-1]})


class Mixes(VNet):
    def build(self, classes, inputs=1):
        network = super().build(classes, inputs)
        network.register_forward_hook(lambda module, given, made: made + made.mean(0, keepdim=True))
        return network


class Halves(VNet):
    def build(self, classes, inputs=1):
        network = super().build(classes, inputs)
        network.register_forward_hook(lambda module, given, made: made[..., ::2])
        return network


class Spoils(Lora):
    def attach(self, model):
        super().attach(model)
        for name, value in model.named_parameters():
            if not value.requires_grad:
                value.data += 0.01


class SharedToy(SamToy):
    def build(self, classes, weights):
        model = super().build(classes, weights)
        mixed = lambda module, given, made: made + made.mean(0, keepdim=True)
        model.image_encoder.register_forward_hook(mixed)
        return model


class Beyond(Selector):
    def threshold(self, confidences):
        return 1.5 * max(confidences)


class Liar(Clicks):
    def say(self, scene):
        said = super().say(scene)
        return Said(tuple(Click(one.at, not one.inside) for one in said.clicks))


class Unseeded(Clicks):
    def say(self, scene):
        places = np.argwhere(scene.truth)
        x, y, z = (int(at) for at in places[np.random.randint(len(places))])
        return Said((Click((x, y, z), True),))


class Ahead(Clicks):
    """Its first click depends on how many there will be."""

    def say(self, scene):
        scene.rng.random(self.number)
        return super().say(scene)


class Unannounced(SliceBoxes):
    @property
    def forms(self):
        return frozenset({"click"})


class Misspelt(Protocol):
    predict_fields = frozenset({"checkpoint", "strides"})
'''
#: Class: its kind, the check that it must fail, and words of what was seen.
BROKEN = {
    "OffByOne": ("stitch", "maps come back", "slice"),
    "OffOnACanvas": ("stitch", "labels come back", "slices"),
    "OtherLabels": ("stitch", "training labels lie on their image", "of different voxels"),
    "Forgets": ("ssl", "loss uses labels as declared", "neither loss nor gradients"),
    "Restless": ("ssl", "a step repeats", ""),
    "ForgetsAll": ("ssl", "training follows the labels", "ignores the labels"),
    "Drowns": ("ssl", "it learns", "Dice"),
    "OtherGrid": ("dataset", "labels lie on the image", "label (31, 32, 16)"),
    "Mixes": ("backbone", "images are apart", "alone has logits that differ"),
    "Halves": ("backbone", "logits have the shape", "in the place of"),
    "Spoils": ("finetune", "frozen weights are the pretrained", "other numbers than before"),
    "SharedToy": ("foundation", "images are apart", "logits differ"),
    "Beyond": ("selector", "threshold is a confidence", "makes 1.4"),
    "Liar": ("prompter", "prompts are true", "the click says otherwise"),
    "Unseeded": ("prompter", "one seed says one thing", "draws from a global generator"),
    "Ahead": ("prompter", "rounds go on from one another", "changes the first clicks"),
    "Unannounced": ("prompter", "only announced forms are said", "slice_box, announced ['click']"),
    "Misspelt": ("protocol", "fields of predictions exist", "no field strides"),
}


def conform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "sfrbench", "conform", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("broken")
    (place / "broken_components.py").write_text(CODE)
    for name, (kind, _, _) in BROKEN.items():
        card = place / "cards" / kind / f"{name.lower()}.yaml"
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_text(f"target: broken_components:{name}\nsummary: Broken.\nlabel: {name}\n")
    return place


@pytest.fixture(scope="module")
def examination() -> Examination:
    return Examination()


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_does_not_hold(
    name: str, folder: Path, examination: Examination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    kind, named, seen = BROKEN[name]
    card = Catalog.read([folder / "cards"]).card(kind, name.lower())
    (check,) = (one for one in (*suite_of(kind).FIRST, *suite_of(kind).CHECKS) if title(one) == named)
    result = examination.once(check, card)
    assert result.status == "does not hold"
    assert result.expected
    assert seen in result.seen


def test_the_command_names_what_is_broken(folder: Path) -> None:
    names = ("stitch/offbyone", "ssl/restless", "ssl/forgets")
    done = conform(folder, *names, "--registry", "cards")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for name, check, seen in (
        (names[0], "maps come back", "slice"),
        (names[2], "loss uses labels as declared", "neither loss nor gradients"),
    ):
        at = lines.index(f"{name}  {check}  does not hold")
        assert lines[at + 1].startswith("    expected: ")
        assert seen in lines[at + 2]
    restless = [line for line in lines if line.startswith(names[1]) and line.endswith("does not hold")]
    assert restless == [f"{names[1]}  a step repeats  does not hold"]  # what else fails would only mislead
    assert lines[-1].startswith("3 cards: ")


def test_sound_cards_missing_data_and_wrong_names(folder: Path) -> None:
    done = conform(folder, "selector/tau", "protocol/strict", "foundation/sam_vit_h", "dataset/btcv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "does not hold" not in done.stdout
    for name in ("foundation/sam_vit_h", "dataset/btcv"):
        assert f"{name}  what it needs  not ready here: " in done.stdout
    assert done.stdout.splitlines()[-1].endswith("2 cards are not ready here")
    for wrong in (["ssl/mean_teachr"], ["stich"], ["--registry", "nowhere"]):
        assert conform(folder, *wrong).returncode == 2


def test_the_suites_need_no_pytest() -> None:
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n    importlib.import_module(name)\n"
        "print('pytest' in sys.modules)"
    )
    names = [f"sfrbench.conformance.{path.stem}" for path in (ROOT / "sfrbench" / "conformance").glob("*.py")]
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
