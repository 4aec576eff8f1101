"""YAML 1.2 with the place of every value, so that errors can point at a line and a column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfrbench.errors import InputError

Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data and where each value stands (1-based line and column)."""

    path: Path
    data: dict[str, Any]
    places: Mapping[Where, tuple[int, int]]

    def where(self, *parts: str | int) -> str:
        """``file:line:column`` of a value, or of the nearest value around it."""
        place = parts
        while place and place not in self.places:
            place = place[:-1]
        line, column = self.places.get(place, (1, 1))
        return f"{self.path}:{line}:{column}"


def load(path: Path) -> Document:
    """Read a mapping from a YAML file. Raises ``InputError`` with the place of the fault."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=str(path), hint="save the file as UTF-8") from error
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        what = (error.problem or "is not YAML").split("\n")[0]
        raise InputError(what, where=place, hint=_hint(what)) from error
    except YAMLError as error:
        raise InputError(f"is not YAML: {str(error).splitlines()[0]}", where=str(path)) from error
    if not isinstance(tree, Mapping):
        raise InputError("must hold a mapping (key: value)", where=f"{path}:1:1", hint="see 'sfrbench list'")
    places: dict[Where, tuple[int, int]] = {(): (1, 1)}
    places.update(_places(tree, ()))
    return Document(path, _plain(tree), places)


def _hint(what: str) -> str:
    if "duplicate key" in what:
        return "each key may stand once; delete or rename one of the two"
    return "check the indentation, the quotes and the brackets around this place"


def _places(tree: Any, at: Where) -> Iterator[tuple[Where, tuple[int, int]]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            line, column = tree.lc.key(key)  # type: ignore[attr-defined]
            yield (*at, str(key)), (line + 1, column + 1)
            yield from _places(value, (*at, str(key)))
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for index, value in enumerate(tree):
            line, column = tree.lc.item(index)  # type: ignore[attr-defined]
            yield (*at, index), (line + 1, column + 1)
            yield from _places(value, (*at, index))


def _plain(value: Any) -> Any:
    """Builtin types in place of ruamel's, so that equality, hashing and JSON are ordinary."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value
