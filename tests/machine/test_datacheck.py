"""data check: volumes in ml, notes, duplicates, faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfrbench.components.dataset.decathlon import Decathlon
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.errors import Problem
from sfrbench.machine.datacheck import CaseReport, by_class, check, examine, summary
from sfrbench.report.render.contact import ContactSheet, _look
from tests.support.data_writers import (
    la_file,
    volume,
    write_decathlon,
    write_la,
    write_la_case,
    write_la_scan,
    write_lists,
    write_nifti,
)


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
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert reports["D4"].leak
    assert reports["B2"].absent == ("left atrium",)
    found = summary(LeftAtrium(), tmp_path)
    assert (found.train, found.test, found.classes) == (3, 1, ("background", "left atrium"))
    (tmp_path / "test.list").unlink()
    assert "missing" in summary(LeftAtrium(), tmp_path).faults[0].what


def test_generated_data_need_no_folder() -> None:
    dataset = Phantom(shape=(16, 16, 16), train_cases=2, test_cases=1)
    assert [report.sound for report in check(dataset, None)] == [True] * 3
    assert summary(dataset, None).train == 2


def test_the_same_image_is_found_in_another_orientation(tmp_path: Path) -> None:
    root = write_decathlon(tmp_path, ["c1", "c2", "c3", "c4"], classes=3)
    image, label = volume(seed=0, classes=3)
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])
    write_nifti(root / "imagesTr" / "c3.nii.gz", image[::-1], turned)
    write_nifti(root / "labelsTr" / "c3.nii.gz", label[::-1] * 0 + (label[::-1] == 1), turned)
    reports = {report.case: report for report in check(Decathlon(test_cases=1), root)}
    twins = {case: report.duplicate_of for case, report in reports.items() if report.duplicate_of}
    assert twins in ({"c3": "c1"}, {"c1": "c3"})
    assert reports["c3"].absent == ("part 2",)
    assert reports["c3"].orientation == "LAS"
    said = by_class(list(reports.values()), ("background", "part 1", "part 2"))
    assert said[1].startswith("part 2: in 3 of 4 cases")


def test_the_same_scan_is_found_in_different_crops(tmp_path: Path) -> None:
    pytest.importorskip("nrrd", reason="pynrrd, the extra 'nrrd', is not installed")
    for case in ("A1", "B2"):
        write_la_scan(tmp_path, case)
    write_lists(tmp_path, ["A1"], ["B2"])
    one, two = check(LeftAtrium(least=16), tmp_path)
    assert one.shape != two.shape
    assert one.raw_shape == two.raw_shape == (64, 60, 12)
    assert (two.duplicate_of, two.leak) == ("A1", True)


def test_a_contact_sheet_has_pages_and_takes_broken_cases(tmp_path: Path) -> None:
    dataset = Phantom(shape=(16, 20, 16), train_cases=47, test_cases=5, organs=3)
    sheet = ContactSheet(tmp_path / "sheet.png", dataset.class_names(None), "phantom")
    for report, case in examine(dataset, None):
        sheet.add(report, case)
        assert len(sheet._tiles) < 48  # what is kept in memory
    broken = CaseReport("p000000", "train", faults=(Problem("case p000000", "cut short"),))
    sheet.add(broken, None)
    pages = sheet.close()
    assert [page.name for page in pages] == ["sheet.png", "sheet-2.png"]
    for page in pages:
        with Image.open(page) as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        for name in ("F0E442", "56B4E9", "D55E00"):  # the three organs' outlines
            assert tuple(bytes.fromhex(name)) in colours


def test_more_classes_than_colours_are_told_apart() -> None:
    looks = [_look(number) for number in range(1, 15)]
    assert len({(colour, str(dashes)) for colour, dashes in looks}) == 14
