"""Finds the stages: every folder beside this file that has a ``recipe.py``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from graphlib import TopologicalSorter
from typing import cast

from sfrbench import stages
from sfrbench.engine.context import StageContext
from sfrbench.stages.recipe import Recipe
from sfrbench.stages.settings import StageSettings


@cache
def recipes() -> Mapping[str, Recipe]:
    """Every stage by name, in the order in which stages join a cell: after those that they take inputs of."""
    by_name = {
        entry.name: cast(Recipe, importlib.import_module(f"sfrbench.stages.{entry.name}.recipe").RECIPE)
        for entry in pkgutil.iter_modules(stages.__path__)
        if entry.ispkg
    }
    before = {stage: _sources(stage, recipe, by_name) for stage, recipe in by_name.items()}
    depth: dict[str, int] = {}
    for stage in TopologicalSorter(before).static_order():
        depth[stage] = 1 + max((depth[source] for source in before[stage]), default=0)
    return {stage: by_name[stage] for stage in sorted(by_name, key=lambda stage: (depth[stage], stage))}


def _sources(stage: str, recipe: Recipe, known: Mapping[str, Recipe]) -> set[str]:
    """The stages whose nodes the first pass of a stage may take."""
    if recipe.stage != stage:
        raise ValueError(f"stages/{stage}/recipe.py calls the stage '{recipe.stage}'")
    for role, allowed in (*recipe.inputs.items(), *recipe.round_inputs.items()):
        for source in allowed:
            if source not in known:
                raise ValueError(f"stages/{stage}/recipe.py: input '{role}' is of no stage '{source}'")
    return {source for allowed in recipe.inputs.values() for source in allowed}


def recipe_of(stage: str) -> Recipe:
    """The recipe of a stage that there is."""
    return recipes()[stage]


def named_stages() -> tuple[str, ...]:
    """The stages that a specification may name."""
    return tuple(stage for stage, recipe in recipes().items() if recipe.named != "never")


def default_stages() -> tuple[str, ...]:
    """The stages of a specification that names none."""
    return tuple(stage for stage, recipe in recipes().items() if recipe.named == "by default")


def behaviour(stage: str) -> Callable[[StageContext[StageSettings]], None]:
    """What a stage does. Imports what it needs, torch among it."""
    run = importlib.import_module(f"sfrbench.stages.{stage}.run").run
    return cast("Callable[[StageContext[StageSettings]], None]", run)
