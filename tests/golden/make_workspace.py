"""Makes the golden workspace of this version, and notes the fields of its files.

    python tests/golden/make_workspace.py            # tests/golden/workspace/VERSION.tar.xz, formats.json
    python tests/golden/make_workspace.py --fields   # formats.json alone

For a release, and where a format changes. The workspaces of earlier versions stay: tests/test_formats.py
opens each. A field that is gone, or of another type, needs a raised number in sfrbench/files/formats.py, and
a note in docs/explanation/formats.md; until then this script refuses.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import nibabel  # noqa: E402
import numpy as np  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from sfrbench.cli import main  # noqa: E402
from sfrbench.version import __version__  # noqa: E402
from tests.support.formats import FIELDS, changes, entry_of  # noqa: E402
from tests.support.places import GOLDEN  # noqa: E402

SPEC = """\
title: One small run with every stage
description: Kept as a file that later versions must read.
dataset: {name: phantom, labeled: 1, val: 1}
protocol: strict
base:
  stitch: golden
  foundation: sam_toy
  finetune: lora_r1
  backbone: {name: nnunet_plain, filters: 2, max_filters: 4}
  ssl: mean_teacher
arms:
  - {name: sfr_plus, label: SFR+_MT, pseudo: offline, selector: quantile}
  - {name: clicks, label: Clicks, stages: [interact, evaluate], prompter: {name: clicks, number: 1}}
  - {name: other, label: Another tool, predictions: predicted}
seeds: [0]
search:
  arm: sfr_plus
  params: {protocol.largest_component: {choices: [false, true]}}
  metric: dice
  trials: 1
  sampler: grid
report:
  - {table: results, metrics: [dice, hd95]}
  - {pairs: [[sfr_plus, other]]}
  - {pseudo_labels: true}
  - {features: {arms: [sfr_plus]}}
  - {canvases: 1}
profiles:
  smoke:
    dataset.train_cases: 3
    dataset.test_cases: 1
    dataset.shape: [16, 16, 16]
    dataset.patch: [16, 16, 16]
    dataset.stride: [16, 16, 16]
    selector.rounds: 1
"""
CARD = """\
target: sfrbench.components.stitch.grid:GridStitch
summary: A card of somebody's own.
label: "Stitch (golden)"
preset: {scale: 2}
"""
CONFIG = """\
workspace: runs
data: {phantom: .}
executors: {local: {workers_per_gpu: 2}}
"""
OPTIONS = ("--profile", "smoke", "--registry", "cards")
COMMANDS = (
    ("run", "golden.yaml", *OPTIONS, "--tracking-uri", "none"),
    ("search", "golden.yaml", *OPTIONS, "--tracking-uri", "none"),
    ("export", "golden.yaml", "sfr_plus", "exported", "--seed", "0", *OPTIONS),
    ("results", "golden.yaml", *OPTIONS, "--out", "results.csv"),
)
#: What is found out again, is empty, or is the page's alone.
LEFT_OUT = ("locks", "tmp", "partial", "running", "working", "figures", "fingerprints.json", "index.html")
PLACE = "/made/elsewhere/golden.yaml"


def make(folder: Path) -> None:
    """The specification, what it needs, its workspace, an export and a frame of results."""
    (folder / "golden.yaml").write_text(SPEC)
    (folder / "config.yaml").write_text(CONFIG)
    for name in ("cards/stitch", "predicted"):
        (folder / name).mkdir(parents=True)
    (folder / "cards" / "stitch" / "golden.yaml").write_text(CARD)
    cube = np.pad(np.ones((6, 6, 6), np.uint8), 5)
    nibabel.save(nibabel.Nifti1Image(cube, np.eye(4)), folder / "predicted" / "p100000.nii.gz")
    with contextlib.chdir(folder):
        for command in COMMANDS:
            done = CliRunner().invoke(main, list(command), catch_exceptions=False)
            if done.exit_code:
                sys.exit(f"sfrbench {' '.join(command)}: exit {done.exit_code}\n{done.output}")
    for claim in folder.glob("runs/journal/*.spec"):
        claim.write_text(json.dumps({**json.loads(claim.read_text()), "path": PLACE}))


def formats(folder: Path) -> dict[str, Any]:
    """The fields of its files, by format."""
    patterns = {
        "record.json": "runs/store/*/*/record.json",
        "journal": "runs/journal/*.json",
        "provenance.json": "runs/reports/**/provenance.json",
        "config.json": "exported/config.json",
    }
    read = {name: [json.loads(path.read_text()) for path in folder.glob(at)] for name, at in patterns.items()}
    return {name: entry_of(values, name) for name, values in read.items()}


def lost(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Fields that are gone or of another type, though the number of their format is the same."""
    return [
        f"{name}: {change}"
        for name, entry in old.items()
        for change in changes(entry, new[name])
        if entry["format"] == new[name]["format"] and not _added(change, entry)
    ]


def _added(change: str, entry: Mapping[str, Any]) -> bool:
    return change.startswith("new: ") and change.split()[1] not in entry["fields"]


def pack(folder: Path, out: Path) -> None:
    """All of it, in an order and with owners and times that say nothing of who made it."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return None if Path(info.name).name in LEFT_OUT else info

    with tarfile.open(out, "w:xz", preset=9) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name, filter=plain)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        found = formats(Path(name))
        if FIELDS.is_file() and (gone := lost(json.loads(FIELDS.read_text()), found)):
            sys.exit("gone, while the number of the format is the same:\n" + "\n".join(gone))
        FIELDS.write_text(json.dumps(found, indent=1) + "\n")
        if sys.argv[1:] != ["--fields"]:
            archive = GOLDEN / "workspace" / f"{__version__}.tar.xz"
            archive.parent.mkdir(exist_ok=True)
            pack(Path(name), archive)
            print(f"{archive}: {archive.stat().st_size} bytes")
