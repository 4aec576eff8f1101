"""A thread that makes batches ahead changes no bit of a training, and ends with it however that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfrbench.catalog.cards import Card, Catalog
from sfrbench.components.base import Component, Stitch
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.selector.threshold import Quantile
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.conformance.checks import Subject
from sfrbench.engine import training
from sfrbench.engine.context import Pruned, Stopped
from sfrbench.engine.feeding import feed
from sfrbench.errors import DataError
from sfrbench.stages.finetune import run as finetune
from sfrbench.stages.retrain import run as retrain
from sfrbench.stages.retrain.data import Data
from sfrbench.stages.select import run as select
from sfrbench.store.artefact import Artefact
from tests.support.tiny import PATCH, Killed, Runs, content, method_of, sam, segmenter, tuning_of

STEPS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Artefact:
    return Runs(folder)(finetune, sam(), "tuned")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Artefact:
    return Runs(folder)(retrain, net(folder), "trained")


@pytest.fixture(scope="module")
def chosen(folder: Path, trained: Artefact) -> Artefact:
    return Runs(folder)(select, net(folder), "chosen", {"retrain": trained}, stride=PATCH)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def net(folder: Path, name: str = "mean_teacher", **fields: Any) -> dict[str, Component]:
    (card,) = (card for card in Catalog.read().cards() if (card.kind, card.name) == ("ssl", name))
    return segmenter(method_of(card, folder, **{"steps": STEPS, "checkpoint_every": 1, **fields}))


def tuning(folder: Path, name: str) -> dict[str, Component]:
    (card,) = (card for card in Catalog.read().cards() if (card.kind, card.name) == ("finetune", name))
    made = tuning_of(card, folder).model_copy(update={"steps": STEPS})
    flat = {"stitch": UpsampledStitch(), "foundation": SamToy(canvas=64)} if made.volumetric else {}
    return sam(made, **flat)


def same(folder: Path, name: str, *args: Any, **settings: Any) -> None:
    """The same files, whatever is made ahead."""
    made = [
        Runs(folder, ahead=ahead)(*args[:2], f"{name}-{ahead}", *args[2:], **settings) for ahead in (0, 1)
    ]
    files = [content(each) for each in made]
    assert "history.csv" in files[0]
    assert files[0] == files[1]


@pytest.mark.parametrize("pseudo", ["none", "offline", "online"])
def test_retrain(pseudo: str, folder: Path, tuned: Artefact) -> None:
    inputs = {"pseudolabel": Runs(folder).labelled, "finetune": tuned}
    parts = net(folder, intensity_augment=True) | (sam() if pseudo == "online" else {})
    same(folder, f"retrain-{pseudo}", retrain, parts, inputs, pseudo=pseudo, rot_flip=True)


def test_retrain_with_what_a_method_reads_off_labels(folder: Path) -> None:
    same(folder, "dtc", retrain, net(folder, "dtc"))


@pytest.mark.parametrize("pseudo", ["none", "offline", "online"])
def test_retrain_by_nnunets_recipe(pseudo: str, folder: Path, tuned: Artefact) -> None:
    """Forced patches and warped ones; a mirrored, turned and scaled crop has its pseudo-labels, too."""
    inputs = {"pseudolabel": Runs(folder).labelled, "finetune": tuned}
    parts = net(folder, "supervised_nnunet") | (sam() if pseudo == "online" else {})
    same(folder, f"nnunet-{pseudo}", retrain, parts, inputs, pseudo=pseudo, rot_flip=True)


def test_a_round(folder: Path, tuned: Artefact, trained: Artefact, chosen: Artefact) -> None:
    selector = {"selector": Quantile(share=0.5)}
    inputs = {"before": trained, "select": chosen, "pseudolabel": Runs(folder).labelled}
    same(
        folder, "net-round", retrain, net(folder) | selector, inputs, pseudo="offline", first_iteration=STEPS
    )
    inputs = {"before": tuned, "select": chosen}
    same(folder, "sam-round", finetune, tuning(folder, "lora") | selector, inputs)


@pytest.mark.parametrize("name", ["lora", "frozen", "sam3d_adapter"])
def test_finetune(name: str, folder: Path) -> None:
    same(folder, name, finetune, tuning(folder, name), rot_flip=True)


def test_stitches_that_draw(folder: Path) -> None:
    stitch = GridStitch(order="random", rotate_slices=True)
    same(folder, "drawn", finetune, tuning(folder, "lora") | {"stitch": stitch})


@pytest.mark.parametrize("name", ["mean_teacher", "supervised_nnunet"])
def test_a_killed_training_goes_on_to_the_same_bits(name: str, folder: Path) -> None:
    runs = Runs(folder, ahead=1)
    whole = runs(retrain, net(folder, name), f"{name} whole")
    with pytest.raises(Killed):
        runs(retrain, net(folder, name), f"{name} killed", kill_at=STEPS)
    assert content(runs(retrain, net(folder, name), f"{name} killed")) == content(whole)


def test_a_stopped_training_leaves_a_checkpoint_and_no_thread(folder: Path) -> None:
    runs = Runs(folder, ahead=2)
    with pytest.raises(Stopped):
        runs(retrain, net(folder, checkpoint_every=100), "stopped", stopping=lambda: True)
    assert torch.load(folder / "stopped" / "scratch" / "checkpoint.pt")["step"] == 1


def test_a_pruned_training_leaves_no_thread(folder: Path) -> None:
    told = {"split": {"labeled": 1, "val": 1}, "stride": PATCH}
    with pytest.raises(Pruned):
        Runs(folder, ahead=2)(retrain, net(folder), "pruned", watch=lambda step, dice: True, **told)


@pytest.mark.parametrize("ahead", [0, 1])
def test_an_error_of_a_batch_is_that_of_its_step(
    ahead: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Data.drawn

    def failing(data: Data, step: int) -> Any:
        if step == 3:
            raise DataError("the volume is cut short", where="case a", hint="prepare it anew")
        return drawn(data, step)

    monkeypatch.setattr(Data, "drawn", failing)
    with pytest.raises(DataError, match="the volume is cut short"):
        Runs(folder, ahead=ahead)(retrain, net(folder), f"failing-{ahead}")
    assert torch.load(folder / f"failing-{ahead}" / "scratch" / "checkpoint.pt")["step"] == 3


@pytest.mark.parametrize(
    "stitch", [card for card in Catalog.read().cards() if card.kind == "stitch"], ids=lambda card: card.name
)
def test_a_batch_takes_nothing_of_the_global_generator(
    stitch: Card, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout of the step that runs meanwhile would draw from elsewhere in its stream."""
    made: list[int] = []

    def watched(
        make: Callable[[int], Any], steps: range, ahead: int
    ) -> AbstractContextManager[Iterator[Any]]:
        def undisturbed(step: int) -> Any:
            before, here = torch.get_rng_state(), np.random.get_state()
            batch = make(step)
            assert torch.equal(before, torch.get_rng_state())
            assert str(here) == str(np.random.get_state())
            made.append(step)
            return batch

        return feed(undisturbed, steps, ahead)

    monkeypatch.setattr(training, "feed", watched)
    drawn = Subject(stitch, folder, folder).scaled(Stitch)
    Runs(folder)(finetune, tuning(folder, "lora") | {"stitch": drawn}, f"undisturbed-{stitch.name}")
    Runs(folder)(retrain, net(folder, "dtc", intensity_augment=True), f"undisturbed-by-{stitch.name}")
    assert made == [*range(STEPS), *range(STEPS)]
