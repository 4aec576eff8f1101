"""Cases one after the other: what each leaves, and what a killed run finds of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfrbench.components.base import Settings
from sfrbench.engine.context import StageContext
from sfrbench.engine.disk_arrays import Arrays
from sfrbench.engine.inference import Kept, case_by_case


def context(folder: Path) -> StageContext[Settings]:
    (folder / "out").mkdir(exist_ok=True)
    (folder / "scratch").mkdir(exist_ok=True)
    return StageContext({}, Settings(), {}, 0, folder / "out", folder / "scratch")


def work(case: str) -> dict[str, Kept]:
    return {
        "labels": np.full(3, len(case), np.uint8),
        "rounds": Arrays({"1": np.arange(4)}),
        "said": {"who": case},
    }


def test_each_kind_has_a_file_of_its_kind(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    (ctx.scratch / ".own").mkdir()
    seconds = case_by_case(ctx, ["a.b", "c"], work)
    assert list(seconds) == ["a.b", "c"]
    assert sorted(path.name for path in ctx.out.iterdir()) == ["labels", "rounds", "said"]
    assert np.load(ctx.out / "labels" / "a.b.npy").tolist() == [3, 3, 3]
    with np.load(ctx.out / "rounds" / "c.npz") as kept:
        assert kept["1"].tolist() == [0, 1, 2, 3]
    assert json.loads((ctx.out / "said" / "c.json").read_text()) == {"who": "c"}


def test_a_finished_case_whose_file_is_gone_is_a_fault(tmp_path: Path) -> None:
    case_by_case(context(tmp_path), ["a", "b"], work)
    (tmp_path / "scratch" / "labels" / "a.npy").unlink()
    (tmp_path / "out" / "labels" / "a.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.npy"):
        case_by_case(context(tmp_path), ["a", "b"], work)
