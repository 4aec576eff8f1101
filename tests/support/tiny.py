"""Any stage on volumes of a few voxels and networks of a few channels, on a device that may be pretended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sfrbench.catalog.cards import Card
from sfrbench.components.backbone.vnet import VNet
from sfrbench.components.base import Component, Finetune, Ssl
from sfrbench.components.finetune.lora import Lora
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.conformance._ssl_method import small as small_method
from sfrbench.conformance.checks import Subject
from sfrbench.conformance.finetune import small as small_tuning
from sfrbench.conformance.material import PATCH, artefact_of, inputs_of
from sfrbench.engine.context import StageContext, goes_on, no_progress, watch_nothing
from sfrbench.files.atomic import canonical
from sfrbench.store.artefact import Artefact
from tests.support.stages import settings_of, stage_of

#: What begins late in a training begins at once: here there are two steps.
AT_ONCE = {
    "blend_after": 0,
    "game_after": 0,
    "game_every": 1,
    "game_steps": 2,
    "cross_after": 0,
    "pretrain": 0.5,
}


class Killed(Exception):
    """Stands for a kill in the midst of a training."""


def method_of(card: Card, folder: Path, **fields: Any) -> Ssl:
    """A card's method in two steps."""
    subject = Subject(card, folder, folder)
    late = {name: value for name, value in AT_ONCE.items() if subject.has(name)}
    wanted = {"steps": 2, "checkpoint_every": 500, "ramp_length": 0, "val_every": 1, **late, **fields}
    return small_method(subject, **wanted)


def tuning_of(card: Card, folder: Path) -> Finetune:
    """A card's fine-tuning in two steps of a canvas each, a checkpoint after each."""
    made = small_tuning(Subject(card, folder, folder))
    return made.model_copy(update={"steps": 2, "checkpoint_every": 1})


def distinct(cards: Iterable[Card], small: Callable[[Card, Path], Component]) -> list[Card]:
    """The cards that lead to components of their own; of those that are equal once they are small, the
    first."""
    found: dict[tuple[type[Component], str], Card] = {}
    for card in cards:
        made = small(card, Path())
        found.setdefault((type(made), canonical(made.key_settings())), card)
    return list(found.values())


def segmenter(method: Ssl) -> dict[str, Component]:
    return {"backbone": VNet(filters=2, norm="group"), "ssl": method}


def sam(tuned: Finetune | None = None, **others: Component) -> dict[str, Component]:
    tuned = tuned or Lora.model_validate({"steps": 2, "batch": 1, "checkpoint_every": 1})
    return {"stitch": GridStitch(), "foundation": SamToy(canvas=96), "finetune": tuned, **others}


@dataclass(frozen=True)
class Runs:
    """Runs stages below a folder, on one device."""

    folder: Path
    device: str = "cpu"
    classes: int = 3
    ahead: int | None = None

    @property
    def prepared(self) -> Artefact:
        return inputs_of(self.folder, self.classes).clean

    @property
    def labelled(self) -> Artefact:
        """Pseudo-labels of every unlabelled case."""
        return inputs_of(self.folder, self.classes).pseudo

    def __call__(
        self,
        stage: ModuleType,
        components: Mapping[str, Component],
        name: str,
        inputs: Mapping[str, Artefact] | None = None,
        kill_at: int | None = None,
        stopping: Callable[[], bool] = goes_on,
        watch: Callable[[int, float], bool] = watch_nothing,
        **settings: Any,
    ) -> Artefact:
        """What a stage leaves; the same ``name`` goes on from what an earlier run of it left behind."""

        def progress(done: int, total: int, **values: float) -> None:
            if done == kill_at:
                raise Killed

        place = self.folder / name
        for folder in ("out", "scratch"):
            (place / folder).mkdir(parents=True, exist_ok=True)
        told = {"split": {"labeled": 1}, "patch": PATCH, "rot_flip": False, "pseudo": "none", **settings}
        ctx = StageContext(
            components,
            settings_of(stage, **told),
            {"prepare": self.prepared, **(inputs or {})},
            1,
            place / "out",
            place / "scratch",
            device=self.device,
            ahead=self.ahead,
            progress=no_progress if kill_at is None else progress,
            stopping=stopping,
            watch=watch,
        )
        stage.run(ctx)
        return artefact_of(stage_of(stage), place / "out")


def content(artefact: Artefact) -> dict[str, bytes]:
    """The files of an artefact."""
    paths = (path for path in artefact.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(artefact.folder)): path.read_bytes() for path in paths}
