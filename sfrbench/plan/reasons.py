"""Why a node runs: what is new against the nearest artefact of its stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sfrbench.components.core import PACKAGE
from sfrbench.files.atomic import canonical
from sfrbench.plan.graph import Link, Node
from sfrbench.stages.finder import recipes
from sfrbench.store.store import Store

_SHOWN = 3
_COMPARED = ("stage_version", "settings", "inputs", "seed")
_OWN = ("inputs", "seed")


Flat = dict[str, Any]
#: Settings that are compared, and nodes of equal settings: the latest. More would cost more than they tell.
_LATEST, _LATEST_ALIKE = 50, 8


class Reasons:
    """Explains nodes against the records of a store, each stage's records read once.

    Nodes are kept by their settings, apart from their inputs and their seed, so that a plan of many thousands
    is explained as fast as a small one.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._seen: dict[str, dict[str, tuple[Flat, list[Flat]]]] = {}
        self._settings: dict[Any, tuple[str, Flat]] = {}
        self._told: dict[Link, str] = {}

    def why(self, node: Node) -> str:
        """One line, such as ``new: ssl.lambda_cons 0.1 → 0.2``."""
        link = node.stage, node.key
        if link not in self._told:  # the second time, it would be compared with itself
            self._told[link] = self._new(node)
        damage = self.store.damage(node.stage, node.key)
        if damage:
            return f"again: {damage}"
        scratch = self.store.scratch(node.stage, node.key)
        if scratch.is_dir() and any(scratch.iterdir()):
            return "resumes: it was interrupted before"
        failure = self.store.failure(node.stage, node.key)
        if failure is not None:
            return f"again: it failed before ({failure.splitlines()[0][:80]})"
        return self._told[link]

    def _new(self, node: Node) -> str:
        nearest, mine = self._nearest(node)
        if nearest is None:
            return f"new: the first {node.stage} here"
        lines = differences(nearest, mine)
        if not lines:
            return "new: profile or version changed"
        more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        return "new: " + ", ".join(lines[:_SHOWN]) + more

    def _nearest(self, node: Node) -> tuple[Flat | None, Flat]:
        """What was seen before with the fewest differences, if anything, and the node; it is seen now."""
        if node.stage not in self._seen:
            self._seen[node.stage] = {}
            for record in self.store.records(node.stage):
                self._keep(node.stage, *_split(comparable(record)))
        name, settings, own = self._split(node)
        seen = self._seen[node.stage]
        alike = [name] if name in seen else list(seen)[-_LATEST:]
        near = min(alike, key=lambda each: len(differences(seen[each][0], settings)), default=None)
        found = None
        if near is not None:
            kept, owns = seen[near]
            closest = min(owns, key=lambda each: len(differences(each, own)))
            found = {**kept, **closest}
        self._keep(node.stage, name, settings, own)
        return found, {**settings, **own}

    def _split(self, node: Node) -> tuple[str, Flat, Flat]:
        own: dict[str, Any] = {
            "inputs": {role: list(link) for role, link in node.inputs.items()},
            "seed": node.seed,
        }
        parts = [(kind, each.card.name, each.digest) for kind, each in node.components.items()]
        known = (node.stage, node.keyed, *parts, canonical(node.settings.told()))
        if known not in self._settings:
            self._settings[known] = _split(comparable(node.described()))[:2]
        name, settings = self._settings[known]
        return name, settings, flatten(own)

    def _keep(self, stage: str, name: str, settings: Flat, own: Flat) -> None:
        _, owns = self._seen[stage].setdefault(name, (settings, []))
        owns.append(own)
        del owns[:-_LATEST_ALIKE]


def _split(compared: Mapping[str, Any]) -> tuple[str, Flat, Flat]:
    """Settings, by a name for equal ones, and what a node has of its own: inputs and seed."""
    own = flatten({name: compared[name] for name in _OWN})
    settings = flatten({name: value for name, value in compared.items() if name not in _OWN})
    return canonical(settings), settings, own


def changed_code(nodes: Iterable[Node], store: Store) -> list[str]:
    """A line for each class from outside whose file has changed since results that are reused were made."""
    found: Counter[tuple[str, str]] = Counter()
    for node in nodes:
        outside = node.outside()
        if not outside or not store.has(node.stage, node.key):
            continue
        then = store.get(node.stage, node.key).record.get("outside", {})
        for kind, now in outside.items():
            if then.get(kind, now) != now:
                cls = type(node.components[kind].component)
                found[(str(cls.code_file()), cls.__name__)] += 1
    said = "results that are reused were made: raise 'version' of"
    return [
        f"{file} has changed since {count} {said} {name} to make them anew"
        for (file, name), count in found.items()
    ]


def comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the key: a component that only comes along, as in ``predict``, does not."""
    whole = record.get("components", {})
    components = {kind: _by_name(kind, whole[kind]) for kind in record.get("keyed", ()) if kind in whole}
    known_by = "module" if _of_earlier_version(record) else "kind and name"
    return {
        "components": components,
        "components known by": known_by,
        **{name: record.get(name) for name in _COMPARED},
    }


def _of_earlier_version(record: Mapping[str, Any]) -> bool:
    """Whether the key of a record holds a component of ours by the module that it stood in."""
    named = [str(settings.get("class")) for settings in record.get("components", {}).values()]
    return any(name.startswith(f"{PACKAGE}.") for name in named)


def _by_name(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a component in a record, with its class as it is known now."""
    module, _, name = str(settings.get("class")).partition(":")
    return {**settings, "class": f"{kind}/{name}"} if module.startswith(f"{PACKAGE}.") else {**settings}


def earlier(store: Store) -> str:
    """What it means that the nodes of a store are of a version with other keys, in one line; empty where they
    are not, or where a run of this version has begun there, before which it was said.

    Looks at one record of a stage, and counts the others.
    """
    if store.marked:
        return ""
    folders = [path for stage in recipes() if (path := store.root / stage).is_dir()]
    keys = {path.name: [each.name for each in path.iterdir()] for path in folders}
    for stage, names in keys.items():
        sound = next((key for key in names if store.has(stage, key)), None)
        if sound is not None and _of_earlier_version(store.get(stage, sound).record):
            return (
                f"{sum(map(len, keys.values()))} nodes in {store.root} are of an earlier version and are not "
                "reused: keys name components by kind and name now. That version still reads its results "
                "and reports; nothing is deleted"
            )
    return ""


def flatten(value: Any, at: str = "") -> dict[str, Any]:
    """Nested mappings as dotted paths."""
    if isinstance(value, Mapping):
        return {
            path: leaf
            for key, item in value.items()
            for path, leaf in flatten(item, f"{at}.{key}" if at else str(key)).items()
        }
    return {at: list(value) if isinstance(value, tuple) else value}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, inputs: bool = True) -> list[str]:
    """``path old → new`` for each difference; a swapped component counts as one.

    Not ``inputs``: without those, which tell their own differences.
    """
    texts: dict[str, None] = {}
    swapped = {kind for kind in _kinds(old) | _kinds(new) if _class(old, kind) != _class(new, kind)}
    for path in sorted(old.keys() | new.keys()):
        a, b = old.get(path, "—"), new.get(path, "—")
        group, _, rest = path.partition(".")
        kind = rest.partition(".")[0]
        if a == b or (group == "components" and rest == f"{kind}.name" and kind not in swapped):
            continue
        if group == "components" and kind in swapped:
            names = [side.get(f"components.{kind}.name", "none") for side in (old, new)]
            texts[f"{kind} {names[0]} → {names[1]}"] = None
        elif group == "inputs":
            texts |= {f"other {kind}": None} if inputs else {}
        else:
            texts[f"{rest or group} {_short(a)} → {_short(b)}"] = None
    return list(texts)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:8]}…"


def _kinds(flat: Mapping[str, Any]) -> set[str]:
    return {path.split(".")[1] for path in flat if path.startswith("components.")}


def _class(flat: Mapping[str, Any], kind: str) -> Any:
    return flat.get(f"components.{kind}.class")
