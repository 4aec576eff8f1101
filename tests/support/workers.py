"""What runs by several processes are compared by, and how a test sees what they work on."""

from __future__ import annotations

import json
from pathlib import Path

from sfrbench.run.signs import Sign, working

#: They hold seconds: what no two runs write alike.
TIMED = ("history.csv", "index.json")


def made(workspace: Path) -> dict[tuple[str, str, str], str]:
    """The hashes of a store's files, by stage, key and name, without those that hold times."""
    records = {path.parent: json.loads(path.read_text()) for path in workspace.glob("store/*/*/record.json")}
    return {
        (folder.parent.name, folder.name, name): entry["sha256"]
        for folder, record in records.items()
        for name, entry in record["files"].items()
        if name not in TIMED or folder.parent.name == "prepare"
    }


def begun(workspace: Path) -> Sign | None:
    """The sign of a process that is at a segmenter, perhaps before its first step."""
    return next((sign for sign in working(workspace) if sign.stage == "retrain"), None)


def training(workspace: Path) -> Sign | None:
    """The sign of a process that has begun to train a segmenter."""
    return next((sign for sign in working(workspace) if sign.stage == "retrain" and sign.done), None)
