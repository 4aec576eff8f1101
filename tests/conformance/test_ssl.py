"""Every semi-supervised method, through the stage that re-trains: what a user may count on.

``SFRBENCH_TEST_REGISTRY=my_registry pytest tests/conformance/test_ssl*.py`` takes in another folder's cards.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt
from pydantic.fields import FieldInfo
from safetensors.torch import load_file

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.catalog.fields import field_exists, nested
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Settings, Ssl
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.engine.context import StageContext, no_progress
from sfrbench.plan.resolve import unflatten
from sfrbench.spec.reader import read_profile
from sfrbench.stages.prepare import run as prepare
from sfrbench.stages.retrain import run as retrain
from sfrbench.store.store import Artefact
from tests.support.stages import settings_of
from tests.test_training import as_artefact

EXTRA = [Path(name) for name in os.environ.get("SFRBENCH_TEST_REGISTRY", "").split(os.pathsep) if name]
CARDS = Catalog.read(EXTRA).cards("ssl")
PATCH = (32, 16, 16)
FAST = {"optimiser": "adamw", "lr": 5e-3, "schedule": "constant", "weight_decay": 0.0}
#: What a constant rate does not look at, alike for all.
FAST |= {"step_every": 2500, "step_from": 0}
#: Cards without a paper to cite.
NO_SOURCE = {"supervised", "self_training"}
#: Methods whose whole loss need not fall, with the reason; judged by their supervised term.
SUPERVISED_TERM = {
    "causal": "its inner game raises the independence term that the networks descend",
    "causal_cps": "its inner game raises the independence term that the networks descend",
    "causal_source": "its inner game raises the independence term that the networks descend",
    "dtc": "its ramp raises the weight of the consistency",
    "ss_net": "its ramp raises the weight of the smoothness",
}
#: Dice of the foreground alone stays long where all is foreground, and with a consistency at its full weight
#: from the start for good: these learn with their ramp.
PLATEAU = {"steps": 80, "ramp_length": 2, "ramp_unit": 40, "optim": {**FAST, "lr": 2e-2}}
#: Fields of a training that is to learn: bcp's loss must be the same sum of terms from first to last.
LEARNING: dict[str, dict[str, Any]] = {"bcp": {"pretrain": 0.0}, "dtc": PLATEAU, "ss_net": PLATEAU}


def component(card: Card, **fields: Any) -> Ssl:
    """The card's method as profile smoke scales it, at its full weight from the third step on."""
    scaled = {
        path.removeprefix("ssl."): value
        for path, value in read_profile("smoke").layer.choices.items()
        if path.startswith("ssl.")
    }
    wanted = {**scaled, "game_steps": 5, "ramp_unit": 1, "ramp_length": 2, "optim": FAST, **fields}
    known = {name: value for name, value in wanted.items() if field_exists(card.component_class, name)}
    made = card.component(unflatten(known))
    assert isinstance(made, Ssl)
    return made


def methods() -> list[Card]:
    """The cards that are trained here: of those that differ in their recipe only, the first by name."""
    found: dict[str, Card] = {}
    for card in sorted(CARDS, key=lambda card: (card.target, card.name)):
        found.setdefault(json.dumps(component(card).key_settings(), sort_keys=True), card)
    return list(found.values())


every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
every_method = pytest.mark.parametrize("card", methods(), ids=lambda card: card.name)


def as_stored(folder: Path, organs: int) -> Artefact:
    """Four training cases and a test case of ``organs`` + 1 classes."""
    shape = (PATCH[0] + 2, PATCH[1], PATCH[2] + 2)
    dataset = Phantom(shape=shape, train_cases=4, test_cases=1, organs=organs)
    (folder / "out").mkdir(parents=True)
    prepare.run(StageContext({"dataset": dataset}, {}, {}, 0, folder / "out", folder / "scratch"))
    return as_artefact("prepare", folder / "out")


def poisoned(clean: Artefact, folder: Path) -> Artefact:
    """The same cases; the labels of all but the labelled one are random numbers."""
    (folder / "labels").mkdir(parents=True)
    index = json.loads((clean.folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "images").symlink_to(clean.folder / "images")
    for number, case in enumerate((*index["train"], *index["test"])):
        label = np.load(clean.folder / "labels" / f"{case}.npy")
        if number > 0:
            label = np.random.default_rng(number).integers(0, len(index["classes"]), label.shape, np.uint8)
        np.save(folder / "labels" / f"{case}.npy", label)
    files = {**as_artefact("prepare", folder).record["files"]}
    files |= {name: entry for name, entry in clean.record["files"].items() if name.startswith("images/")}
    return replace(clean, folder=folder, record={"files": files})


def pseudolabels(clean: Artefact, folder: Path) -> Artefact:
    """Probabilities of 0.8 where the truth is."""
    (folder / "probs").mkdir(parents=True)
    index = json.loads((clean.folder / "index.json").read_text())
    classes = np.arange(1, len(index["classes"])).reshape(-1, 1, 1, 1)
    for case in index["train"][1:]:
        truth = np.load(clean.folder / "labels" / f"{case}.npy") == classes
        np.save(folder / "probs" / f"{case}.npy", (0.8 * truth).astype(np.float16))
    return as_artefact("pseudolabel", folder)


@dataclass(frozen=True)
class Data:
    """Inputs of a training with K classes."""

    clean: Artefact
    poisoned: Artefact
    pseudo: Artefact


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Data]:
    found = {}
    for classes in (2, 5):
        folder = tmp_path_factory.mktemp(f"data{classes}")
        clean = as_stored(folder / "clean", classes - 1)
        found[classes] = Data(
            clean, poisoned(clean, folder / "poison"), pseudolabels(clean, folder / "pseudo")
        )
    return found


def train(
    method: Ssl, inputs: Data, folder: Path, *, pseudo: bool, bf16: bool = False, **options: Any
) -> StageContext:
    """One run of the stage in ``folder``; options: prepared, kill_at."""
    kill_at = options.get("kill_at")

    def progress(done: int, total: int, **values: float) -> None:
        if done == kill_at:
            raise KeyboardInterrupt

    backbone = VNet(filters=2, norm="group", precision="bf16" if bf16 else "fp32")
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ctx = StageContext(
        components={"backbone": backbone, "ssl": method},
        settings=settings_of(
            retrain,
            split={"labeled": 1},
            patch=PATCH,
            rot_flip=False,
            pseudo="offline" if pseudo else "none",
        ),
        inputs={"prepare": options.get("prepared", inputs.clean), "pseudolabel": inputs.pseudo},
        seed=1,
        out=folder / "out",
        scratch=folder / "scratch",
        progress=no_progress if kill_at is None else progress,
    )
    retrain.run(ctx)
    return ctx


def history(ctx: StageContext) -> list[dict[str, float]]:
    with (ctx.out / "history.csv").open() as stream:
        rows = [
            {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)
        ]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    return rows


def contents(ctx: StageContext) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ctx.out.iterdir()}


def check_is_the_backbone(ctx: StageContext, classes: int) -> None:
    """The stored model has the names, shapes and count of the backbone alone."""
    own = VNet(filters=2, norm="group").build(classes)
    stored = load_file(ctx.out / "model.safetensors")
    assert {name: part.shape for name, part in stored.items()} == {
        name: part.shape for name, part in own.state_dict().items()
    }
    described = json.loads((ctx.out / "model.json").read_text())
    assert described["parameters"] == sum(part.numel() for part in own.parameters())


def numbers_of(cls: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in cls.model_fields.items():
        inner = nested(cls, name)
        if inner is not None:
            yield from numbers_of(inner)
        elif field.annotation in (int, float, int | None, float | None):
            yield name, field


def test_there_are_some() -> None:
    assert {"supervised", "mean_teacher", "acmt", "bcp", "causal", "magicnet"} <= {
        card.name for card in CARDS
    }
    assert SUPERVISED_TERM.keys() | LEARNING.keys() <= {card.name for card in CARDS}
    trained = {card.name for card in methods()}
    plain = {card.name for card in CARDS if not card.name.endswith("_source")}
    assert trained >= plain
    assert len(trained - plain) < 5  # sources that are more than a recipe


def test_the_poison_is_in_all_cases_but_the_labelled_one(data: dict[int, Data]) -> None:
    for inputs in data.values():
        clean, spoiled = (
            {path.name: path.read_bytes() for path in (artefact.folder / "labels").iterdir()}
            for artefact in (inputs.clean, inputs.poisoned)
        )
        assert len(clean) == 5
        assert [name for name in sorted(clean) if spoiled[name] == clean[name]] == ["p000000.npy"]


@every_card
def test_the_card_says_what_it_is_and_bounds_its_numbers(card: Card) -> None:
    assert card.problems() == []
    assert card.label
    assert card.cite or card.name in NO_SOURCE
    cls = card.component_class
    free = [
        name for name, field in numbers_of(cls) if not any(isinstance(m, Ge | Gt) for m in field.metadata)
    ]
    assert free == []
    undescribed = [name for name in cls.model_fields if name not in Ssl.model_fields]
    undescribed = [name for name in undescribed if not cls.model_fields[name].description]
    assert undescribed == []
    for path, span in card.search.items():
        for limit in (span["low"], span["high"]) if isinstance(span, dict) else span:
            card.component(unflatten({path: limit}))


@every_method
def test_learns_two_classes_from_one_labelled_case(card: Card, data: dict[int, Data], tmp_path: Path) -> None:
    method = component(card, **{"steps": 25, "ramp_length": 0, **LEARNING.get(card.name, {})})
    ctx = train(method, data[2], tmp_path, pseudo=False)
    rows = history(ctx)
    term = "supervised" if card.name in SUPERVISED_TERM else "loss"
    losses = [row[term] for row in rows]
    assert len(losses) == method.steps
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    check_is_the_backbone(ctx, 2)


@every_method
def test_five_classes_with_hard_pseudo_labels_to_the_bit(
    card: Card, data: dict[int, Data], tmp_path: Path
) -> None:
    """The same bits after a kill, and with other labels wherever no method may look."""
    method = component(card, steps=6, checkpoint_every=2, pseudo_labels="hard")
    whole = train(method, data[5], tmp_path / "whole", pseudo=True)
    assert all("pseudo" in row for row in history(whole))
    check_is_the_backbone(whole, 5)

    other = train(method, data[5], tmp_path / "poison", pseudo=True, prepared=data[5].poisoned)
    assert contents(other) == contents(whole)

    with pytest.raises(KeyboardInterrupt):
        train(method, data[5], tmp_path / "killed", pseudo=True, kill_at=4)
    resumed = train(method, data[5], tmp_path / "killed", pseudo=True)
    assert resumed.notes["resumed_at"] == 2
    assert contents(resumed) == contents(whole)


@every_method
def test_soft_pseudo_labels_on_a_bf16_backbone(card: Card, data: dict[int, Data], tmp_path: Path) -> None:
    soft = component(card, steps=2, pseudo_labels="soft", ramp_length=0)
    ctx = train(soft, data[5], tmp_path, pseudo=True, bf16=True)
    rows = history(ctx)
    assert all(row["pseudo"] > 0 for row in rows)
    stored = load_file(ctx.out / "model.safetensors")
    assert all(part.dtype == torch.float32 for part in stored.values() if part.is_floating_point())
