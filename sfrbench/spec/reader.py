"""Reads specifications and profiles: strict YAML, every fault of form at once, with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sfrbench.catalog.faults import form_problem
from sfrbench.components.base import Settings
from sfrbench.errors import InputError, Problem, did_you_mean, shown
from sfrbench.files.roots import shipped
from sfrbench.files.yamlio import Where, load
from sfrbench.spec.checks import (
    check_swapped_axes,
    check_without,
    read_exclusions,
    read_items,
    read_points,
)
from sfrbench.spec.extends import load_spec
from sfrbench.spec.model import ItemKinds, Profile, Spec
from sfrbench.spec.predictions import off_axes, with_predictions
from sfrbench.spec.search import read_search
from sfrbench.spec.sections import SECTIONS, Reader
from sfrbench.spec.sets import read_section, read_sets
from sfrbench.stages.finder import default_stages


class _File(Settings):
    """The fields of a specification file; what may be read in part is read by ``Reader``."""

    extends: str = Field("", description="a shipped experiment, or a file; this one is laid over it")
    title: str
    description: str = ""
    paper: str = Field("", description="the table or figure that this repeats")
    dataset: Any
    protocol: Any = "paper"
    base: Any = {}
    arms: list[Any] = []
    axes: Any = {}
    exclude: Any = []
    points: Any = Field([], description="what base is at some points of the axes")
    seeds: Any = [0]
    stages: Any = None
    report: Any = [{"table": "results"}]
    search: Any = Field(None, description="a hyper-parameter search; see spec/search.py")
    profiles: Any = {}


def _outline(reader: Reader) -> _File:
    """The sections of a file; one that is missing or wrong is a fault, and has its default for the rest."""
    data = dict(reader.document.data)
    stand_ins: dict[str, Any] = {"title": "", "dataset": {}}
    while True:
        try:
            return _File.model_validate(data)
        except ValidationError as error:
            for fault in error.errors():
                reader.problems.append(form_problem(reader.document, fault, (), _File))
                head = str(fault["loc"][0])
                reader.unread.add(head)
                data.pop(head, None)
                data |= {head: stand_ins[head]} if head in stand_ins else {}


def read_spec(path: Path, profile: str, sets: Sequence[str] = (), *, items: ItemKinds) -> Spec:
    """Read a specification whose report may have these kinds of ``items``.

    Names and bounds are checked by the plan, which raises what is wrong there together with the ``problems``
    found here. Raises ``InputError`` where the file has no usable form.
    """
    reader = Reader(load_spec(path), [])
    file = _outline(reader)
    reader.unread |= SECTIONS.intersection(file.base) if isinstance(file.base, dict) else set()
    section = read_section(reader, file.profiles, profile)
    at: Where = ("profiles", profile)
    own_seeds = reader.seeds(section.pop("seeds", None), (*at, "seeds"))
    seeds = own_seeds or reader.seeds(file.seeds, ("seeds",)) or (0,)
    axes_in = section.pop("axes", None)
    axes = reader.axes(file.axes, ("axes",)) if axes_in is None else reader.axes(axes_in, (*at, "axes"))
    replaced = reader.replace(section.pop("replace", {}), (*at, "replace"))
    own_arms = section.pop("arms", {})
    own_exclude = section.pop("exclude", [])
    own_points = section.pop("points", [])
    own_search = section.pop("search", None)
    set_seeds, set_layer = read_sets(reader, sets)
    scale = read_profile(profile)
    scale = replace(scale, replace={**scale.replace, **replaced})
    check_swapped_axes(reader, axes, scale)
    stages = default_stages()
    if file.stages is not None:
        stages = reader.stages(file.stages, ("stages",), "the specification") or stages
    arms = reader.scaled_arms(reader.arms(file.arms, stages), own_arms, (*at, "arms"))
    arms = with_predictions(reader, file.arms, arms)
    check_without(reader, arms, axes)
    arms = off_axes(arms, axes)
    exclude = (
        *read_exclusions(reader, file.exclude, ("exclude",), arms, axes),
        *read_exclusions(reader, own_exclude, (*at, "exclude"), arms, axes),
    )
    points = read_points(reader, file.points, ("points",), arms, axes)
    overlay_points = read_points(reader, own_points, (*at, "points"), arms, axes)
    report = read_items(reader, file.report, items, arms, axes)
    search = read_search(reader, file.search, own_search, (*at, "search"), arms, set_seeds or seeds)
    base = reader.base({"dataset": file.dataset, "protocol": file.protocol}, file.base)
    overlay = reader.layer(section, at, soft=True)
    return Spec(
        name=path.stem,
        document=reader.document,
        title=file.title,
        description=file.description,
        paper=file.paper,
        profile=scale,
        base=base,
        overlay=overlay,
        points=points,
        overlay_points=overlay_points,
        arms=arms,
        axes=axes,
        exclude=exclude,
        seeds=set_seeds or seeds,
        report=report,
        sets=set_layer,
        overridden=tuple(sets),
        search=search,
        problems=tuple(reader.problems),
        unread=frozenset(reader.unread),
    )


def read_profile(name: str) -> Profile:
    """A shipped profile. Raises ``InputError`` with the known names."""
    path = shipped("experiments") / "profiles" / f"{name}.yaml"
    if not path.is_file():
        known = [path.stem for path in path.parent.glob("*.yaml")]
        raise InputError(f"no profile '{name}'", hint=did_you_mean(name, known))
    document = load(path)
    problems: list[Problem] = []
    reader = Reader(document, problems)
    data = dict(document.data)
    data.pop("summary", None)
    needs = data.pop("needs", [])
    if needs not in ([], ["gpu"]):
        reader.fault(
            ("needs",), f"needs: {shown(needs)} is no list of what a profile can need", "needs: [gpu]"
        )
    swaps = reader.replace(data.pop("replace", {}), ("replace",))
    layer = reader.layer(data, (), soft=True)
    if problems:
        raise InputError.of(problems)
    return Profile(name, layer, swaps, tuple(needs))
