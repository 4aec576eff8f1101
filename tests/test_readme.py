"""The README's worked examples are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from sfrbench.components.dataset.phantom import Phantom
from tests.support.data_writers import write_manifest, write_nifti
from tests.support.loaded import Process
from tests.support.places import ROOT


def block(start: str) -> str:
    """The fenced block of the README whose first line begins with ``start``."""
    blocks = re.findall(r"```\w*\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return next(text for text in blocks if text.startswith(start))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(block("# mine.yaml"))
    (tmp_path / "my_stitch.py").write_text(block("# my_stitch.py"))
    card = tmp_path / "my_registry" / "stitch" / "reversed.yaml"
    card.parent.mkdir(parents=True)
    card.write_text(block("# my_registry/stitch/reversed.yaml"))
    return tmp_path


def sfrbench(folder: Path, *arguments: str) -> str:
    process = Process(*arguments, cwd=folder, env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"})
    said = process.communicate(timeout=240)
    assert process.returncode == 0, "".join(said)
    return said[0]


def test_the_first_own_experiment(folder: Path) -> None:
    assert "sound, 9 cells" in sfrbench(folder, "validate", "mine.yaml", "--profile", "cpu")


def test_an_experiment_that_extends_another(tmp_path: Path) -> None:
    (tmp_path / "longer.yaml").write_text(block("# longer.yaml"))
    assert "sound, 18 cells" in sfrbench(tmp_path, "validate", "longer.yaml", "--profile", "cpu")


def test_another_tools_results(tmp_path: Path) -> None:
    (tmp_path / "tools.yaml").write_text(block("# tools.yaml"))
    said = sfrbench(tmp_path, "validate", "tools.yaml", "--profile", "cpu")
    assert "sound, 12 cells" in said


@pytest.mark.slow
def test_the_first_own_component(folder: Path) -> None:
    shown = sfrbench(folder, "show", "stitch/reversed", "--registry", "my_registry")
    assert "Stitch (reversed)" in shown
    assert "step = 1" in shown
    text = (folder / "mine.yaml").read_text()
    arms = '  - {name: rev, pseudo: offline, stitch: reversed}\n  - {name: r4, label: "SFR_MT, r = 4"}\n'
    text = text.split("arms:")[0] + "arms:\n" + arms + "seeds: [0]\n"
    (folder / "mine.yaml").write_text(text)
    output = sfrbench(folder, "run", "mine.yaml", "--profile", "smoke", "--registry", "my_registry")
    assert "0 failed" in output
    assert "report:" in output
    planned = sfrbench(folder, "plan", "mine.yaml", "--profile", "smoke", "--registry", "my_registry")
    assert "to run" in planned
    assert "no effect" not in planned


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
def test_own_data_of_twenty_images_and_three_labels(folder: Path) -> None:
    """The README's commands, in profile smoke and with every item that looks at unlabelled cases."""
    _own_data(folder / "DIR", 20, 3)
    arm = "{name: plus, label: SFR+, pseudo: offline, selector: tau}"
    items = "{rounds: true}, {kde: confidence}, {features: {}}, {canvases: 1}"
    text = block("# own.yaml").replace("pseudo: offline}]", f"pseudo: offline}}, {arm}]")
    text = text.replace("{montage: 3}]", f"{{montage: 3}}, {items}]")
    text += block("profiles:\n  smoke")
    (folder / "own.yaml").write_text(text)
    commands = block("sfrbench data check decathlon").splitlines()
    check, run, predict = (line.partition("#")[0].split()[1:] for line in commands)
    checked = sfrbench(folder, *check)
    assert "note: 17 of 20 cases have no label and train unlabelled" in checked
    assert checked.count("NO LABEL") == 17
    ran = sfrbench(folder, *(word.replace("cpu", "smoke") for word in run))
    assert "profile smoke uses foundation: sam_toy in the place of sam_vit_b" in ran
    assert "in the place of decathlon" not in ran
    assert "0 failed" in ran
    out = folder / "runs" / "reports" / "own" / "smoke"
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (out / "index.html").read_text(encoding="utf-8")))
    assert "17 of 17 unlabelled cases have no label" in page
    assert "no seed has a result: no unlabelled case has a label" in page  # the row of the pseudo-labels
    assert "No unlabelled case has a label to compare with." in page  # confidence against Dice
    assert "No features: no unlabelled case has a label" in page
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
