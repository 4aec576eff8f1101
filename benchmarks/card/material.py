"""What the measurements share: sizes, generated volumes, random weights, stages that are run and timed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Component, Foundation
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.components.foundation import _build
from sfrbench.components.foundation.sam_vit import SamVit
from sfrbench.components.foundation.toy import SamToy
from sfrbench.engine.arithmetic import arithmetic, in_tf32
from sfrbench.engine.compiling import compiled_code
from sfrbench.engine.context import StageContext
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.prepare import run as prepare
from sfrbench.store.artefact import Artefact, files_in

Size = tuple[int, int, int]
#: One line of a table: a name, and what was measured.
Row = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    patch: Size  # of a training, voxels
    cubes: Size  # the same for methods that cut it into 3 x 3 x 3 cubes
    volume: Size  # that windows slide over
    stride: Size
    canvas: int
    filters: int
    steps: int  # of a training that is timed, the first half of which warms up
    batches: tuple[int, ...]  # windows at once
    tokens: int  # a side of the grid that attention is tried on


#: The paper's sizes: patches of LA, SAM ViT-B at 1024 pixels, a CT of the abdomen.
FULL = Scale((112, 112, 80), (96, 96, 96), (314, 314, 235), (56, 56, 40), 1024, 16, 8, (1, 2, 4, 8, 16), 64)
#: The same in miniature, for a CPU.
MINI = Scale((32, 16, 16), (48, 48, 48), (40, 24, 20), (16, 8, 8), 64, 2, 2, (1, 2), 16)


@dataclass
class Bench:
    """Runs stages at one scale on one device, below a folder."""

    folder: Path
    device: str
    scale: Scale
    catalog: Catalog = field(default_factory=Catalog.read)
    count: int = 0

    @property
    def on_card(self) -> bool:
        return self.device.startswith("cuda")

    def component(self, kind: str, name: str, **fields: Any) -> Any:
        """A card's component with other values of some fields."""
        return self.catalog.card(kind, name).component(fields)

    @property
    def _sam(self) -> type[Foundation]:
        return SamVit if self.scale is FULL else SamToy

    @property
    def can_run_twice(self) -> bool:
        """Whether blocks of SAM can keep nothing for the way back, and run twice."""
        return "checkpointing" in self._sam.model_fields

    def foundation(self, **fields: Any) -> Foundation:
        """SAM ViT-B with random weights, in miniature the toy."""
        return self._sam.model_validate({"canvas": self.scale.canvas, **fields})

    def weights(self, name: str) -> Path:
        """A file of random weights for SAM."""
        path = self.folder / f"{name}.pth"
        if not path.is_file():
            torch.manual_seed(0)
            model = _build.vit(name.rsplit("_", 1)[-1], canvas=1024, classes=2, precision="fp32")
            for part, value in model.named_parameters():
                if "pos" in part:  # zero in a new model
                    torch.nn.init.normal_(value, std=0.02)
            torch.save(model.state_dict(), path)
        return path

    def prepared(self) -> Artefact:
        """Four cases of a size that holds a patch: one of them labelled, three not; a test case."""
        place = self.folder / "prepared"
        if not (place / "index.json").is_file():
            place.mkdir(parents=True, exist_ok=True)
            shape = tuple(max(sides) + 8 for sides in zip(self.scale.patch, self.scale.cubes, strict=True))
            dataset = Phantom(shape=shape, train_cases=4, test_cases=1)
            settings = recipe_of("prepare").settings.model_validate({"fingerprint": ""})
            prepare.run(StageContext({"dataset": dataset}, settings, {}, 0, place, place / "scratch"))
        return as_artefact("prepare", place)

    def labelled(self) -> Artefact:
        """Hard pseudo-labels of the unlabelled cases: the truth."""
        place = self.folder / "labelled"
        (place / "labels").mkdir(parents=True, exist_ok=True)
        cases = self.prepared().read_json("index.json")["train"][1:]
        for case in cases:
            np.save(place / "labels" / f"{case}.npy", np.load(self.prepared().path(f"labels/{case}.npy")))
        (place / "index.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
        return as_artefact("pseudolabel", place)

    def run(
        self,
        stage: ModuleType,
        components: Mapping[str, Component],
        *,
        inputs: Mapping[str, Artefact] | None = None,
        place: Path | None = None,
        watch: Callable[[int, int], None] = lambda done, total: None,
        stopping: Callable[[], bool] = lambda: False,
        ahead: int | None = None,
        **settings: Any,
    ) -> StageContext[Any]:
        """Run a stage as the harness does, in the precision of its network; returns what it was run with."""
        name = stage.__name__.split(".")[2]
        if place is None:
            self.count += 1
            place = self.folder / "runs" / str(self.count)
        for part in ("out", "scratch"):
            (place / part).mkdir(parents=True, exist_ok=True)
        cls = recipe_of(name).settings
        told = {"split": {"labeled": 1}, "patch": self.scale.patch, "rot_flip": True, "pseudo": "none"}
        told = {key: value for key, value in {**told, **settings}.items() if key in cls.model_fields}
        context = StageContext(
            components,
            cls.model_validate(told),
            {"prepare": self.prepared(), **(inputs or {})},
            0,
            place / "out",
            place / "scratch",
            device=self.device,
            weights=self.weights,
            progress=lambda done, total, **_: watch(done, total),
            stopping=stopping,
            ahead=ahead,
        )
        network = components["foundation" if "foundation" in components else "backbone"]
        compiled = compiled_code(components.values(), self.device)
        with compiled, arithmetic(tf32=in_tf32(network, self.device)):
            stage.run(context)
        return context

    def clear(self) -> None:
        """Give back what torch keeps of the card, and start its high-water mark anew."""
        if self.on_card:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def gigabytes(self) -> Row:
        """What tensors took of the card at most since ``clear``; nothing on a CPU."""
        return {"GB": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if self.on_card else {}

    def wait(self) -> None:
        """Until the card has done all that it was asked for."""
        if self.on_card:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """Of the fastest of some repeats, after one that warms up."""
        work()
        self.wait()
        found = []
        for _ in range(repeats):
            began = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - began)
        return min(found)


def as_artefact(stage: str, folder: Path) -> Artefact:
    """A folder as the store would give it."""
    return Artefact(stage, stage * 8, folder, {"files": files_in(folder)})


@contextmanager
def timed(bench: Bench, stage: ModuleType) -> Iterator[list[float]]:
    """The seconds of each step of a training, the card waited for. The waiting costs some of what runs ahead,
    so that a step alone is what is timed."""
    from sfrbench.engine import training

    found: list[float] = []
    plain, last = training.descend, time.perf_counter()

    def descend(*args: Any) -> None:
        nonlocal last
        plain(*args)
        bench.wait()
        found.append(time.perf_counter() - last)
        last = time.perf_counter()

    training.descend = descend
    try:
        yield found
    finally:
        training.descend = plain


def fault(error: BaseException) -> str:
    """An error in a table's cell."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]
