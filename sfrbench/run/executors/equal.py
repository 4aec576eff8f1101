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
from sfrbench.plan.graph import Node
from sfrbench.plan.resolve import digest
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.pseudolabel import recipe as pseudolabel
from sfrbench.stages.select import recipe as select
from sfrbench.stages.settings import StageSettings
from sfrbench.store.store import Artefact

#: Written for people; no stage reads it.
_UNREAD = frozenset({"history.csv"})


def work_of(node: Node, context: StageContext[StageSettings], profile: str) -> str | None:
    """The digest of everything that decides what the node writes; None if that is not looked up."""
    recipe = recipe_of(node.stage)
    if not recipe.compared({role: stage for role, (stage, _) in node.inputs.items()}):
        return None
    parts = {kind: resolved.digest for kind, resolved in node.components.items()}
    inputs = dict(context.inputs)
    selected: Any = None
    if select.STAGE in node.inputs:
        from sfrbench.stages.select.selection import Selection

        selection = Selection.of(context)
        if selection is not None:
            selected = selection.left if node.stage == pseudolabel.STAGE else selection.outcome()
            del parts["selector"], inputs[select.STAGE]
    return digest(
        {
            "profile": profile,
            "stage": node.stage,
            "version": recipe.version,
            "components": parts,
            "selected": selected,
            "settings": node.settings.told(),
            "inputs": {role: content_of(artefact) for role, artefact in inputs.items()},
            "seed": node.seed,
        }
    )


def content_of(artefact: Artefact) -> str:
    """The digest of an artefact's files, whatever its key."""
    files: Mapping[str, Mapping[str, Any]] = artefact.record["files"]
    return digest(sorted((name, entry["sha256"]) for name, entry in files.items() if name not in _UNREAD))


def copy_files(twin: Artefact, out: Path) -> None:
    """Put the files of ``twin`` under ``out``, as hard links where the disk allows it.

    Raises ``StoreError`` where one of them is damaged.
    """
    for name in twin.record["files"]:
        source, target = twin.path(name), out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, target)
