"""Workspaces of made-up nodes, and records of who needs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from sfrbench.run.wanted import User
from sfrbench.store.artefact import Artefact
from sfrbench.store.store import Store

Link = tuple[str, str]
BYTES = 50_000  # of a node's file


def no_studies(_: Path) -> list[User]:
    """Of a workspace in which nothing was searched."""
    return []


def link(stage: str, name: str) -> Link:
    """Stage and key of a made-up node."""
    return stage, hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def make(store: Store, node: Link, *inputs: Link, work: str = "", equal_to: Link | None = None) -> Artefact:
    """Publish a node as a run would: under its lock; a twin's files are links."""
    stage, key = node
    with store.lock(stage, key):
        folder = store.new_folder()
        (folder / "deep").mkdir()
        if equal_to is None:
            (folder / "deep" / "a.bin").write_bytes(key.encode() * (BYTES // 32))
        else:
            (folder / "deep" / "a.bin").hardlink_to(store.folder(*equal_to) / "deep" / "a.bin")
        record = {
            "stage": stage,
            "key": key,
            "inputs": {f"in{n}": list(each) for n, each in enumerate(inputs)},
        }
        twin = {} if equal_to is None else {"equal_to": equal_to[1]}
        if not work:
            return store.publish(stage, key, folder, {**record, **twin})
        with store.lock("work", digest(work)):
            return store.publish(stage, key, folder, {**record, **twin}, digest(work))


def digest(name: str) -> str:
    return link("", name)[1]


def nodes(links: Iterable[Link]) -> str:
    """The part of a journal that says whose nodes."""
    entries = [{"stage": stage, "key": key} for stage, key in links]
    return json.dumps({"started": "2026-01-02T03:04:05", "nodes": entries})


def journal(workspace: Path, name: str, *links: Link, ending: str = ".json") -> Path:
    path = workspace / "journal" / f"{name}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nodes(links))
    return path


def whole(store: Store) -> set[Link]:
    """The artefacts that are there, each with every byte as its record says. Others must not be there."""
    found = set()
    fresh = Store(store.root)
    for folder in store.root.iterdir():
        for path in folder.iterdir() if folder.is_dir() else ():
            if (path / "record.json").is_file() and folder.name not in ("tmp", "damaged"):
                artefact = fresh.get(folder.name, path.name)
                for name in artefact.record["files"]:
                    artefact.path(name)
                found.add((folder.name, path.name))
            elif path.is_dir() and len(path.name) == 32 and folder.name != "tmp":
                raise AssertionError(f"{path} is neither whole nor absent")
    return found
