"""What lies in a store: artefacts, checkpoints, notes of failures, and what dead processes left."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from sfrbench.errors import StoreError
from sfrbench.files.atomic import read_file
from sfrbench.store.artefact import RECORD, read_record
from sfrbench.store.locks import abandoned
from sfrbench.store.store import Store

Link = tuple[str, str]  # stage and key
Kind = Literal["artefact", "checkpoint", "failure", "damaged", "temporary", "work", "lock"]

_KEY = re.compile(r"[0-9a-f]{32}")
_NODES: dict[str, Kind] = {"partial": "checkpoint", "failed": "failure"}


class _Told(BaseModel):
    """What a record says of the artefact's place in the graph."""

    stage: str
    key: str
    inputs: dict[str, Link] = {}
    equal_to: str = ""


@dataclass(frozen=True)
class Item:
    """One thing in a store that can be removed by itself."""

    kind: Kind
    path: Path
    stage: str = ""
    key: str = ""  # of the node; of an entry of ``work``, of the node that it leads to
    inputs: tuple[Link, ...] = ()
    equal_to: str = ""  # the key of the artefact whose files these are, too
    linked: bool = False  # its folder is a link to somewhere else, which others may use as well

    @property
    def link(self) -> Link:
        return self.stage, self.key


@dataclass(frozen=True)
class Contents:
    """Everything in a store."""

    items: tuple[Item, ...]

    @classmethod
    def of(cls, store: Store) -> Contents:
        """Reads every record. Raises ``OSError`` where a folder cannot be read."""
        folders = [path for path in sorted(store.root.iterdir()) if path.is_dir()]
        return cls(tuple(item for folder in folders for item in _in(folder)))

    @cached_property
    def artefacts(self) -> dict[Link, Item]:
        return {item.link: item for item in self.items if item.kind == "artefact"}


def _in(folder: Path) -> Iterator[Item]:
    linked = folder.is_symlink()
    if folder.name == "tmp":
        yield from (Item("temporary", path, linked=linked) for path in abandoned(folder))
        return
    for path in sorted(folder.iterdir()):
        yield from (replace(item, linked=linked) for item in _at(folder, path))


def _at(folder: Path, path: Path) -> Iterator[Item]:
    if folder.name == "damaged":
        yield Item("damaged", path)
    elif folder.name == "work":
        yield from _work(path)
    elif folder.name == "locks":
        stage, _, key = path.name.removesuffix(".lock").partition("-")
        if path.suffix == ".lock" and _KEY.fullmatch(key) and stage not in ("work", "search"):
            yield Item("lock", path, stage, key)
    elif folder.name in _NODES:
        stage, _, key = path.name.partition("-")
        if _KEY.fullmatch(key):
            yield Item(_NODES[folder.name], path, stage, key)
    else:
        yield from _artefact(path)


def _work(path: Path) -> Iterator[Item]:
    with contextlib.suppress(OSError, ValueError):  # it leads nowhere, but is none of ours either
        stage, _, work = path.name.partition("-")
        if _KEY.fullmatch(work):
            yield Item("work", path, stage, read_file(path).decode())


def _artefact(path: Path) -> Iterator[Item]:
    """An artefact by its record, or, where that is missing or broken, by its name; nothing else."""
    stage, key = path.parent.name, path.name
    told = None
    with contextlib.suppress(OSError, StoreError, ValueError):
        record = read_record(read_file(path / RECORD))
        told = None if record is None else _Told.model_validate(record)
    if told is not None and (told.stage, told.key) == (stage, key):
        yield Item("artefact", path, stage, key, tuple(told.inputs.values()), told.equal_to)
    elif path.is_dir() and _KEY.fullmatch(key):
        yield Item("artefact", path, stage, key)
