"""The fields of files that later versions must read, as a line for each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sfrbench.files.formats import FORMATS
from tests.support.places import GOLDEN

#: The fields of every format, by ``tests/golden/make_workspace.py``.
FIELDS = GOLDEN / "formats.json"
#: What is keyed by names (of files, cells, nodes), each with the same fields.
NAMED: Mapping[str, set[str]] = {"record.json": {"files"}, "provenance.json": {"cells", "records"}}
#: What holds any names and values, and is not looked into.
OPEN: Mapping[str, set[str]] = {
    "record.json": {"components", "environment.packages", "git", "inputs", "notes", "settings"},
    "provenance.json": {
        "cells.*.axes", "git_now", "nodes", "protocol", "protocols", "records.*.git", "shown", "study",
    },
    "config.json": {
        "cell.axes", "components", "input.normalisation", "input.spacing_mm", "input.windows",
        "network.fields", "onnx_against_torch", "sha256", "trained",
    },
}  # fmt: skip
#: What a record has on some machines, or of some nodes, alone.
ELSEWHERE = {
    "arithmetic", "attention", "card", "outside", "peak_gpu_memory_mb", "precision", "precision_asked",
    "reserved_gpu_memory_mb", "self_check_faults",
}  # fmt: skip


def fields(value: Any, name: str, at: str = "") -> Iterator[tuple[str, str]]:
    """Path and type of each field of one file."""
    if at in OPEN.get(name, ()) or at in ELSEWHERE:
        yield at, "any"
    elif isinstance(value, dict):
        for key, item in value.items():
            last = "*" if at in NAMED.get(name, ()) else key
            yield from fields(item, name, f"{at}.{last}" if at else last)
    elif isinstance(value, list):
        yield at, "list"
        for item in value:
            if isinstance(item, dict):
                yield from fields(item, name, f"{at}[]")
    elif value is None:
        yield at, "null"
    else:
        yield at, "number" if type(value) in (int, float) else type(value).__name__


def entry_of(values: Sequence[Any], name: str) -> dict[str, Any]:
    """The number of a format, the types of all fields, and the fields that every one of these files has."""
    found = [list(fields(value, name)) for value in values]
    types: dict[str, set[str]] = {}
    for path, kind in (each for file in found for each in file):
        types.setdefault(path, set()).add(kind)
    in_all = set.intersection(*({path for path, _ in file} for file in found)) - ELSEWHERE
    return {
        "format": FORMATS[name],
        "fields": {path: " or ".join(sorted(types[path])) for path in sorted(types)},
        "in all": sorted(in_all),
    }


def noted() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(FIELDS.read_text(encoding="utf-8"))
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What files have that was not noted, and what they lack that all had when it was."""
    known = {path: set(kinds.split(" or ")) for path, kinds in old["fields"].items()}
    found = []
    for path, kinds in new["fields"].items():
        fresh = set(kinds.split(" or ")) - known.get(path, set()) - {"null"}
        if path not in ELSEWHERE and (fresh or path not in known):
            found.append(f"new: {path} ({kinds})")
    return found + [f"gone: {path}" for path in old["in all"] if path not in new["in all"]]


def unnoted(value: Any, name: str) -> list[str]:
    """How a file that has just been made differs from what is noted of its format."""
    return changes(noted()[name], entry_of([value], name))
