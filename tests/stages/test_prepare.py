"""prepare: what it writes, and how it goes on after a kill or a broken case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom

from sfrbench.components.base import Case, Dataset
from sfrbench.components.dataset.abdomenct1k import AbdomenCt1k
from sfrbench.components.dataset.geometry import restore
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.engine.context import StageContext
from sfrbench.engine.volumes import CaseInfo, Volumes
from sfrbench.errors import DataError, NotReadyError
from sfrbench.stages.prepare import run as prepare
from sfrbench.stages.prepare.case import deep_enough
from sfrbench.store.store import Store
from tests.support.data_writers import (
    la_file,
    volume,
    write_abdomen_case,
    write_la,
    write_la_case,
    write_lists,
)
from tests.support.stores import contents


def context(tmp_path: Path, dataset: Dataset, root: Path | None = None, out: str = "out") -> StageContext:
    for name in (out, "scratch"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    return StageContext({"dataset": dataset}, {}, {}, 0, tmp_path / out, tmp_path / "scratch", data_root=root)


def test_artefact_is_read_back_by_volumes(tmp_path: Path) -> None:
    dataset = Phantom(shape=(16, 16, 16), train_cases=3, test_cases=2)
    store = Store(tmp_path / "store")
    folder = store.new_folder()
    ctx = StageContext({"dataset": dataset}, {}, {}, 0, folder, store.scratch("prepare", "k"))
    prepare.run(ctx)
    assert ctx.notes["cases"] == 5
    volumes = Volumes(store.publish("prepare", "k", folder, {}))
    assert volumes.classes == ("background", "organ")
    assert (volumes.train, volumes.test) == dataset.case_lists(None)
    for case in (*volumes.train, *volumes.test):
        read = dataset.read_case(None, case)
        image = volumes.image(case)
        np.testing.assert_array_equal(image, read.image)
        np.testing.assert_array_equal(volumes.labels([case], "evaluate")[case], read.label)
        assert image.flags.c_contiguous
        info = volumes.case(case)
        assert info.shape == (16, 16, 16)
        assert info.range == pytest.approx(tuple(np.percentile(image, [0.5, 99.5])))


def test_generated_data_need_no_folder_and_others_do(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="--data"):
        prepare.run(context(tmp_path, LeftAtrium()))


class _Kill(BaseException):
    """Stands for the end of the process: nothing catches it."""


class _Dying(LeftAtrium):
    """Dies on the third case; counts what it reads."""

    def read_case(self, root: Path | None, case: str) -> Case:
        READ.append(case)
        if case == "C3" and len(READ) <= 3:
            raise _Kill
        return super().read_case(root, case)


READ: list[str] = []


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    root = write_la(tmp_path / "la")
    whole = context(tmp_path / "whole", LeftAtrium(), root)
    prepare.run(whole)
    READ.clear()
    with pytest.raises(_Kill):
        prepare.run(context(tmp_path / "cut", _Dying(), root))
    kept = tmp_path / "cut" / "scratch"
    (kept / "images" / "C3.tmp").write_bytes(b"half a file")  # what a kill in the middle of a write leaves
    np.save(kept / "images" / "C3.npy", np.zeros(3))  # an image without its marker does not count
    again = context(tmp_path / "cut", _Dying(), root, out="out2")
    prepare.run(again)
    assert READ == ["A1", "B2", "C3", "C3", "D4"]
    first, second = contents(whole.out), contents(again.out)
    index = json.loads(second.pop("index.json"))
    assert {**json.loads(first.pop("index.json")), "dataset": "_Dying"} == index
    assert first == second


def test_broken_cases_come_together_and_the_others_are_kept(tmp_path: Path) -> None:
    root = write_la(tmp_path / "la")
    la_file(root, "A1").write_bytes(b"no HDF5")
    la_file(root, "D4").unlink()
    seen: list[tuple[int, int]] = []
    ctx = context(tmp_path, LeftAtrium(), root)
    ctx = StageContext(
        ctx.components,
        {},
        {},
        0,
        ctx.out,
        ctx.scratch,
        data_root=root,
        progress=lambda d, t, **_: seen.append((d, t)),
    )
    with pytest.raises(DataError) as caught:
        prepare.run(ctx)
    assert [problem.where.split(",")[0] for problem in caught.value.problems] == ["case A1", "case D4"]
    assert not list(ctx.out.iterdir())
    assert sorted(path.stem for path in (ctx.scratch / "cases").iterdir()) == ["B2", "C3"]
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    for number, case in ((0, "A1"), (3, "D4")):
        image, label = volume(seed=number)
        write_la_case(root, case, image=image, label=label)
    prepare.run(ctx)
    assert (ctx.out / "index.json").is_file()


def test_empty_foreground_is_a_warning(tmp_path: Path) -> None:
    root = write_la(tmp_path / "la")
    image, label = volume()
    write_la_case(root, "B2", image=image, label=np.zeros_like(label))
    ctx = context(tmp_path, LeftAtrium(), root)
    prepare.run(ctx)
    assert ctx.notes["warnings"] == {"B2": ["the label has no foreground voxel"]}


def _as_it_is(dataset: Dataset) -> Dataset:
    """The same, whose volumes keep their slices."""
    return dataset.model_copy(update={"min_depth": None})


class _Outside(Phantom):
    """Knows nothing of a least depth: its cases are finished as they are."""

    def read_case(self, root: Path | None, case: str) -> Case:
        return _as_it_is(Phantom(**self.model_dump())).read_case(root, case)


@pytest.mark.parametrize("made", [Phantom, _Outside])
@pytest.mark.parametrize(("old", "new"), [(16, 17), (16, 24), (17, 40), (16, 16), (20, 8)])
def test_shallow_volumes_are_interpolated_along_z_and_come_back(
    tmp_path: Path, made: type[Phantom], old: int, new: int
) -> None:
    dataset = made(shape=(16, 16, old), train_cases=1, test_cases=1, min_depth=new)
    ctx = context(tmp_path, dataset)
    prepare.run(ctx)
    index = json.loads((ctx.out / "index.json").read_text())
    case = index["train"][0]
    entry, plain = index["cases"][case], _as_it_is(dataset).read_case(None, case)
    image = np.load(ctx.out / "images" / f"{case}.npy")
    label = np.load(ctx.out / "labels" / f"{case}.npy")
    depth = max(old, new)
    assert image.shape == label.shape == tuple(entry["shape"]) == (16, 16, depth)
    assert entry["spacing"][2] * depth == pytest.approx(plain.spacing[2] * old)
    info = CaseInfo(tuple(entry["shape"]), tuple(entry["spacing"]), None, (0, 1), entry["source"])
    np.testing.assert_array_equal(restore(label, info)[0], plain.label)
    if old < new:
        centres = [(np.arange(n) + 0.5) / n for n in (old, new)]
        wanted = np.apply_along_axis(lambda line: np.interp(centres[1], centres[0], line), 2, plain.image)
        np.testing.assert_allclose(image, (wanted - wanted.mean()) / wanted.std(), atol=1e-5)


def test_an_interpolated_volume_is_z_scored_once(tmp_path: Path) -> None:
    """To the bit the float64 formula: of these numbers all steps are exact, unless they are z-scored before.

    Each pair of slices (v, -v) becomes v, v / 2, -v / 2, -v; the mean is 0, and as the mean of v² is 6.4, the
    variance is 0.625 * 6.4 = 4. Before, the standard deviation is the root of 6.4.
    """
    first = np.broadcast_to(np.array([5, 2, -1, 1, 1], np.float32)[:, None], (5, 8))
    image, label = np.stack([first, -first], axis=2), volume(shape=(5, 8, 2))[1]
    root = write_la(tmp_path / "la")
    write_la_case(root, "B2", image=image, label=label)
    dataset = LeftAtrium(min_depth=4)
    wanted = image.astype(np.float64) @ np.array([[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]])
    wanted = (wanted - wanted.mean()) / wanted.std()
    np.testing.assert_array_equal(dataset.read_case(root, "B2").image, wanted)
    twice = deep_enough(_as_it_is(dataset).read_case(root, "B2"), 4).image
    assert not np.array_equal(twice, wanted)
    np.testing.assert_allclose(twice, wanted, atol=1e-6)


def test_keys_of_datasets_without_a_least_depth_stay() -> None:
    assert not {"min_depth", "deepened"} & set(Phantom().key_settings())
    settings = Phantom(min_depth=96).key_settings()
    assert (settings["min_depth"], settings["deepened"]) == (96, 3)


def test_interpolated_volumes_keep_the_scale_of_their_dataset(tmp_path: Path) -> None:
    """Intensities in units of the organs (nnU-Net) stay so; those of a z-scored volume are z-scored again."""
    for seed, case in enumerate(("Case_00001", "Case_00002")):
        write_abdomen_case(tmp_path / "raw", case, np.eye(4), seed=seed)
    write_lists(tmp_path / "raw", ["Case_00001"], ["Case_00002"])
    plain = AbdomenCt1k().read_case(tmp_path / "raw", "Case_00002").image
    for norm in ("dataset", "volume"):
        ctx = context(tmp_path / norm, AbdomenCt1k(min_depth=40, norm=norm), tmp_path / "raw")
        prepare.run(ctx)
        image = np.load(ctx.out / "images" / "Case_00002.npy")
        wanted = zoom(plain, (1, 1, 40 / 16), order=1, mode="nearest", grid_mode=True)
        if norm == "volume":
            wanted = (wanted - wanted.mean()) / wanted.std()
        np.testing.assert_allclose(image, wanted, atol=1e-5)
    assert abs(float(plain.mean())) > 0.2
