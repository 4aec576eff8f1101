"""The sections of a specification as layers, arms and axes; what is wrong with their form is collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from sfrbench.catalog.faults import form_problem
from sfrbench.components.base import KINDS, Settings
from sfrbench.errors import Problem, did_you_mean, shorter, shown
from sfrbench.files.yamlio import Document, Where
from sfrbench.spec.model import SWITCHES, Arm, Axis, Flat, Layer
from sfrbench.stages.finder import named_stages

#: Sections that somebody may indent too far.
SECTIONS = frozenset({"arms", "axes", "base", "exclude", "points", "profiles", "report", "search", "seeds"})

Entry = TypeVar("Entry", bound=Settings)


@dataclass
class Reader:
    """Turns the sections of one document into layers, collecting problems; what cannot be read is left out.

    ``unread`` names the sections, kinds and paths of axes that were left out, so that what refers to them is
    no further fault.
    """

    document: Document
    problems: list[Problem]
    unread: set[str] = field(default_factory=set)

    def fault(self, at: Where, what: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.document.where(*at), what, remedy))

    def layer(self, section: Any, at: Where, *, soft: bool = False) -> Layer:
        choices: Flat = {}
        places: dict[str, str] = {}
        if not isinstance(section, Mapping):
            self.fault(
                at, f"{_dotted(at)}: must be a mapping, got {shown(section)}", "as in {ssl.steps: 100}"
            )
            self.unread.update(at[-1:])  # type: ignore[arg-type]
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
        if head in SWITCHES and key == head:
            if value in SWITCHES[head]:
                return [(head, value)]
            hint = did_you_mean(str(value)[:80], SWITCHES[head])
            self.fault(at, f"{key}: no choice {shown(value)}", hint)
            return []
        if head not in KINDS:
            what = f"'{shorter(head)}' is no kind of component and no switch"
            remedy = did_you_mean(head, (*KINDS, *SWITCHES))
            if key in SECTIONS and len(at) > 1:
                remedy = f"'{key}' is a section of its own: it begins at the left edge, not below '{at[0]}'"
            elif key in SECTIONS:
                remedy = f"write a file with 'extends: EXPERIMENT' and '{key}: …'"
            self.fault(at, what, remedy)
            return []
        if rest:
            return leaves(key, value)
        given = value if isinstance(value, Mapping) else {"name": value}
        name = given.get("name", "")
        if key != head or not isinstance(name, str) or (not name and "name" in given):
            remedy = f"as in '{head}: NAME' or '{head}: {{name: NAME, FIELD: VALUE}}'"
            what = f"{key}: give a component's name, or a mapping with 'name' and fields, got {shown(value)}"
            self.fault(at, what, remedy)
            self.unread.add(head)
            return []
        pick = [(head, name)] if "name" in given else []
        fields = {name: item for name, item in given.items() if name != "name"}
        return pick + [pair for name, item in fields.items() for pair in leaves(f"{head}.{name}", item)]

    def base(self, tops: Mapping[str, Any], section: Any) -> Layer:
        """The layer of ``base`` and of what is chosen at the top."""
        top = self.layer(tops, ())
        base = self.layer(section, ("base",))
        for path in sorted(top.choices.keys() & base.choices.keys()):
            self.fault(("base",), f"'{path}' is given at the top and in base", "keep one of the two")
        return Layer({**top.choices, **base.choices}, {**top.places, **base.places}, soft=True)

    def arms(self, arms: Sequence[Any], stages: tuple[str, ...]) -> tuple[Arm, ...]:
        found: dict[str, Arm] = {}
        for index, entry in enumerate(arms):
            at: Where = ("arms", index)
            given = entry if isinstance(entry, Mapping) else {}
            name = given.get("name")
            if not isinstance(name, str) or not name:
                got = f", in text, got {shown(name)}" if "name" in given else ""
                self.fault(at, f"an arm needs a name{got}", "as in {name: sfr, label: SFR}")
                self.unread.add("arms")
                continue
            if name in found:
                self.fault(at, f"arm '{name}' is given twice", "rename one of the two")
                self.unread.add("arms")
            facts = ("name", "label", "stages", "without", "predictions")
            rest = {key: value for key, value in given.items() if key not in facts}
            own = stages
            if "stages" in given:
                own = self.stages(given["stages"], (*at, "stages"), f"arm '{name}'") or stages
            label = self.label(given, name, at)
            without = tuple(map(str, self.list_of(given.get("without", []), (*at, "without"))))
            found[name] = Arm(name, label, self.layer(rest, at), own, without)
        return tuple(found.values()) or (Arm("base", "base", Layer({}), stages),)

    def stages(self, own: Any, at: Where, who: str) -> tuple[str, ...]:
        """The stages of an arm or of the specification; empty where they are wrong."""
        known = named_stages()
        wrong = [stage for stage in own if stage not in known] if isinstance(own, list) else [own]
        for stage in wrong:
            self.fault(at, f"no stage {shown(stage)}", did_you_mean(str(stage)[:80], known))
        if own == []:
            self.fault(at, f"{who} has no stage", f"known: {', '.join(known)}")
        return () if wrong else tuple(own)

    def label(self, given: Mapping[str, Any], name: str, at: Where) -> str:
        """The label of an arm, by default ``name``; a number is text, too."""
        label = given.get("label")
        if isinstance(label, (list, Mapping)):
            self.fault((*at, "label"), f"label: text is needed, got {shown(label)}", "put it in quotes")
            label = None
        return name if label is None else str(label)

    def scaled_arms(self, arms: tuple[Arm, ...], section: Any, at: Where) -> tuple[Arm, ...]:
        """The arms with a profile's own choices for some of them, by name, laid over theirs, and labels."""
        if not isinstance(section, Mapping):
            self.fault(at, f"{_dotted(at)}: must be a mapping from names of arms to choices")
            return arms
        names = [arm.name for arm in arms]
        for name in section:
            if name not in names and "arms" not in self.unread:
                self.fault((*at, str(name)), f"no arm '{name}'", did_you_mean(str(name), names))
        scaled = []
        for arm in arms:
            given, label = section.get(arm.name, {}), arm.label
            if isinstance(given, Mapping):
                label = self.label(given, label, (*at, arm.name))
                given = {key: value for key, value in given.items() if key != "label"}
            own = self.layer(given, (*at, arm.name))
            both = Layer({**arm.layer.choices, **own.choices}, {**arm.layer.places, **own.places})
            scaled.append(replace(arm, label=label, layer=both))
        return tuple(scaled)

    def axes(self, axes: Any, at: Where) -> tuple[Axis, ...]:
        if not isinstance(axes, Mapping):
            self.fault(
                at, f"{_dotted(at)}: must be a mapping, got {shown(axes)}", "as in {stitch.scale: [2, 4]}"
            )
            self.unread.add("axes")
            return ()
        sound = []
        for key, values in axes.items():
            paths = tuple(part.strip() for part in key.split(","))
            here = (*at, key)
            if not isinstance(values, list) or not values:
                self.fault(here, f"{key}: an axis needs a list of values", f"as in {{{key}: [VALUE, VALUE]}}")
                self.unread.update(paths)
                continue
            rows = [row for row in (self._row(paths, row, (*here, n)) for n, row in enumerate(values)) if row]
            if len({repr(row) for row in rows}) < len(rows):
                self.fault(here, f"{key}: a value is given twice", "delete one of the two")
            if rows:
                sound.append(Axis(paths, tuple(rows), self.document.where(*here)))
            else:
                self.unread.update(paths)
        return self._once(sound)

    def _row(self, paths: tuple[str, ...], value: Any, at: Where) -> tuple[Any, ...]:
        """One entry of an axis, or of several tied ones; empty where it is wrong."""
        row = tuple(value) if len(paths) > 1 and isinstance(value, list) else (value,)
        if len(row) != len(paths):
            what = f"{', '.join(paths)}: tied axes need {len(paths)} values in each entry, got {shown(value)}"
            self.fault(at, what, f"as in [{', '.join('VALUE' for _ in paths)}]")
            return ()
        before = len(self.problems)
        for path, item in zip(paths, row, strict=True):
            self.flat(path, item, at)
        return row if len(self.problems) == before else ()

    def _once(self, axes: Sequence[Axis]) -> tuple[Axis, ...]:
        """Axes without those that have a path of one before."""
        seen: set[str] = set()
        kept = []
        for axis in axes:
            again = [path for n, path in enumerate(axis.paths) if path in seen or path in axis.paths[:n]]
            for path in again:
                self.problems.append(Problem(axis.where, f"'{path}' is an axis twice", "keep one of the two"))
            seen.update(axis.paths)
            kept += [] if again else [axis]
        return tuple(kept)

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
                hint = f"as in {{{head}: {{CHOSEN: USED_INSTEAD}}}}"
                self.fault(here, f"{head}: give {{chosen: used instead}}, got {shown(value)}", hint)
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
        name = _dotted(at)
        if not isinstance(value, list) or not value:
            self.fault(at, f"{name}: a list of integers is needed, got {shown(value)}", "as in [0, 1, 2]")
            return ()
        seeds: dict[int, None] = {}
        for index, seed in enumerate(value):
            if type(seed) is not int:
                what = f"{name}.{index}: a seed is an integer, got {shown(seed)}"
                self.fault((*at, index), what, "as in [0, 1, 2]")
            elif seed in seeds:
                self.fault((*at, index), f"{name}: seed {seed} is given twice", "keep one of the two")
            else:
                seeds[seed] = None
        return tuple(seeds)

    def list_of(self, entries: Any, at: Where) -> list[Any]:
        """The list at a place; empty where there is something else."""
        if isinstance(entries, list):
            return entries
        self.fault(at, f"{_dotted(at)}: a list is needed, got {shown(entries)}", "begin each with '- '")
        return []

    def entries(self, cls: type[Entry], entries: Any, at: Where) -> list[tuple[int, Entry]]:
        """The entries of a list that are well formed, with their places in it."""
        sound = []
        for index, entry in enumerate(self.list_of(entries, at)):
            try:
                sound.append((index, cls.model_validate(entry)))
            except ValidationError as error:
                here = (*at, index)
                self.problems += [form_problem(self.document, fault, here, cls) for fault in error.errors()]
        return sound


def leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    """A choice as pairs of path and value, none of which is a group of fields."""
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in leaves(f"{path}.{key}", item)]
    return [(path, value)]


def _tail(key: str, path: str) -> tuple[str, ...]:
    """The keys below ``key`` in the file that lead to a flat path."""
    return tuple(path[len(key) + 1 :].split(".")) if path.startswith(f"{key}.") else ()


def _dotted(at: Where) -> str:
    return ".".join(str(part) for part in at)
