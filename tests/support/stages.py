"""Settings of stages, for tests that run one by itself."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sfrbench.stages.finder import recipe_of
from sfrbench.stages.settings import StageSettings


def stage_of(run: ModuleType) -> str:
    """The stage that a module ``sfrbench.stages.<stage>.run`` belongs to."""
    return run.__name__.split(".")[2]


def settings_of(run: ModuleType, **given: Any) -> StageSettings:
    """The typed settings of a stage, from those that several stages are given."""
    cls = recipe_of(stage_of(run)).settings
    return cls.model_validate({name: value for name, value in given.items() if name in cls.model_fields})
