"""Worked examples of the documentation, where more is looked at than that they run."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from docs.tools.blocks import write
from docs.tools.pages import Block, Page, pages, read
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.places import locations
from sfrbench.run.executors.ray.settings import RaySettings
from sfrbench.run.executors.settings import LocalSettings, settings_of
from sfrbench.run.executors.slurm.settings import SlurmSettings
from tests.support.data_writers import write_manifest, write_nifti
from tests.support.loaded import Process
from tests.support.places import ROOT


def page(name: str, section: str = "how-to") -> Page:
    return read(ROOT / "docs" / section / f"{name}.md")


def block(name: str, start: str) -> str:
    """The block of a page whose text begins with ``start``."""
    return next(each.text for each in page(name).blocks if each.text.startswith(start))


def write_files(name: str, folder: Path, section: str = "how-to") -> None:
    """The files of a page."""
    for each in page(name, section).blocks:
        if each.file:
            write(each, folder)


def sfrbench(folder: Path, *arguments: str) -> str:
    process = Process(*arguments, cwd=folder, env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"})
    said = process.communicate(timeout=240)
    assert process.returncode == 0, "".join(said)
    return said[0]


@pytest.mark.parametrize(
    ("name", "spec", "cells"),
    [
        ("write-an-experiment", "mine.yaml", 9),
        ("extend-a-specification", "longer.yaml", 18),
        ("score-label-maps-of-another-tool", "tools.yaml", 12),
    ],
)
def test_specifications_have_the_cells_that_they_ask_for(
    tmp_path: Path, name: str, spec: str, cells: int
) -> None:
    write_files(name, tmp_path)
    assert f"sound, {cells} cells" in sfrbench(tmp_path, "validate", spec, "--profile", "cpu")


@pytest.mark.slow
def test_the_first_own_component(tmp_path: Path) -> None:
    write_files("add-a-stitch", tmp_path)
    shown = sfrbench(tmp_path, "show", "stitch/reversed", "--registry", "my_registry")
    assert "Stitch (reversed)" in shown
    assert "step = 1" in shown
    own = ("reversed.yaml", "--profile", "smoke", "--registry", "my_registry")
    output = sfrbench(tmp_path, "run", *own)
    assert "0 failed" in output
    assert "report:" in output
    planned = sfrbench(tmp_path, "plan", *own)
    assert "to run" in planned
    assert "no effect" not in planned


@pytest.mark.parametrize(
    "written",
    [each for page in pages() for each in page.blocks if each.file == "config.yaml"],
    ids=lambda written: written.where,
)
def test_configuration_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Block
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write(written, tmp_path / "sfrbench")
    locations.config("data"), locations.configured_weights(), locations.workspace()
    settings_of("local", LocalSettings), settings_of("slurm", SlurmSettings), settings_of("ray", RaySettings)


@pytest.mark.parametrize(("line", "instead", "status"), [("", "", 0), ("(kept * error)", "error", 1)])
def test_the_test_of_the_tutorials_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, instead: str, status: int
) -> None:
    """It passes, and sees a loss that forgets its threshold."""
    write_files("03-own-method", tmp_path, "tutorials")
    method = tmp_path / "confident.py"
    written = method.read_text(encoding="utf-8")
    assert line in written
    method.write_text(written.replace(line, instead), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("confident", "test_confident"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    quiet = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    assert pytest.main([*quiet, str(tmp_path / "test_confident.py")]) == status


def _own_data(root: Path, images: int, labels: int) -> Path:
    """A folder in nnU-Net's layout, of generated volumes."""
    cohort = Phantom(shape=(32, 32, 16))
    for number in range(images):
        case = cohort.read_case(None, f"p{number:06d}")
        write_nifti(root / "imagesTr" / f"scan_{number:02d}_0000.nii.gz", case.image)
        if number < labels:
            write_nifti(root / "labelsTr" / f"scan_{number:02d}.nii.gz", case.label)
    manifest = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "numTraining": labels}
    return write_manifest(root, manifest, {"file_ending": ".nii.gz"})


@pytest.mark.slow
def test_own_data_of_twenty_images_and_three_labels(tmp_path: Path) -> None:
    """The page's commands, in profile smoke and with every item that looks at unlabelled cases."""
    name, folder = "bring-your-own-data", tmp_path
    _own_data(folder / "DIR", 20, 3)
    arm = "{name: plus, label: SFR+, pseudo: offline, selector: tau}"
    items = "{rounds: true}, {kde: confidence}, {features: {}}, {canvases: 1}"
    text = block(name, "title: Does SFR help").replace("pseudo: offline}]", f"pseudo: offline}}, {arm}]")
    text = text.replace("{montage: 3}]", f"{{montage: 3}}, {items}]")
    text += block(name, "profiles:\n  smoke")
    (folder / "own.yaml").write_text(text)
    commands = block(name, "sfrbench data check decathlon").splitlines()
    check, run, predict = (line.partition("#")[0].split()[1:] for line in commands)
    checked = sfrbench(folder, *check)
    assert "note: 17 of 20 cases have no label and train unlabelled" in checked
    assert checked.count("NO LABEL") == 17
    ran = sfrbench(folder, *(word.replace("cpu", "smoke") for word in run))
    assert "profile smoke uses foundation: sam_toy in the place of sam_vit_b" in ran
    assert "in the place of decathlon" not in ran
    assert "0 failed" in ran
    out = folder / "runs" / "reports" / "own" / "smoke"
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (out / "index.html").read_text(encoding="utf-8")))
    assert "17 of 17 unlabelled cases have no label" in shown
    assert "no seed has a result: no unlabelled case has a label" in shown  # the row of the pseudo-labels
    assert "No unlabelled case has a label to compare with." in shown  # confidence against Dice
    assert "No features: no unlabelled case has a label" in shown
    assert "of 17" in (out / "tables" / "rounds.csv").read_text(encoding="utf-8")
    opened = [json.loads(path.read_text()) for path in folder.glob("runs/store/*/*/ledger.json")]
    assert {case for ledger in opened for case in ledger["labels_opened"]} <= {
        "scan_00",
        "scan_01",
        "scan_02",
    }
    assert len(list(folder.glob("runs/store/prepare/*/labels/*.npy"))) == 3
    assert len(list(folder.glob("runs/store/prepare/*/images/*.npy"))) == 20
    shutil.copy(next((folder / "DIR" / "imagesTr").glob("*.nii.gz")), folder / "scan.nii.gz")
    sfrbench(folder, *(word.replace("cpu", "smoke") for word in predict))
    assert (folder / "labels.nii.gz").is_file()
