"""YAML 1.2 with the place of every value, so that errors can point at a line and a column.

Files may come from strangers: there are texts, numbers, true and false, null, lists and mappings, and nothing
else; what they may hold is bounded (``limits``), with aliases counted as often as they are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfrbench.errors import InputError
from sfrbench.files.limits import limit, remedy
from sfrbench.files.yaml_tree import Fault, Node, tree

Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data and where each value stands (1-based line and column).

    ``raw`` is what a file with exactly these data holds. ``files`` has the file of each value that does not
    stand in ``path`` itself.
    """

    path: Path
    data: dict[str, Any]
    places: Mapping[Where, tuple[int, int]]
    raw: bytes = field(repr=False)
    files: Mapping[Where, Path] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8-sig")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    def spot(self, *parts: str | int) -> tuple[Path, int, int]:
        """File, line and column of a value, or of the nearest value around it."""
        place = parts
        while place and place not in self.places:
            place = place[:-1]
        return (self.files.get(place, self.path), *self.places.get(place, (1, 1)))

    def where(self, *parts: str | int) -> str:
        """The same as ``file:line:column``."""
        file, line, column = self.spot(*parts)
        return f"{file}:{line}:{column}"


def load(path: Path) -> Document:
    """Read a mapping from a YAML file. Raises ``InputError`` with the place of the fault."""
    raw = _raw(path)
    try:
        node = tree(_text(raw, path))
    except Fault as fault:
        place = f"{path}:{fault.place[0]}:{fault.place[1]}" if fault.place else str(path)
        raise InputError(fault.what, where=place, hint=fault.hint) from fault
    if node is None or not isinstance(node.value, dict):
        raise InputError("must hold a mapping (key: value)", where=f"{path}:1:1", hint="see 'sfrbench list'")
    return Document(path, _plain(node), {(): (1, 1), **dict(_places(node, ()))}, raw)


def read_value(text: str, where: str) -> Any:
    """One value, as an option gives it. Raises ``InputError``."""
    try:
        node = tree(text)
    except Fault as fault:
        raise InputError(fault.what, where=where, hint=fault.hint) from fault
    return None if node is None else _plain(node)


def _raw(path: Path) -> bytes:
    most = limit("bytes")
    try:
        if path.is_fifo() and path.parts[:2] != ("/", "dev"):  # nobody may ever write to it
            raise InputError("is no ordinary file", where=str(path), hint="give a YAML file")
        with path.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(what, where=str(path), hint="give a YAML file that you may read") from error
    except ValueError as error:  # a NUL in the name
        raise InputError(f"is no path: {error}", where=str(path), hint="give a YAML file") from error
    if len(raw) > most:
        raise InputError("is too large for a specification or a card", where=str(path), hint=remedy("bytes"))
    return raw


def _text(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=str(path), hint="save the file as UTF-8") from error


def _places(node: Node, at: Where) -> Iterator[tuple[Where, tuple[int, int]]]:
    if isinstance(node.value, dict):
        for key, (place, item) in node.value.items():
            yield (*at, key), place
            yield from _places(item, (*at, key))
    elif isinstance(node.value, list):
        for index, item in enumerate(node.value):
            yield (*at, index), item.place
            yield from _places(item, (*at, index))


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(item) for key, (_, item) in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    return node.value
