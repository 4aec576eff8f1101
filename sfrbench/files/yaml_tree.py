"""The tree of a YAML text from the events of its parser: no tags that make objects, no endless repetition."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sfrbench.files.limits import limit, remedy

Place = tuple[int, int]

#: Codes that move a terminal's cursor, colour it or turn the direction of text; halves of characters.
_CODES = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # tab and line feed are text
_SURROGATE = re.compile("[\ud800-\udfff]")
_NULL = ("", "~", "null", "Null", "NULL")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+")
_REAL = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_ENDLESS = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_PLAIN = "give plain text, numbers, true or false, lists and mappings"
_QUOTE = "put it in quotes where text is meant"


class Fault(Exception):
    """What is wrong with a text, where (1-based line and column), and how to mend it."""

    def __init__(self, what: str, place: Place | None, hint: str) -> None:
        super().__init__(what)
        self.what, self.place, self.hint = what, place, hint


@dataclass
class Node:
    """A value: a scalar, a list of nodes, or key -> (place of the key, node)."""

    value: Any
    place: Place
    size: int = 1  # values below and with it, aliases counted as often as they are used
    depth: int = 1


@dataclass
class _Open:
    """A list or a mapping that has not ended."""

    place: Place
    anchor: str | None
    items: list[Node] | None = None  # of a list
    entries: dict[str, tuple[Place, Node]] = field(default_factory=dict)
    merges: list[Node] = field(default_factory=list)
    key: tuple[str, Place] | None = None  # waits for its value
    merging: bool = False


def tree(text: str) -> Node | None:
    """The tree of the one document of a text; None if it is empty. Raises ``Fault``.

    A text that was read before is not parsed again: a catalog is a hundred files, read anew for each plan.
    Nobody changes a tree.
    """
    return _tree(text, limit("depth"), limit("values"))


@lru_cache(maxsize=512)
def _tree(text: str, depth: int, most: int) -> Node | None:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    builder = _Builder(depth, most)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except Fault:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = (error.problem or "is not YAML").split("\n")[0]
        hint = "check the indentation, the quotes and the brackets around this place"
        raise Fault(what, (mark.line + 1, mark.column + 1) if mark else None, hint) from error
    except YAMLError as error:
        raise Fault(f"is not YAML: {str(error).splitlines()[0]}", None, _PLAIN) from error
    except Exception as error:  # the parser stumbles over an escape or a directive
        raise Fault(f"is not YAML: {error}", builder.place, f"look at what follows; {_PLAIN}") from error
    return builder.root


class _Builder:
    def __init__(self, depth: int, most: int) -> None:
        self.root: Node | None = None
        self.place: Place = (1, 1)
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._documents = 0
        self._count = 0  # of values as they are written
        self._depth = depth
        self._most = most

    def take(self, event: Any) -> None:
        kind = type(event).__name__
        if event.start_mark is not None:
            self.place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise Fault("a second document begins here", self.place, "one file holds one: delete '---'")
        elif kind == "AliasEvent":
            self._alias(event.anchor)
        elif kind == "ScalarEvent":
            self._scalar(event)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._start(event, "map" if kind[0] == "M" else "seq")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._end()

    def _start(self, event: Any, kind: str) -> None:
        _check_tag(event, (kind,), self.place)
        if len(self._open) >= self._depth:
            raise Fault("is nested too deeply", self.place, remedy("depth"))
        top = self._open[-1] if self._open else None
        if top is not None and top.items is None and top.key is None and not top.merging:
            raise Fault("a key must be text, this one is a list or a mapping", self.place, _QUOTE)
        if event.anchor:
            self._anchors[event.anchor] = None  # it must not hold itself
        self._open.append(_Open(self.place, event.anchor, [] if kind == "seq" else None))

    def _end(self) -> None:
        done = self._open.pop()
        value: Any = done.items if done.items is not None else _merged(done)
        below = done.items if done.items is not None else [node for _, node in value.values()]
        node = Node(value, done.place)
        node.size += sum(item.size for item in below)
        node.depth += max((item.depth for item in below), default=0)
        if node.depth + len(self._open) > self._depth:
            raise Fault("is nested too deeply", node.place, remedy("depth"))
        if done.anchor:
            self._anchors[done.anchor] = node
        self._add(node)

    def _scalar(self, event: Any) -> None:
        top = self._open[-1] if self._open else None
        text = _text(event.value, self.place)
        if top is not None and top.items is None and top.key is None and not top.merging:
            _check_tag(event, ("str", "int", "float", "bool", "null", "merge"), self.place)
            if text == "<<" and event.implicit[0]:
                top.merging = True
            else:
                top.key = (text, self.place)
            if event.anchor:
                self._anchors[event.anchor] = Node(text, self.place)
            return
        node = Node(_value(event, text, self.place), self.place)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(node)

    def _alias(self, name: str) -> None:
        node = self._anchors.get(name)
        if name not in self._anchors:
            raise Fault(f"found undefined alias '{name}'", self.place, f"write &{name} where it is defined")
        if node is None:
            raise Fault(f"'*{name}' stands inside '&{name}': it would never end", self.place, "take it out")
        top = self._open[-1]
        if top.items is None and top.key is None and not top.merging:
            if not isinstance(node.value, str):
                raise Fault("a key must be text", self.place, _QUOTE)
            top.key = (node.value, self.place)
            return
        if node.depth + len(self._open) > self._depth:
            raise Fault("is nested too deeply, aliases counted", self.place, remedy("depth"))
        self._add(node)

    def _add(self, node: Node) -> None:
        """Put a whole value where it belongs."""
        self._count += 1
        if max(node.size, self._count) > self._most:
            raise Fault("holds too many values, aliases counted", node.place, remedy("values"))
        top = self._open[-1] if self._open else None
        if top is None:
            self.root = node
        elif top.items is not None:
            top.items.append(node)
        elif top.merging:
            top.merging = False
            several = node.value if isinstance(node.value, list) else [node]
            for each in several:
                if not isinstance(each.value, dict):
                    raise Fault("'<<' merges a mapping or a list of mappings", each.place, "as in <<: *name")
            top.merges += several
        else:
            assert top.key is not None
            key, place = top.key
            if key in top.entries:
                hint = "each key may stand once; delete or rename one of the two"
                raise Fault(f"found duplicate key '{key[:80]}'", place, hint)
            top.entries[key], top.key = (place, node), None


def _merged(done: _Open) -> dict[str, tuple[Place, Node]]:
    """The entries of a mapping; its own go before merged ones, earlier merged ones before later."""
    entries = dict(done.entries)
    for node in done.merges:
        for key, entry in node.value.items():
            entries.setdefault(key, entry)
    return entries


def _check_tag(event: Any, known: tuple[str, ...], place: Place) -> None:
    tag = str(event.tag or "")
    if tag and tag != "!" and tag.removeprefix(_TAG) not in known:
        shown = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
        raise Fault(f"tag '{shown[:80]}' is not read here", place, f"delete it: {_PLAIN}")


def _text(text: str, place: Place) -> str:
    if _SURROGATE.search(text):  # two halves, as JSON writes them, are a character
        try:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError as error:
            raise Fault("holds half of a character (a lone surrogate)", place, "delete it") from error
    found = _CODES.search(text)
    if found:
        what = f"holds the control code U+{ord(found[0]):04X}, which is no text"
        raise Fault(what, place, "delete it; line breaks and tabs may stand")
    return text


def _value(event: Any, text: str, place: Place) -> Any:
    """The value of a scalar by YAML 1.2's core schema, or by its tag."""
    _check_tag(event, ("str", "int", "float", "bool", "null"), place)
    tag = str(event.tag or "").removeprefix(_TAG)
    if tag in ("str", "!") or (not tag and not event.implicit[0]):
        return text
    value = _core(text, place)
    if tag == "float" and type(value) is int:
        return float(value)
    kinds = {"": object, "int": int, "float": float, "bool": bool, "null": type(None)}
    if tag and type(value) is not kinds[tag]:
        raise Fault(f"'{text[:80]}' is no {tag}", place, "delete the tag")
    return value


def _core(text: str, place: Place) -> Any:
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _WHOLE.fullmatch(text):
        return _whole(text.replace("_", ""), place)
    if _REAL.fullmatch(text):
        number = float(text.replace("_", ""))
        if math.isfinite(number):
            return number
    elif not _ENDLESS.fullmatch(text):
        return text
    raise Fault(f"'{text[:40]}' is no finite number", place, f"give a number; {_QUOTE}")


def _whole(text: str, place: Place) -> int:
    base = {"0o": 8, "0x": 16, "0b": 2}.get(text[:2], 10)
    digits = text if base == 10 else text[2:]
    number = int(digits, base) if 0 < len(digits) <= 70 else None
    if number is None or not -(2**63) <= number < 2**63:
        raise Fault(f"'{text[:20]}…' is beyond 64 bits", place, f"give a smaller number; {_QUOTE}")
    return number
