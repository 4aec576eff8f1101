"""Reads specifications and profiles: strict YAML, every fault of form at once, with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from sfrbench.catalog import describe, hint
from sfrbench.components.base import KINDS, Settings
from sfrbench.errors import InputError, Problem, did_you_mean
from sfrbench.roots import shipped
from sfrbench.spec import (
    METRICS,
    STAGES,
    SWITCHES,
    Arm,
    Axis,
    Exclusion,
    Flat,
    Layer,
    Profile,
    ReportItem,
    Spec,
)
from sfrbench.yamlio import Document, Where, load


class _Exclusion(Settings):
    when: dict[str, Any] = Field(min_length=1)
    reason: str = Field(min_length=1)


class _File(Settings):
    """The fields of a specification file."""

    title: str
    description: str = ""
    paper: str = Field("", description="the table or figure that this repeats")
    dataset: str | dict[str, Any]
    protocol: str | dict[str, Any] = "paper"
    base: dict[str, Any] = {}
    arms: list[dict[str, Any]] = []
    axes: dict[str, list[Any]] = {}
    exclude: list[_Exclusion] = []
    seeds: list[int] = Field([0], min_length=1)
    stages: list[Literal["finetune", "retrain", "predict", "evaluate"]] | None = None
    report: list[ReportItem] = [ReportItem(table="results")]
    profiles: dict[Literal["paper", "cpu", "smoke"], dict[str, Any]] = {}


def locate(spec: str) -> Path:
    """The file of a specification: a path, or the name of a shipped one."""
    path = Path(spec)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    found = shipped("experiments") / f"{spec}.yaml"
    if not found.is_file():
        names = [path.stem for path in shipped("experiments").glob("*.yaml")]
        raise InputError(f"no experiment '{spec}'", hint=did_you_mean(spec, names))
    return found


def read_spec(path: Path, profile: str, sets: Sequence[str] = ()) -> Spec:
    """Read a specification. Names and bounds are checked by the plan, which raises what is wrong there
    together with the ``problems`` found here. Raises ``InputError`` where the file has no usable form.
    """
    document = load(path)
    problems: list[Problem] = []
    try:
        file = _File.model_validate(document.data)
    except ValidationError as error:
        raise InputError.of([_problem(document, fault, ()) for fault in error.errors()]) from error
    reader = _Reader(document, problems)
    section = dict(document.data.get("profiles", {}).get(profile, {}))
    at: Where = ("profiles", profile)
    seeds = reader.seeds(section.pop("seeds", None), (*at, "seeds")) or tuple(file.seeds)
    axes_in = section.pop("axes", None)
    axes = reader.axes(file.axes, ("axes",)) if axes_in is None else reader.axes(axes_in, (*at, "axes"))
    replaced = reader.replace(section.pop("replace", {}), (*at, "replace"))
    own_arms = section.pop("arms", {})
    own_exclude = section.pop("exclude", [])
    set_seeds, set_layer = reader.sets(sets)
    shipped_profile = read_profile(profile)
    stages = tuple(file.stages) if file.stages is not None else ("finetune", "retrain", "predict", "evaluate")
    arms = reader.scaled_arms(reader.arms(file.arms, stages), own_arms, (*at, "arms"))
    exclude = (
        *reader.exclusions(file.exclude, ("exclude",), arms, axes),
        *reader.exclusions(own_exclude, (*at, "exclude"), arms, axes),
    )
    reader.check_report(file.report, arms, axes)
    base = reader.base(file)
    overlay = reader.layer(section, at, soft=True)
    return Spec(
        name=path.stem,
        document=document,
        title=file.title,
        description=file.description,
        paper=file.paper,
        profile=Profile(
            profile,
            shipped_profile.layer,
            {**shipped_profile.replace, **replaced},
            shipped_profile.needs,
        ),
        base=base,
        overlay=overlay,
        arms=arms,
        axes=axes,
        exclude=exclude,
        seeds=set_seeds or seeds,
        report=tuple(file.report),
        sets=set_layer,
        problems=tuple(problems),
    )


def read_profile(name: str) -> Profile:
    """A shipped profile. Raises ``InputError`` with the known names."""
    path = shipped("experiments") / "profiles" / f"{name}.yaml"
    if not path.is_file():
        known = [path.stem for path in path.parent.glob("*.yaml")]
        raise InputError(f"no profile '{name}'", hint=did_you_mean(name, known))
    document = load(path)
    problems: list[Problem] = []
    reader = _Reader(document, problems)
    data = dict(document.data)
    data.pop("summary", None)
    needs = tuple(data.pop("needs", ()))
    replace = reader.replace(data.pop("replace", {}), ("replace",))
    layer = reader.layer(data, (), soft=True)
    if problems:
        raise InputError.of(problems)
    return Profile(name, layer, replace, needs)


def _problem(document: Document, fault: Mapping[str, Any], at: Where) -> Problem:
    loc = tuple(part for part in fault["loc"] if not str(part).startswith(("function-", "str", "dict[")))
    return Problem(document.where(*at, *loc), describe({**fault, "loc": (*at, *loc)}), hint(fault, _File))


@dataclass
class _Reader:
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

    def base(self, file: _File) -> Layer:
        top = self.layer({"dataset": file.dataset, "protocol": file.protocol}, ())
        base = self.layer(file.base, ("base",))
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
        """The arms with a profile's own choices for some of them, by name, laid over theirs."""
        if not isinstance(section, Mapping):
            self.fault(at, f"{_dotted(at)}: must be a mapping from names of arms to choices")
            return arms
        names = [arm.name for arm in arms]
        for name in section:
            if name not in names:
                self.fault((*at, str(name)), f"no arm '{name}'", did_you_mean(str(name), names))
        found = []
        for arm in arms:
            own = self.layer(section.get(arm.name, {}), (*at, arm.name))
            both = Layer({**arm.layer.choices, **own.choices}, {**arm.layer.places, **own.places})
            found.append(Arm(arm.name, arm.label, both, arm.stages))
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
        result: dict[str, dict[str, str]] = {}
        for kind, value in section.items():
            if kind not in KINDS:
                self.fault((*at, kind), f"'{kind}' is no kind of component", did_you_mean(kind, KINDS))
            result[kind] = {"*": value} if isinstance(value, str) else dict(value)
        return result

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

    def exclusions(
        self, entries: Any, at: Where, arms: Sequence[Arm], axes: Sequence[Axis]
    ) -> tuple[Exclusion, ...]:
        """What the file, or its section for a profile, leaves out."""
        try:
            parsed = TypeAdapter(list[_Exclusion]).validate_python(entries)
        except ValidationError as error:
            self.problems += [_problem(self.document, fault, at) for fault in error.errors()]
            return ()
        known = ["arm", *(path for axis in axes for path in axis.paths)]
        arm_names = [arm.name for arm in arms]
        for index, entry in enumerate(parsed):
            here: Where = (*at, index, "when")
            for path in entry.when:
                if path not in known:
                    self.fault((*here, path), f"no axis '{path}'", did_you_mean(path, known))
            names = entry.when.get("arm", [])
            for name in [names] if isinstance(names, str) else names:
                if name not in arm_names:
                    self.fault((*here, "arm"), f"no arm '{name}'", did_you_mean(str(name), arm_names))
        return tuple(
            Exclusion(entry.when, entry.reason, self.document.where(*at, index))
            for index, entry in enumerate(parsed)
        )

    def check_report(self, items: Sequence[ReportItem], arms: Sequence[Arm], axes: Sequence[Axis]) -> None:
        paths = [path for axis in axes for path in axis.paths]
        names = [arm.name for arm in arms]
        for index, item in enumerate(items):
            at: Where = ("report", index)
            if item.rows not in ("arm", *paths):
                self.fault(
                    (*at, "rows"), f"rows: no axis '{item.rows}'", did_you_mean(item.rows, ["arm", *paths])
                )
            if item.curve is not None:
                if item.curve["x"] not in paths:
                    x = item.curve["x"]
                    self.fault((*at, "curve", "x"), f"curve: no axis '{x}'", did_you_mean(x, paths))
                if item.curve["y"] not in METRICS:
                    y = item.curve["y"]
                    self.fault((*at, "curve", "y"), f"curve: no metric '{y}'", did_you_mean(y, METRICS))
            for pair in item.pairs or ():
                for name in pair:
                    if name not in names:
                        self.fault((*at, "pairs"), f"pairs: no arm '{name}'", did_you_mean(name, names))


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _leaves(f"{path}.{key}", item)]
    return [(path, value)]


def _tail(key: str, path: str) -> tuple[str, ...]:
    """The keys below ``key`` in the file that lead to a flat path."""
    return tuple(path[len(key) + 1 :].split(".")) if path.startswith(f"{key}.") else ()


def _dotted(at: Where) -> str:
    return ".".join(str(part) for part in at)
