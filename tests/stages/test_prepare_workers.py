"""prepare with several processes, and what is kept when a run is killed or a file is mended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfrbench.components.base import Dataset
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.engine.context import StageContext
from sfrbench.errors import DataError, NotReadyError
from sfrbench.stages.prepare import run as prepare
from tests.support.data_writers import (
    la_file,
    volume,
    write_abdomen_case,
    write_la,
    write_la_case,
    write_lists,
)
from tests.support.odd_datasets import Deadly
from tests.support.places import ROOT
from tests.support.processes import children, wait_until_gone
from tests.support.stores import contents


def context(tmp_path: Path, dataset: Dataset, root: Path | None, key: str) -> StageContext:
    """As a node with this key would run."""
    out, scratch = tmp_path / f"out-{key}", tmp_path / "partial" / f"prepare-{key}"
    for folder in (out, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    return StageContext({"dataset": dataset}, {}, {}, 0, out, scratch, data_root=root)


def test_workers_change_no_bit_and_no_key(tmp_path: Path) -> None:
    root = write_la(tmp_path / "la", [f"A{i}" for i in range(5)], ["T1"])
    made = []
    for workers in (1, 3):
        dataset = LeftAtrium(min_depth=20, workers=workers)
        assert dataset.key_settings() == LeftAtrium(min_depth=20).key_settings()
        ctx = context(tmp_path / str(workers), dataset, root, "k")
        prepare.run(ctx)
        made.append(contents(ctx.out))
    assert made[0] == made[1]
    assert len(made[0]) == 2 * 6 + 1


def test_workers_name_broken_cases_and_survive_a_dead_process(tmp_path: Path) -> None:
    root = write_la(tmp_path / "la", ["A1", "B2", "C3", "D4", "E5"], ["F6"])
    la_file(root, "E5").write_bytes(la_file(root, "E5").read_bytes()[:900])
    ctx = context(tmp_path, Deadly(crop_seed=1, workers=2), root, "k")
    with pytest.raises(DataError) as caught:
        prepare.run(ctx)
    dead, broken = caught.value.problems
    assert dead.where == "case C3"
    assert "status 7" in dead.what
    assert broken.where == f"case E5, {la_file(root, 'E5')}"
    done = sorted(path.stem for path in (ctx.scratch / "cases").iterdir())
    assert done == ["A1", "B2", "D4", "F6"]


@pytest.mark.parametrize(("seed", "error"), [(2, NotReadyError), (3, RuntimeError)])
def test_what_stops_every_case_comes_out_of_a_worker(tmp_path: Path, seed: int, error: type) -> None:
    root = write_la(tmp_path / "la")
    with pytest.raises(error, match=r"needs a package|ZeroDivisionError"):
        prepare.run(context(tmp_path, Deadly(crop_seed=seed, workers=2), root, "k"))


def _start(folder: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path\n"
        "from sfrbench.stages.prepare import run as prepare\n"
        "from sfrbench.stages.prepare.recipe import PrepareSettings\n"
        "from sfrbench.engine.context import StageContext\n"
        "from tests.support.odd_datasets import Slow\n"
        "dataset = Slow(shape=(16, 16, 16), train_cases=8, test_cases=2, workers=2)\n"
        "folder = Path(sys.argv[1]); (folder / 'out').mkdir(exist_ok=True, parents=True)\n"
        "told, scratch = PrepareSettings(fingerprint=''), folder / 'prepare-k'\n"
        "prepare.run(StageContext({'dataset': dataset}, told, {}, 0, folder / 'out', scratch))\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_run_killed_with_workers_goes_on(tmp_path: Path) -> None:
    first, cases = _start(tmp_path), tmp_path / "prepare-k" / "cases"
    end = time.monotonic() + 60
    while len(list(cases.glob("[!.]*.json"))) < 2:
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.02)
    workers = children(first.pid)
    assert len(workers) >= 2
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_until_gone(workers)
    kept = {path.stem: path.stat().st_mtime_ns for path in cases.glob("[!.]*.json")}
    assert 2 <= len(kept) < 10
    again = _start(tmp_path)
    assert again.wait(60) == 0
    assert len(list(cases.glob("[!.]*.json"))) == 10
    assert {case: (cases / f"{case}.json").stat().st_mtime_ns for case in kept} == kept
    whole = context(tmp_path / "whole", Phantom(shape=(16, 16, 16), train_cases=8, test_cases=2), None, "k")
    prepare.run(whole)
    ours, theirs = contents(tmp_path / "out"), contents(whole.out)
    assert ours.pop("index.json").replace(b'"Slow"', b'"Phantom"') == theirs.pop("index.json")
    assert ours == theirs


def test_a_mended_file_leaves_the_other_cases_as_they_are(tmp_path: Path) -> None:
    """Mending changes the fingerprint and so the key: the work folder is another one."""
    root = write_la(tmp_path / "la")
    la_file(root, "B2").write_bytes(b"no HDF5")
    with pytest.raises(DataError):
        prepare.run(context(tmp_path, LeftAtrium(), root, "before"))
    image, label = volume(seed=1)
    write_la_case(root, "B2", image=image, label=label)
    image, label = volume(seed=9)
    write_la_case(root, "D4", image=image, label=label)  # changed, too
    ctx = context(tmp_path, LeftAtrium(workers=2), root, "after")
    prepare.run(ctx)
    assert ctx.notes["adopted"] == 2
    plain = context(tmp_path / "plain", LeftAtrium(), root, "k")
    prepare.run(plain)
    assert "adopted" not in plain.notes
    assert contents(ctx.out) == contents(plain.out)
    other = context(tmp_path, LeftAtrium(downsample=2), root, "other")
    prepare.run(other)
    assert "adopted" not in other.notes


def test_cases_that_depend_on_others_are_made_again(tmp_path: Path) -> None:
    import numpy as np

    from sfrbench.components.dataset.abdomenct1k import AbdomenCt1k

    cases = ["Case_00001", "Case_00002"]
    for seed, case in enumerate(cases):
        write_abdomen_case(tmp_path / "raw", case, np.eye(4), seed=seed)
    write_lists(tmp_path / "raw", cases[:1], cases[1:])
    dataset = AbdomenCt1k(min_depth=20)
    prepare.run(context(tmp_path, dataset, tmp_path / "raw", "before"))
    write_abdomen_case(tmp_path / "raw", cases[0], np.eye(4), seed=7)
    ctx = context(tmp_path, dataset, tmp_path / "raw", "after")
    prepare.run(ctx)
    assert "adopted" not in ctx.notes
