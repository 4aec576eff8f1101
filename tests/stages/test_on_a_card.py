"""Every shipped method, on a device that is pretended: nothing is left on the host, and few things wait."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import Foundation, Prompter, Selector, Ssl, Stitch
from sfrbench.components.foundation.sam2 import Sam2Like
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.prompter.boxes import SliceBoxes, VolumeBox
from sfrbench.components.prompter.clicks import Clicks
from sfrbench.components.ssl.bcp import Bcp
from sfrbench.components.ssl.ict import Ict
from sfrbench.components.ssl.step import Step
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.conformance.checks import Subject
from sfrbench.engine.training import History
from sfrbench.stages.canvases import run as canvases
from sfrbench.stages.features import run as features
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.interact import run as interact
from sfrbench.stages.predict import run as predict
from sfrbench.stages.pseudolabel import run as pseudolabel
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.retrain.data import Batch, Data, Drawn
from sfrbench.stages.select import run as select
from sfrbench.store.artefact import Artefact
from tests.support.pretend import pretended
from tests.support.pretend_mode import MixedDevicesError, Seen
from tests.support.tiny import PATCH, Killed, Runs, content, distinct, method_of, sam, segmenter, tuning_of

CARDS = {
    kind: [card for card in Catalog.read().cards() if card.kind == kind]
    for kind in ("ssl", "finetune", "stitch", "selector")
}
METHODS, TUNINGS = distinct(CARDS["ssl"], method_of), distinct(CARDS["finetune"], tuning_of)
#: Of each family of foundations that take prompts the one that needs no weights.
PROMPTED = [
    card
    for card in Catalog.read().cards("foundation")
    if getattr(card.component_class, "takes", None) and "weights" not in card.needs
]
USERS = (Clicks(number=2), VolumeBox(), SliceBoxes())
FLAT = {"stride": PATCH, "sam_stride": PATCH}
#: Methods whose steps wait, where, and how often at the most: sizes depend on values (prototypes, errors by
#: confident learning), and components are found on the host.
REST = {
    "acmt_s_err": ("components/ssl/_ambiguity.py", 14),
    "bcp": ("components/ssl/bcp.py", 2),
    "ss_net": ("components/ssl/", 10),
}


def named(card: object) -> str:
    return card.name if isinstance(card, Card) else str(card)


def by_loop() -> list[Card]:
    """A method for each way in which the loop meets it with labels of SAM. Soft ones, and those made in the
    loop, are the loop's own work otherwise, but for a loss that reads them."""
    found: dict[object, Card] = {}
    for card in METHODS:
        made = method_of(card, Path())
        cls = type(made)
        reads = "step.pseudo" in inspect.getsource(sys.modules[cls.__module__])
        meets = cls.plain, cls.combine, cls.outputs, cls.coarser, cls.uses_unlabelled, made.augment
        found.setdefault((cls if reads else None, *meets), card)
    return list(found.values())


def told(name: str, steps: list[Counter[str]]) -> None:
    """The table of waits, for ``pytest -s``."""
    print(f"\n@ {name}", [dict(step) for step in steps])


def method(name: str, folder: Path, **fields: Any) -> Ssl:
    (found,) = (card for card in CARDS["ssl"] if card.name == name)
    return method_of(found, folder, **fields)


@contextmanager
def steps_in(seen: Seen) -> Iterator[list[Counter[str]]]:
    """The waits of each step: from its seeding to the end of the optimiser's step."""
    found: list[Counter[str]] = []
    seed, add = torch.manual_seed, History.add
    before: Counter[str] = Counter()

    def seeded(value: int) -> torch.Generator:
        before.clear()
        before.update(seen.waits)
        return seed(value)

    def added(history: History, *args: Any) -> None:
        found.append(seen.waits - before)
        add(history, *args)

    with patch.object(torch, "manual_seed", seeded), patch.object(History, "add", added):
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Artefact:
    """A fine-tuned toy."""
    return Runs(folder)(finetune, sam(), "tuned")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Artefact:
    """A re-trained segmenter."""
    return Runs(folder)(retrain, segmenter(method("mean_teacher", folder)), "trained")


@pytest.fixture(scope="module")
def chosen(folder: Path, trained: Artefact) -> Artefact:
    """Confidences of a segmenter."""
    parts = segmenter(method("mean_teacher", folder))
    return Runs(folder)(select, parts, "chosen", {"retrain": trained}, keep="certainty", **FLAT)


@pytest.fixture
def card() -> Iterator[Seen]:
    """The pretended device for one test."""
    with pretended() as seen:
        yield seen


@pytest.mark.parametrize(
    ("ssl", "pseudo"),
    [
        *((card, pseudo) for card in METHODS for pseudo in ("none", "offline")),
        *((card, pseudo) for card in by_loop() for pseudo in ("soft", "online")),
    ],
    ids=named,
)
def test_every_method(ssl: Card, pseudo: str, folder: Path, tuned: Artefact, card: Seen) -> None:
    inputs = {"pseudolabel": Runs(folder).labelled, "finetune": tuned}
    made = method_of(ssl, folder, pseudo_labels="soft" if pseudo == "soft" else "hard")
    parts = {**segmenter(made), **(sam() if pseudo == "online" else {})}
    mode = "offline" if pseudo == "soft" else pseudo
    with steps_in(card) as steps:
        Runs(folder, "cuda")(retrain, parts, f"{ssl.name}-{pseudo}", inputs, pseudo=mode)
    told(f"{ssl.name} {pseudo}", steps)
    where, most = REST.get(ssl.name.removesuffix("_source"), ("", 0))
    assert all(line.partition(" at ")[2].startswith(where) for step in steps for line in step)
    assert max(sum(step.values()) for step in steps) == most


@pytest.mark.parametrize("tuning", TUNINGS, ids=named)
def test_every_fine_tuning(tuning: Card, folder: Path, card: Seen) -> None:
    tuned = tuning_of(tuning, folder)
    flat = {"stitch": UpsampledStitch(), "foundation": SamToy(canvas=64)} if tuned.volumetric else {}
    runs, parts = Runs(folder, "cuda"), sam(tuned, **flat)
    with steps_in(card) as steps:
        made = runs(finetune, parts, f"{tuning.name}-made")
    told(tuning.name, steps)
    # a view goes to the encoder once, and its embedding to the disk
    assert [sum(step.values()) for step in steps] == ([2, 2] if tuned.fixed_views else [0, 0])
    runs(
        predict,
        parts,
        f"{tuning.name}-predict",
        {"model": made},
        model_stage="finetune",
        subset="test",
        **FLAT,
    )


@pytest.mark.parametrize("stitch", CARDS["stitch"], ids=named)
def test_every_stitch(stitch: Card, folder: Path, card: Seen) -> None:
    made = Subject(stitch, folder, folder).scaled(Stitch)
    runs, parts = Runs(folder, "cuda"), sam(stitch=made)
    tuned = runs(finetune, parts, f"{stitch.name}-tuned")
    runs(pseudolabel, parts, f"{stitch.name}-labels", {"finetune": tuned}, **FLAT)
    runs(canvases, parts, f"{stitch.name}-canvases", subset="test", cases=1)
    inputs = {"finetune": tuned}
    runs(
        retrain,
        {**parts, **segmenter(method("supervised", folder))},
        f"{stitch.name}-online",
        inputs,
        pseudo="online",
    )


@pytest.mark.parametrize("selector", CARDS["selector"], ids=named)
def test_every_round(
    selector: Card, folder: Path, tuned: Artefact, trained: Artefact, chosen: Artefact, card: Seen
) -> None:
    """SAM goes on with confident cases, the segmenter with the labels of the others."""
    made = Subject(selector, folder, folder).scaled(Selector)
    runs, again = Runs(folder, "cuda"), {"selector": made}
    with steps_in(card) as steps:
        new = runs(finetune, {**sam(), **again}, f"{selector.name}-sam", {"before": tuned, "select": chosen})
        inputs = {"before": trained, "select": chosen, "pseudolabel": Runs(folder).labelled, "finetune": new}
        parts = {**segmenter(method("mean_teacher", folder)), **again}
        runs(retrain, parts, f"{selector.name}-net", inputs, pseudo="offline", first_iteration=2)
    told(selector.name, steps)
    assert not any(steps)


def test_a_segmenter_at_work(folder: Path, card: Seen) -> None:
    """Training with validation, and every stage that reads what it leaves."""
    runs = Runs(folder, "cuda")
    parts = segmenter(method("mean_teacher", folder))
    made = runs(retrain, parts, "validated", split={"labeled": 1, "val": 1}, stride=PATCH)
    assert made.path("best.safetensors").is_file()
    for checkpoint in ("last", "best_val"):
        told = {"model_stage": "retrain", "subset": "test", "checkpoint": checkpoint, **FLAT}
        runs(predict, parts, f"predicted-{checkpoint}", {"model": made}, **told)
    runs(select, parts, "confident", {"retrain": made}, **FLAT)
    runs(pseudolabel, parts, "by-segmenter", {"retrain": made}, **FLAT)
    runs(features, parts, "features", {"retrain": made}, checkpoint="last", cases=1, voxels=8, **FLAT)


@pytest.mark.parametrize("user", USERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("foundation", PROMPTED, ids=named)
def test_every_prompted_model(foundation: Card, user: Prompter, folder: Path, card: Seen) -> None:
    """What it answers on the device is on the host afterwards, and is what the CPU answers."""
    small = {"canvas": 64} if issubclass(foundation.component_class, Sam2Like) else {}
    model = foundation.component(small)
    assert isinstance(model, Foundation)
    if not user.forms <= model.takes:
        pytest.skip(f"it takes {', '.join(sorted(model.takes))}")
    name, kept = f"{foundation.name}-{type(user).__name__}", []
    for device in ("cpu", "cuda"):
        talk = Runs(folder, device, classes=2)(
            interact, {"prompter": user, "foundation": model}, f"{name}-{device}", subset="test"
        )
        kept.append([data for file, data in content(talk).items() if file.startswith("rounds/")])
    assert kept[0] == kept[1] != []


@pytest.mark.parametrize("stage", ["retrain", "finetune"])
def test_a_killed_training_goes_on_there(stage: str, folder: Path, card: Seen) -> None:
    runs = Runs(folder, "cuda")
    run, parts = {
        "retrain": (retrain, segmenter(method("ua_mt", folder, steps=2, checkpoint_every=1))),
        "finetune": (finetune, sam()),
    }[stage]
    whole = runs(run, parts, f"whole-{stage}")
    with pytest.raises(Killed):
        runs(run, parts, f"killed-{stage}", kill_at=2)
    assert (folder / f"killed-{stage}" / "scratch" / "checkpoint.pt").is_file()
    assert content(runs(run, parts, f"killed-{stage}")) == content(whole)


def test_labels_that_are_left_on_the_host_are_found(folder: Path, card: Seen) -> None:
    def left(data: Data, drawn: Drawn) -> Batch:
        return replace(batch(data, drawn), labels=drawn.labels.long())

    batch = Data.batch
    parts = segmenter(method("supervised", folder))
    with patch.object(Data, "batch", left), pytest.raises(MixedDevicesError, match=r"losses\.py"):
        Runs(folder, "cuda")(retrain, parts, "left-behind")


def test_draws_that_the_host_reads_are_those_of_the_cpu(folder: Path, card: Seen) -> None:
    """Cuboids of BCP and shares of ICT do not depend on the device."""
    seen = []
    for device in ("cpu", "cuda"):
        rng = torch.Generator(device).manual_seed(3)
        images = torch.zeros(4, 1, *PATCH, device=device)
        step = Step(None, None, {}, images, images[:2, 0].long(), images, images, None, 0, 2, 3, rng)  # type: ignore[arg-type]
        bcp, ict = method("bcp", folder), method("ict", folder)
        assert isinstance(bcp, Bcp)
        assert isinstance(ict, Ict)
        seen.append([bcp.outside(step), bcp.outside(step), ict.factors(step.host_rng, 2, images.device)])
    assert all(there.device.type == "cuda" for there in seen[1])
    assert all(torch.equal(here, there.cpu()) for here, there in zip(*seen, strict=True))
    assert not torch.equal(*seen[0][:2])
