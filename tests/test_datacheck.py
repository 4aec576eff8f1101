"""data check: volumes in ml, notes, duplicates, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.datacheck import check, summary
from tests.data_writers import la_file, volume, write_la, write_la_case


def test_check_reports_volumes_duplicates_and_faults(tmp_path: Path) -> None:
    write_la(tmp_path, ["A1", "B2", "C3"], ["D4"])
    image, label = volume(seed=0)
    write_la_case(tmp_path, "D4", image=image, label=label)  # the image of A1, in the test list
    la_file(tmp_path, "C3").write_bytes(b"no HDF5")
    write_la_case(tmp_path, "B2", image=volume(seed=5)[0], label=np.zeros_like(label))
    seen: list[tuple[int, int]] = []
    reports = {
        r.case: r for r in check(LeftAtrium(), tmp_path, lambda done, total: seen.append((done, total)))
    }
    assert reports["A1"].volumes == {"left atrium": pytest.approx(label.sum() * 0.625**3 / 1000)}
    assert reports["A1"].intensity == (float(image.min()), float(image.max()))
    assert reports["A1"].shape == (20, 18, 16)
    assert reports["A1"].sound
    assert reports["D4"].duplicate_of == "A1"
    assert reports["D4"].subset == "test"
    assert reports["B2"].notes == ("the label has no foreground voxel",)
    assert not reports["C3"].sound
    assert "HDF5" in reports["C3"].faults[0].what
    assert seen[-1] == (4, 4)
    found = summary(LeftAtrium(), tmp_path)
    assert (found.train, found.test, found.classes) == (3, 1, ("background", "left atrium"))
    (tmp_path / "test.list").unlink()
    assert "missing" in summary(LeftAtrium(), tmp_path).faults[0].what


def test_generated_data_need_no_folder() -> None:
    dataset = Phantom(shape=(16, 16, 16), train_cases=2, test_cases=1)
    assert [report.sound for report in check(dataset, None)] == [True] * 3
    assert (summary(dataset, None).train, summary(dataset, None).megabytes) == (2, 0.0)
