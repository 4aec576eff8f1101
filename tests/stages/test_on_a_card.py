"""Every shipped method, on a device that is pretended: nothing is left on the host, and few things wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import Selector, Ssl, Stitch
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.conformance.checks import Subject
from sfrbench.engine.training import History
from sfrbench.stages.canvases import run as canvases
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.predict import run as predict
from sfrbench.stages.pseudolabel import run as pseudolabel
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.select import run as select
from sfrbench.store.artefact import Artefact
from tests.support.pretend import pretended
from tests.support.pretend_mode import Seen
from tests.support.tiny import PATCH, Runs, method_of, sam, segmenter, tuning_of

CARDS = {
    kind: [card for card in Catalog.read().cards() if card.kind == kind]
    for kind in ("ssl", "finetune", "stitch", "selector")
}
FLAT = {"stride": PATCH, "sam_stride": PATCH}


def named(card: object) -> str:
    return card.name if isinstance(card, Card) else str(card)


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
    return Runs(folder)(select, parts, "chosen", {"retrain": trained}, **FLAT)


@pytest.fixture
def card() -> Iterator[Seen]:
    """The pretended device for one test."""
    with pretended() as seen:
        yield seen


@pytest.mark.parametrize("pseudo", ["none", "offline", "soft", "online"])
@pytest.mark.parametrize("ssl", CARDS["ssl"], ids=named)
def test_every_method(ssl: Card, pseudo: str, folder: Path, tuned: Artefact, card: Seen) -> None:
    inputs = {"pseudolabel": Runs(folder).labelled, "finetune": tuned}
    made = method_of(ssl, folder, pseudo_labels="soft" if pseudo == "soft" else "hard")
    parts = {**segmenter(made), **(sam() if pseudo == "online" else {})}
    mode = "offline" if pseudo == "soft" else pseudo
    with steps_in(card) as steps:
        Runs(folder, "cuda")(retrain, parts, f"{ssl.name}-{pseudo}", inputs, pseudo=mode)
    print(f"\n@ {ssl.name} {pseudo}", [dict(step) for step in steps])


@pytest.mark.parametrize("tuning", CARDS["finetune"], ids=named)
def test_every_fine_tuning(tuning: Card, folder: Path, card: Seen) -> None:
    tuned = tuning_of(tuning, folder)
    flat = {"stitch": UpsampledStitch(), "foundation": SamToy(canvas=64)} if tuned.volumetric else {}
    runs, parts = Runs(folder, "cuda"), sam(tuned, **flat)
    with steps_in(card) as steps:
        made = runs(finetune, parts, f"{tuning.name}-made")
    print(f"\n@ {tuning.name}", [dict(step) for step in steps])
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
    print(f"\n@ {selector.name}", [dict(step) for step in steps])
