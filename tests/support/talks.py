"""The stage ``interact`` on label maps made by hand, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfrbench.components.base import Foundation, Prompter, Protocol
from sfrbench.components.protocol.standard import StandardProtocol
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import Progress, StageContext, no_progress
from sfrbench.stages.evaluate import run as evaluate
from sfrbench.stages.evaluate.recipe import EvaluateSettings
from sfrbench.stages.interact import run as interact
from sfrbench.stages.interact.recipe import InteractSettings
from sfrbench.stages.settings import SplitSettings
from sfrbench.store.artefact import Artefact
from tests.support.prompted import Ball, Corrector

Labels = Mapping[str, NDArray[np.uint8]]


def labels_of(shape: tuple[int, int, int], classes: int, cases: int = 2) -> dict[str, NDArray[np.uint8]]:
    """Cases ``t0`` and on, with a box of each foreground class at a place of its own."""
    found = {}
    for number in range(cases):
        rng = np.random.default_rng(number)
        label = np.zeros(shape, np.uint8)
        for value in range(1, classes):
            low = [int(rng.integers(0, max(side - 3, 1))) for side in shape]
            label[tuple(slice(at, at + 4) for at in low)] = value
        found[f"t{number}"] = label
    return found


def prepared(folder: Path, labels: Labels, classes: int, train: int = 2, trainable: bool = True) -> Artefact:
    """Test cases with these labels, and training cases ``r0`` and on, with label files if ``trainable``."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    shape = next(iter(labels.values())).shape
    known = {f"r{number}": np.zeros(shape, np.uint8) for number in range(train)} if trainable else {}
    entries = {}
    for case, label in {**{f"r{n}": np.zeros(shape, np.uint8) for n in range(train)}, **labels}.items():
        np.save(folder / "images" / f"{case}.npy", label.astype(np.float32))
        entry = {"shape": list(label.shape), "spacing": [1, 1, 2], "affine": None, "range": [0, 1]}
        entries[case] = {**entry, "source": {}}
    for case, label in {**known, **labels}.items():
        np.save(folder / "labels" / f"{case}.npy", label)
    index = {
        "dataset": "tiny",
        "classes": ["background", *(f"c{value}" for value in range(1, classes))],
        "train": [f"r{number}" for number in range(train)],
        "test": list(labels),
        "cases": entries,
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return artefact_of("prepare", folder)


@dataclass(frozen=True)
class Talks:
    """Runs the stage below a folder on one cohort; a run of the same name goes on from an earlier one."""

    folder: Path
    prepare: Artefact

    @classmethod
    def of(cls, folder: Path, labels: Labels, classes: int, **options: Any) -> Talks:
        return cls(folder, prepared(folder / "prepared", labels, classes, **options))

    def __call__(
        self,
        name: str = "run",
        prompter: Prompter | None = None,
        foundation: Foundation | None = None,
        guess: Artefact | None = None,
        seed: int = 0,
        progress: Progress = no_progress,
        **settings: Any,
    ) -> Artefact:
        place = self.folder / name
        for part in ("out", "scratch"):
            (place / part).mkdir(parents=True, exist_ok=True)
        inputs = {"prepare": self.prepare, **({} if guess is None else {"guess": guess})}
        parts = {"prompter": prompter or Corrector(), "foundation": foundation or Ball()}
        told = InteractSettings(**{"split": SplitSettings(), "subset": "test", **settings})
        context = StageContext(parts, told, inputs, seed, place / "out", place / "scratch", progress=progress)
        interact.run(context)
        return artefact_of("interact", place / "out")

    def scores(
        self, prediction: Artefact, after: int | None, best: bool = False, protocol: Protocol | None = None
    ) -> tuple[dict[tuple[str, str, str], str], Path]:
        """The values of ``scores.csv`` by case, class and metric, and the folder that evaluate wrote."""
        out = Path(str(prediction.folder) + f"-scores-{after}-{best}")
        out.mkdir(exist_ok=True)
        parts = {"protocol": protocol or StandardProtocol()}
        inputs = {"prepare": self.prepare, "prediction": prediction}
        told = EvaluateSettings(after=after, best=best)
        evaluate.run(StageContext(parts, told, inputs, 0, out, out))
        rows = [line.split(",") for line in (out / "scores.csv").read_text("utf-8").splitlines()[1:]]
        return {(case, cls, metric): value for case, cls, metric, value, *_ in rows}, out


def maps_of(talk: Artefact, case: str) -> dict[int, NDArray[np.uint8]]:
    """The label map after each round."""
    with np.load(talk.path(f"rounds/{case}.npz"), allow_pickle=False) as kept:
        return {int(name): kept[name] for name in kept.files}


def said_of(talk: Artefact, case: str) -> dict[str, Any]:
    """What was said, and what came of it, without the times."""
    told = talk.read_json(f"said/{case}.json")
    return {name: {part: one[part] for part in ("said", "dice")} for name, one in told.items()}


def content(talk: Artefact) -> dict[str, Any]:
    """All that a talk left and that repeats: files to the bit, but for the seconds."""
    index = talk.read_json("index.json")
    return {
        **{name: talk.path(name).read_bytes() for name in talk.record["files"] if name.endswith(".npz")},
        **{f"said {case}": said_of(talk, case) for case in index["cases"]},
        "ledger": talk.read_json("ledger.json"),
        "rounds": index["rounds"],
        "cases": index["cases"],
    }
