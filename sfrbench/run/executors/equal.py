"""Nodes with different keys that turn out to do the same work, once what goes into them is there.

A key is made before anything runs, so that two thresholds of SFR+ have two keys even where they select the
same cases, and pseudo-labels are keyed by a node of SAM even where that node left SAM as it was. The digest
of the *work* is made when the inputs exist: from their contents, and from what a selector selected.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfrbench.engine.context import StageContext
from sfrbench.plan.graph import STAGE_VERSIONS, Node
from sfrbench.plan.resolve import digest
from sfrbench.store.store import Artefact

#: Written for people; no stage reads it.
_UNREAD = frozenset({"history.csv"})


def work_of(node: Node, context: StageContext, profile: str) -> str | None:
    """The digest of everything that decides what the node writes; none where that is not looked up."""
    if not _looked_up(node):
        return None
    parts = {kind: resolved.digest for kind, resolved in node.components.items()}
    inputs = dict(context.inputs)
    selected = None
    if "select" in node.inputs:
        from sfrbench.stages.selection import Selection

        selection = Selection.of(context)
        if selection is not None:
            selected = selection.outcome()
            del parts["selector"], inputs["select"]
    return digest(
        {
            "profile": profile,
            "stage": node.stage,
            "version": STAGE_VERSIONS[node.stage],
            "components": parts,
            "selected": selected,
            "settings": dict(node.settings),
            "inputs": {role: content_of(artefact) for role, artefact in inputs.items()},
            "seed": node.seed,
        }
    )


def _looked_up(node: Node) -> bool:
    """Not what comes before all others, nor scores of test cases, which take no time. Pseudo-labels are of
    many cases, and of the same ones in every round that leaves SAM as it is."""
    if node.stage == "evaluate":
        return node.inputs["prediction"][0] == "pseudolabel"
    return node.stage != "prepare"


def content_of(artefact: Artefact) -> str:
    """The digest of an artefact's files, whatever its key."""
    files: Mapping[str, Mapping[str, Any]] = artefact.record["files"]
    return digest(sorted((name, entry["sha256"]) for name, entry in files.items() if name not in _UNREAD))


def copy_files(twin: Artefact, out: Path) -> None:
    """The files of ``twin`` under ``out``, as further links to the same bytes where the disk can do that.

    Raises ``StoreError`` where one of them is damaged.
    """
    for name in twin.record["files"]:
        source, target = twin.path(name), out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, target)
