"""Small prepared volumes and pseudo-labels that the suites train on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfrbench.components.dataset.phantom import Phantom
from sfrbench.engine.context import StageContext
from sfrbench.stages.prepare import run as prepare
from sfrbench.stages.prepare.recipe import PrepareSettings
from sfrbench.store.artefact import Artefact, files_in

PATCH = (32, 16, 16)


@dataclass(frozen=True)
class Inputs:
    """Inputs of a training with K classes: one labelled case, three unlabelled ones, a test case."""

    clean: Artefact
    poisoned: Artefact  # the same, with random labels of all but the labelled case
    pseudo: Artefact  # probabilities of 0.8 where the truth is


def inputs_of(folder: Path, classes: int) -> Inputs:
    """Generated volumes with an organ for each foreground class; made once in ``folder``."""
    place = folder / f"{classes}-classes"
    if not place.is_dir():
        clean = _as_stored(place / "clean", classes - 1)
        return Inputs(clean, _poisoned(clean, place / "poison"), _pseudo_labels(clean, place / "pseudo"))
    clean = artefact_of("prepare", place / "clean" / "out")
    return Inputs(clean, _shown(clean, place / "poison"), artefact_of("pseudolabel", place / "pseudo"))


def artefact_of(stage: str, folder: Path) -> Artefact:
    """What a stage left in ``folder``, as the store would give it."""
    return Artefact(stage, stage * 8, folder, {"files": files_in(folder)})


def _as_stored(folder: Path, organs: int) -> Artefact:
    shape = (PATCH[0] + 2, PATCH[1], PATCH[2] + 2)
    dataset = Phantom(shape=shape, train_cases=4, test_cases=1, organs=organs)
    (folder / "out").mkdir(parents=True)
    settings = PrepareSettings(fingerprint="")
    prepare.run(StageContext({"dataset": dataset}, settings, {}, 0, folder / "out", folder / "scratch"))
    return artefact_of("prepare", folder / "out")


def _poisoned(clean: Artefact, folder: Path) -> Artefact:
    (folder / "labels").mkdir(parents=True)
    index = clean.read_json("index.json")
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "images").symlink_to(clean.folder / "images")
    for number, case in enumerate((*index["train"], *index["test"])):
        label = np.load(clean.folder / "labels" / f"{case}.npy")
        if number > 0:
            label = np.random.default_rng(number).integers(0, len(index["classes"]), label.shape, np.uint8)
        np.save(folder / "labels" / f"{case}.npy", label)
    return _shown(clean, folder)


def _shown(clean: Artefact, folder: Path) -> Artefact:
    """``folder`` with the images of ``clean``, which a link there leads to."""
    files = {**artefact_of("prepare", folder).record["files"]}
    files |= {name: entry for name, entry in clean.record["files"].items() if name.startswith("images/")}
    return replace(clean, folder=folder, record={"files": files})


def _pseudo_labels(clean: Artefact, folder: Path) -> Artefact:
    (folder / "probs").mkdir(parents=True)
    index = clean.read_json("index.json")
    classes = np.arange(1, len(index["classes"])).reshape(-1, 1, 1, 1)
    for case in index["train"][1:]:
        truth = np.load(clean.folder / "labels" / f"{case}.npy") == classes
        np.save(folder / "probs" / f"{case}.npy", (0.8 * truth).astype(np.float16))
    return artefact_of("pseudolabel", folder)
