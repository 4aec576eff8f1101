"""The canvases stage: every pixel says which voxel it shows, and no label is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfrbench.components.base import Stitch
from sfrbench.components.foundation.toy import SamToy
from sfrbench.components.stitch.grid import GridStitch
from sfrbench.components.stitch.natural_mix import NaturalMixStitch
from sfrbench.components.stitch.slab3 import Slab3Stitch
from sfrbench.components.stitch.upsampled import UpsampledStitch
from sfrbench.conformance.material import artefact_of
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import Volumes
from sfrbench.stages.canvases import run as canvases
from sfrbench.store.store import Artefact
from tests.support.prepared import make_prepared
from tests.support.stages import settings_of


@pytest.fixture
def prepared(tmp_path: Path) -> Artefact:
    artefact = make_prepared(tmp_path / "prepared")
    for path in (artefact.folder / "labels").iterdir():
        path.unlink()  # so that a stage that opens one fails
    return artefact


def made(prepared: Artefact, out: Path, stitch: Stitch) -> Artefact:
    settings = {"split": {"labeled": 2}, "subset": "test", "patch": [16, 16, 32], "cases": 3}
    out.mkdir()
    components = {"stitch": stitch, "foundation": SamToy(canvas=96)}
    canvases.run(
        StageContext(
            components, settings_of(canvases, **settings), {"prepare": prepared}, 0, out, out / "scratch"
        )
    )
    return artefact_of("canvases", out)


def load(artefact: Artefact, folder: str, number: int) -> np.ndarray:
    return np.load(artefact.folder / folder / f"{number}.npy")


@pytest.mark.parametrize(
    "stitch", [GridStitch(), GridStitch(order="random", rotate_slices=True), GridStitch(rotate_canvas=True)]
)
def test_pixels_show_the_voxels_that_they_name(prepared, tmp_path, stitch):
    artefact = made(prepared, tmp_path / "out", stitch)
    entries = artefact.read_json("index.json")["canvases"]
    assert [(entry["case"], entry["role"]) for entry in entries] == [("case0", "train"), ("case5", "test")]
    for number, entry in enumerate(entries):
        image, voxels = load(artefact, "images", number), load(artefact, "voxels", number)
        assert image.shape == (1, 96, 96)
        volume = np.array(Volumes(prepared).image(entry["case"]))
        shown = voxels >= 0
        assert 16 * 16 * 30 == shown.sum() == len(set(voxels[shown].tolist()))  # each voxel of the patch once
        grey, true = image[0][shown].astype(float), np.ravel(volume)[voxels[shown]]
        inner = (grey > 0) & (grey < 255)
        assert np.corrcoef(grey[inner], true[inner])[0, 1] > 0.999


def test_natural_tiles_show_no_voxel_and_half_of_a_quarter_is_medical(prepared, tmp_path):
    artefact = made(prepared, tmp_path / "out", NaturalMixStitch(source="photographs", until=0.5))
    training, scored = load(artefact, "voxels", 0), load(artefact, "voxels", 1)
    assert 0.4 < (training >= 0).sum() / (scored >= 0).sum() < 0.6


def test_of_several_canvases_the_middle_one_is_kept(prepared, tmp_path):
    artefact = made(prepared, tmp_path / "out", UpsampledStitch())
    entry = artefact.read_json("index.json")["canvases"][1]
    assert (entry["canvas"], entry["canvases"]) == (16, 32)
    voxels = load(artefact, "voxels", 1)
    assert {int(number) % 30 for number in np.unique(voxels[voxels >= 0])} == {15}  # one slice in the middle


def test_channels_are_kept(prepared, tmp_path):
    artefact = made(prepared, tmp_path / "out", Slab3Stitch())
    assert load(artefact, "images", 1).shape == (3, 96, 96)
