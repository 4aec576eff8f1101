"""The sections of a specification as layers, arms and axes; what is wrong with their form is collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sfrbench.catalog import describe, hint
from sfrbench.components.base import KINDS, Settings
from sfrbench.errors import Problem, did_you_mean
from sfrbench.spec import STAGES, SWITCHES, Arm, Axis, Flat, Layer
from sfrbench.yamlio import Document, Where


@dataclass
class Reader:
    """Turns the sections of one document into layers, collecting problems."""

    document: Document
    problems: list[Problem]

    def fault(self, at: Where, what: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.document.where(*at), what, remedy))

    def layer(self, section: Any, at: Where, *, soft: bool = False) -> Layer:
        choices: Flat = {}
        places: dict[str, str] = {}
        if not isinstance(section, Mapping):
            self.fault(at, f"{_dotted(at)}: must be a mapping")
            return Layer({})
        for key, value in section.items():
            for path, plain in self.flat(str(key), value, (*at, str(key))):
                if path in choices:
                    self.fault((*at, str(key)), f"'{path}' is given twice", "keep one of the two")
                choices[path] = plain
                places[path] = self.document.where(*at, str(key), *_tail(str(key), path))
        return Layer(choices, places, soft)

    def flat(self, key: str, value: Any, at: Where) -> list[tuple[str, Any]]:
        """One choice as flat pairs, its head checked."""
        head, _, rest = key.partition(".")
        if head in SWITCHES and not rest:
            if value not in SWITCHES[head]:
                self.fault(at, f"{key}: no choice '{value}'", did_you_mean(str(value), SWITCHES[head]))
            return [(head, value)]
        if head not in KINDS:
            known = (*KINDS, *SWITCHES)
            self.fault(at, f"'{head}' is no kind of component and no switch", did_you_mean(head, known))
            return []
        if rest:
            return _leaves(key, value)
        if isinstance(value, str):
            return [(head, value)]
        if isinstance(value, Mapping):
            fields = {name: item for name, item in value.items() if name != "name"}
            pick = [(head, value["name"])] if "name" in value else []
            return pick + [pair for name, item in fields.items() for pair in _leaves(f"{head}.{name}", item)]
        self.fault(at, f"{key}: give a component's name, or a mapping with 'name' and fields, got {value!r}")
        return []

    def base(self, dataset: Any, protocol: Any, section: Mapping[str, Any]) -> Layer:
        top = self.layer({"dataset": dataset, "protocol": protocol}, ())
        base = self.layer(section, ("base",))
        for path in sorted(top.choices.keys() & base.choices.keys()):
            self.fault(("base",), f"'{path}' is given at the top and in base", "keep one of the two")
        return Layer({**top.choices, **base.choices}, {**top.places, **base.places}, soft=True)

    def arms(self, arms: Sequence[Mapping[str, Any]], stages: tuple[str, ...]) -> tuple[Arm, ...]:
        found: dict[str, Arm] = {}
        for index, entry in enumerate(arms):
            at: Where = ("arms", index)
            rest = {key: value for key, value in entry.items() if key not in ("name", "label", "stages")}
            name = entry.get("name")
            if not isinstance(name, str) or not name:
                self.fault(at, "an arm needs a name")
                continue
            if name in found:
                self.fault(at, f"arm '{name}' is given twice", "rename one of the two")
            own = entry.get("stages", list(stages))
            wrong = [stage for stage in own if stage not in STAGES] if isinstance(own, list) else [own]
            for stage in wrong:
                self.fault((*at, "stages"), f"no stage '{stage}'", did_you_mean(str(stage), STAGES))
            label = str(entry.get("label", name))
            found[name] = Arm(name, label, self.layer(rest, at), tuple(own) if not wrong else stages)
        return tuple(found.values()) or (Arm("base", "base", Layer({}), stages),)

    def scaled_arms(self, arms: tuple[Arm, ...], section: Any, at: Where) -> tuple[Arm, ...]:
        """The arms with a profile's own choices for some of them, by name, laid over theirs, and labels."""
        if not isinstance(section, Mapping):
            self.fault(at, f"{_dotted(at)}: must be a mapping from names of arms to choices")
            return arms
        names = [arm.name for arm in arms]
        for name in section:
            if name not in names:
                self.fault((*at, str(name)), f"no arm '{name}'", did_you_mean(str(name), names))
        found = []
        for arm in arms:
            given, label = section.get(arm.name, {}), arm.label
            if isinstance(given, Mapping):
                label = str(given.get("label", label))
                given = {key: value for key, value in given.items() if key != "label"}
            own = self.layer(given, (*at, arm.name))
            both = Layer({**arm.layer.choices, **own.choices}, {**arm.layer.places, **own.places})
            found.append(Arm(arm.name, label, both, arm.stages))
        return tuple(found)

    def axes(self, axes: Any, at: Where) -> tuple[Axis, ...]:
        found = []
        for key, values in axes.items():
            paths = tuple(part.strip() for part in str(key).split(","))
            here = (*at, str(key))
            if not isinstance(values, list) or not values:
                self.fault(here, f"{key}: an axis needs a list of values")
                continue
            rows = []
            for index, value in enumerate(values):
                row = tuple(value) if len(paths) > 1 and isinstance(value, list) else (value,)
                if len(row) != len(paths):
                    what = f"{key}: tied axes need {len(paths)} values in each entry, got {value!r}"
                    self.fault((*here, index), what)
                    continue
                for path, item in zip(paths, row, strict=True):
                    self.flat(path, item, (*here, index))
                rows.append(row)
            if len({repr(row) for row in rows}) < len(rows):
                self.fault(here, f"{key}: a value is given twice", "delete one of the two")
            found.append(Axis(paths, tuple(rows), self.document.where(*here)))
        return tuple(found)

    def replace(self, section: Any, at: Where) -> dict[str, dict[str, str]]:
        """What a profile puts in the place of chosen components and of values of the switch ``pseudo``."""
        if not isinstance(section, Mapping):
            self.fault(at, f"{_dotted(at)}: must be a mapping", "as in replace: {foundation: sam_toy}")
            return {}
        result: dict[str, dict[str, str]] = {}
        for head, value in section.items():
            here = (*at, str(head))
            names = {"*": value} if isinstance(value, str) and head in KINDS else value
            if head not in (*KINDS, "pseudo"):
                what = f"'{head}' is no kind of component, and no switch that a profile may replace"
                self.fault(here, what, did_you_mean(str(head), (*KINDS, "pseudo")))
            elif not isinstance(names, Mapping) or not all(isinstance(name, str) for name in names.values()):
                self.fault(here, f"{head}: give {{chosen: used instead}}, got {value!r}")
            else:
                if head == "pseudo":
                    self._pseudo_swaps(names, here)
                result[head] = dict(names)
        return result

    def _pseudo_swaps(self, names: Mapping[str, str], at: Where) -> None:
        known = [value for value in SWITCHES["pseudo"] if value != "none"]
        for name in (*names, *names.values()):
            if name not in known:
                hint = f"arms without pseudo-labels stay without; known: {', '.join(known)}"
                self.fault(at, f"pseudo: '{name}' cannot be replaced, nor stand for another", hint)

    def seeds(self, value: Any, at: Where) -> tuple[int, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or not value or not all(type(seed) is int for seed in value):
            self.fault(at, f"seeds: a list of whole numbers is needed, got {value!r}")
            return ()
        return tuple(value)

    def sets(self, sets: Sequence[str]) -> tuple[tuple[int, ...], Layer]:
        """``--set PATH=VALUE`` options, the strongest layer."""
        from ruamel.yaml import YAML

        seeds: tuple[int, ...] = ()
        choices: Flat = {}
        for text in sets:
            path, equals, raw = text.partition("=")
            if not equals:
                self.problems.append(Problem(f"--set {text}", "has no '='", "write --set PATH=VALUE"))
                continue
            value = YAML(typ="safe", pure=True).load(raw)
            before = len(self.problems)
            if path == "seeds":
                seeds = self.seeds(value if isinstance(value, list) else [value], ())
            else:
                choices.update(self.flat(path, value, ()))
            for index in range(before, len(self.problems)):
                old = self.problems[index]
                self.problems[index] = Problem(f"--set {text}", old.what, old.hint)
        return seeds, Layer(choices, {path: f"--set {path}" for path in choices}, soft=True)


def form_problem(document: Document, fault: Mapping[str, Any], at: Where, cls: type[Settings]) -> Problem:
    """A pydantic fault of the section at ``at``, in our words and with its place."""
    loc = tuple(part for part in fault["loc"] if not str(part).startswith(("function-", "str", "dict[")))
    return Problem(document.where(*at, *loc), describe({**fault, "loc": (*at, *loc)}), hint(fault, cls))


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _leaves(f"{path}.{key}", item)]
    return [(path, value)]


def _tail(key: str, path: str) -> tuple[str, ...]:
    """The keys below ``key`` in the file that lead to a flat path."""
    return tuple(path[len(key) + 1 :].split(".")) if path.startswith(f"{key}.") else ()


def _dotted(at: Where) -> str:
    return ".".join(str(part) for part in at)
