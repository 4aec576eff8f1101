"""What a step of re-training draws: the share on foreground, and labels that belong to augmented images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.base import Ssl
from sfrbench.components.split import Split
from sfrbench.engine.context import StageContext
from sfrbench.maths.sampling import Volume
from sfrbench.stages.retrain.data import Data
from sfrbench.stages.retrain.recipe import RetrainSettings
from sfrbench.stages.settings import SplitSettings

SHAPE, PATCH = (40, 36, 28), (12, 12, 8)
#: Of class 1 a single voxel, and of class 2 two: hardly ever in a random crop.
RARE = {(30, 5, 20): 1, (3, 30, 4): 2, (4, 30, 4): 2}


class Made:
    """Volumes of one case, with grey levels that are ten times its labels."""

    classes = ("background", "one", "two")

    def __init__(self) -> None:
        self.label = np.zeros(SHAPE, np.uint8)
        for place, kind in RARE.items():
            self.label[place] = kind

    def image(self, case: str) -> Volume:
        return 10 * self.label.astype(np.float32)

    def __getitem__(self, case: str) -> Volume:
        return self.label


def data(tmp_path: Path, rot_flip: bool = True, **fields: Any) -> Data:
    ssl = Catalog.read().card("ssl", "supervised_nnunet").component(fields)
    assert isinstance(ssl, Ssl)
    told = RetrainSettings(split=SplitSettings(), patch=PATCH, rot_flip=rot_flip, pseudo="none")
    made: Any = Made()
    ctx = StageContext({"ssl": ssl}, told, {}, 1, tmp_path, tmp_path)
    return Data(ctx, ssl, made, Split(("a",), (), (), ()), made, None)


@pytest.mark.parametrize("augment", ["turns", "nnunet"])
@pytest.mark.parametrize(("batch", "sure"), [(2, 1), (4, 1), (6, 2)])
def test_exactly_the_last_patches_hold_foreground(
    batch: int, sure: int, augment: str, tmp_path: Path
) -> None:
    drawn = data(tmp_path, batch_labeled=batch, augment=augment)
    held = np.array([(drawn.drawn(step).labels.numpy() > 0).any((1, 2, 3)) for step in range(40)])
    plain = held[:, : batch - sure]
    assert plain.mean() < 0.25
    # a voxel alone loses its label where a turned or scaled crop passes it by
    assert held[:, batch - sure :].mean() > 0.75
    assert held[:, batch - sure :].all() or augment == "nnunet"


def test_labels_are_of_the_image_before_intensities_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfrbench.maths.augment.CHANGES", [])
    drawn = data(tmp_path)
    warped = 0
    for step in range(60):
        found = drawn.drawn(step)
        images, labels = found.images.numpy()[:, 0], found.labels.numpy()
        exact = set(np.unique(images)) <= {0, 10, 20}
        warped += not exact
        if exact:
            assert (images == 10 * labels).all()
        assert (images[labels > 0] > 0).all()
    assert 5 < warped < 40


@pytest.mark.parametrize("rot_flip", [False, True])
def test_a_step_repeats_and_mirrors_only_where_the_dataset_allows_it(rot_flip: bool, tmp_path: Path) -> None:
    one, two = (data(tmp_path, rot_flip) for _ in range(2))
    mirrored = []
    for step in (7, 3, 7):
        first, second = one.drawn(step), two.drawn(step)
        assert (first.images == second.images).all()
        assert (first.labels == second.labels).all()
    for step in range(20):
        patches = one._patches(["a", "a"], 5, step)
        mirrored += [axis for patch in patches for axis in getattr(patch.view, "mirrored", ())]
    assert bool(mirrored) == rot_flip
