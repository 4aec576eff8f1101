"""One specification laid over another: mappings key by key, arms by name; everything else is replaced.

The two forms of a choice, ``ssl.steps: 100`` and ``ssl: {steps: 100}``, are the same key here, too, and so
are a dataset or a protocol at the top and in ``base``. Nothing is checked: what has no sound form stays as
it is, for the reader to find it at its own place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfrbench.components.base import KINDS
from sfrbench.files.limits import limit
from sfrbench.files.yamlio import Document, Where


@dataclass(frozen=True)
class Told:
    """A value (a scalar, a list of ``Told`` or key -> ``Told``), and the file and place that say it."""

    value: Any
    file: Path
    place: tuple[int, int]


Lay = Callable[[Told, Told], Told]
#: A key as it is written, and what stands there.
Entry = tuple[str, Told]


def told(document: Document, at: Where = ()) -> Told:
    """What a document says, each value with its place."""

    def of(value: Any, at: Where) -> Told:
        if isinstance(value, dict):
            value = {key: of(item, (*at, key)) for key, item in value.items()}
        elif isinstance(value, list):
            value = [of(item, (*at, index)) for index, item in enumerate(value)]
        file, line, column = document.spot(*at)
        return Told(value, file, (line, column))

    return of(document.data, at)


def replaced(old: Told, new: Told) -> Told:
    return new


def deep(old: Told, new: Told) -> Told:
    """Mappings key by key, to any depth."""
    return keyed(deep)(old, new)


def keyed(each: Lay = replaced, own: Mapping[str, Lay] | None = None) -> Lay:
    """Mappings key by key: what both have by ``own``, or else by ``each``."""

    def lay(old: Told, new: Told) -> Told:
        if not isinstance(old.value, dict) or not isinstance(new.value, dict):
            return new
        result = dict(old.value)
        for key, item in new.value.items():
            result[key] = (own or {}).get(key, each)(result[key], item) if key in result else item
        return replace(new, value=result)

    return lay


def choices(own: Mapping[str, Lay]) -> Lay:
    """Sections of choices; ``own`` are the keys that are none."""

    def lay(old: Told, new: Told) -> Told:
        if not isinstance(old.value, dict) or not isinstance(new.value, dict):
            return new
        result: dict[str, Told] = keyed(replaced, own)(old, new).value
        for head in KINDS:
            before, after = entries(old, head, own), entries(new, head, own)
            if before and after:
                result = _with(result, own, head, component(head, before, after))
        return replace(new, value=result)

    return lay


def entries(section: Told | None, head: str, own: Mapping[str, Lay] | None = None) -> list[Entry]:
    """What a section says of a kind of component, in the order of the file."""
    found = section.value.items() if section is not None and isinstance(section.value, dict) else ()
    return [(key, item) for key, item in found if key.partition(".")[0] == head and key not in (own or {})]


def _with(
    section: Mapping[str, Told], own: Mapping[str, Lay], head: str, new: Sequence[Entry]
) -> dict[str, Told]:
    """A section with other entries of a kind of component, where its first one was."""
    result: dict[str, Told] = {}
    for key, item in section.items():
        if key in own or key.partition(".")[0] != head:
            result[key] = item
        else:
            result |= dict(new)
    return result


def component(head: str, before: Sequence[Entry], after: Sequence[Entry]) -> list[Entry]:
    """One component of two files: a name and fields, path by path.

    A path that one file gives twice stays so, as an entry of its own. Where a name has no sound form, there
    is nothing else: one fault is enough.
    """
    for key, item in (*after, *before):
        if key == head and not _sound(item):
            return [(key, item)]
    (old, again), (new, too) = _fields(head, before), _fields(head, after)
    both = deep(old, new)
    name = (new if "name" in new.value else old).value.get("name")
    if name is None:
        return [(head, both), *again, *too]
    first = next(item for key, item in (after if "name" in new.value else before) if key == head)
    whole = replace(first, value=both.value if len(both.value) > 1 else name.value)
    return [(head, whole), *again, *too]


def _sound(item: Told) -> bool:
    """Whether this is a name, or a mapping with one or without."""
    name = item.value.get("name") if isinstance(item.value, dict) else item
    return name is None or (isinstance(name.value, str) and bool(name.value))


def _fields(head: str, given: Sequence[Entry]) -> tuple[Told, list[Entry]]:
    """The name and the fields of a component as one mapping, and what that cannot hold."""
    paths: dict[str, Told] = {}
    odd: list[Entry] = []
    for key, item in given:
        inner = item.value if isinstance(item.value, dict) else {"name": item}
        if key != head:
            found = _leaves(key[len(head) + 1 :], item)
        else:
            found = [leaf for name, each in inner.items() for leaf in _leaves(name, each)]
        for path, leaf in found:
            if path in paths or path.count(".") > limit("depth") or (path == "name" and key != head):
                odd.append((f"{head}.{path}", leaf))
            else:
                paths[path] = leaf
    return _grouped(paths, given[0][1]), odd


def _grouped(paths: Mapping[str, Told], around: Told) -> Told:
    """Groups of fields from dotted paths; each stands where its first field does."""
    tree: dict[str, Any] = {}
    for path, leaf in paths.items():
        *groups, last = path.split(".")
        here = tree
        for part in groups:
            if not isinstance(here.get(part), dict):
                here[part] = {}
            here = here[part]
        if not (leaf.value == {} and isinstance(here.get(last), dict)):
            here[last] = leaf

    def whole(group: dict[str, Any], at: Told) -> Told:
        inner = {key: whole(each, at) if isinstance(each, dict) else each for key, each in group.items()}
        first = next(iter(inner.values()), at)
        return Told(inner, first.file, first.place)

    return whole(tree, around)


def _leaves(path: str, item: Told) -> list[Entry]:
    if isinstance(item.value, dict) and item.value:
        return [leaf for key, inner in item.value.items() for leaf in _leaves(f"{path}.{key}", inner)]
    return [(path, item)]


def _top(head: str) -> Lay:
    """A component at the top of a file, all of whose fields are in its mapping."""

    def lay(old: Told, new: Told) -> Told:
        (_, whole), *odd = component(head, [(head, old)], [(head, new)])
        more = {path[len(head) + 1 :]: leaf for path, leaf in odd}
        return replace(whole, value={**whole.value, **more}) if more else whole

    return lay


def arms(old: Told, new: Told) -> Told:
    """Arms of the same name are laid over one another; new ones come last."""
    if not isinstance(old.value, list) or not isinstance(new.value, list):
        return new
    result = list(old.value)
    at: dict[str, int] = {}
    for index, entry in enumerate(result):
        at.setdefault(_name(entry), index)
    for entry in new.value:
        same = at.pop(_name(entry), None)
        if same is None:
            result.append(entry)
        else:
            result[same] = _ARM(result[same], entry)
    return replace(new, value=result)


def _name(entry: Told) -> str:
    """The name of an arm, ``id(entry)`` where it has none."""
    name = entry.value.get("name") if isinstance(entry.value, dict) else None
    return name.value if name is not None and isinstance(name.value, str) else f"\0{id(entry)}"


_ARM = choices(dict.fromkeys(("name", "label", "stages", "without"), replaced) | {"predictions": deep})
_SEARCH = keyed(replaced, {"params": keyed()})  # a range is one value
_PROFILE = choices(
    dict.fromkeys(("seeds", "exclude", "points"), replaced)
    | {"axes": keyed(), "replace": deep, "search": _SEARCH}
    | {"arms": keyed(choices({"label": replaced}))}
)
_TOPS = ("dataset", "protocol")
_SPEC = keyed(
    replaced,
    {
        "base": choices({}),
        "arms": arms,
        "axes": keyed(),
        "search": _SEARCH,
        "profiles": keyed(_PROFILE),
        **{head: _top(head) for head in _TOPS},
    },
)


def laid_over(old: Told, new: Told) -> Told:
    """The specification ``new`` with what it inherits from ``old``."""
    both: dict[str, Told] = dict(_SPEC(old, new).value)
    for head in _TOPS:
        both |= _at_the_top(head, both, old, new)
    return replace(new, value=both)


def _at_the_top(head: str, both: Mapping[str, Told], old: Told, new: Told) -> dict[str, Told]:
    """What becomes of a component that one file has at the top and the other in ``base``: it goes
    to the top."""
    base = both.get("base")
    inside = [key for key, _ in entries(base, head)]
    before, after = ([*entries(each, head), *entries(each.value.get("base"), head)] for each in (old, new))
    if base is None or not inside or head not in both or not before or not after:
        return {}
    whole = component(head, before, after)
    if [key for key, _ in whole] != [head]:
        return {}
    rest = {key: item for key, item in base.value.items() if key not in inside}
    return {**dict(whole), "base": replace(base, value=rest)}


def document_of(whole: Told, path: Path, raw: bytes) -> Document:
    """What is told as the document of ``path``."""
    places: dict[Where, tuple[int, int]] = {}
    files: dict[Where, Path] = {}

    def plain(item: Told, at: Where) -> Any:
        places[at], files[at] = item.place, item.file
        if isinstance(item.value, dict):
            return {key: plain(inner, (*at, key)) for key, inner in item.value.items()}
        if isinstance(item.value, list):
            return [plain(inner, (*at, index)) for index, inner in enumerate(item.value)]
        return item.value

    data = plain(whole, ())
    return Document(path, data, places, raw, files)
