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


class SpecFile(Settings):
    """The fields of a specification file; what may be read in part is read by ``Reader``."""

    extends: str = Field("", description="a shipped experiment, or a file; this one is laid over it")
    title: str = Field(description="heads the report")
    description: str = Field("", description="what is asked, and what an answer does not say")
    paper: str = Field("", description="the table or figure that this repeats")
    dataset: Any = Field(description="the data, as in {name: la, labeled: 4}")
    protocol: Any = Field("paper", description="the rules of scoring")
    base: Any = Field({}, description="choices that all arms share, as in {stitch: grid, ssl.steps: 100}")
    arms: list[Any] = Field([], description="what is compared: a name, and choices that differ from base")
    axes: Any = Field({}, description="a grid of values, as in {stitch.scale: [2, 4]}")
    exclude: Any = Field([], description="points that are left out, each with the reason")
    points: Any = Field([], description="what base is at some points of the axes")
    seeds: Any = Field([0], description="every cell is run with each")
    stages: Any = Field(None, description="what runs of an arm that says nothing else")
    report: Any = Field([{"table": "results"}], description="tables and figures, in their order")
    search: Any = Field(None, description="a hyper-parameter search; see spec/search.py")
    profiles: Any = Field({}, description="what differs in a profile, as in {cpu: {ssl.steps: 100}}")


def _outline(reader: Reader) -> SpecFile:
    """The sections of a file; one that is missing or wrong is a fault, and has its default for the rest."""
    data = dict(reader.document.data)
    stand_ins: dict[str, Any] = {"title": "", "dataset": {}}
    while True:
        try:
            return SpecFile.model_validate(data)
        except ValidationError as error:
            for fault in error.errors():
                reader.problems.append(form_problem(reader.document, fault, (), SpecFile))
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
