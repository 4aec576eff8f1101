"""What Python code may import, and the interfaces of components; mkdocstrings writes the bodies."""

from __future__ import annotations

import json
from typing import Any

import sfrbench
from docs.tools.components import TITLES
from sfrbench.catalog.code import BASES
from sfrbench.components.base import Component, Settings


def tables() -> dict[str, str]:
    return {"api": _api(), "interfaces": _interfaces()}


def _api() -> str:
    names = sorted((name for name in sfrbench.__all__ if not name.startswith("_")), key=str.lower)
    parts = [_block(_path(getattr(sfrbench, name)), 2, heading=f"sfrbench.{name}") for name in names]
    return "\n".join([*parts, _block("sfrbench.api.Made", 2), _block("sfrbench.api.Picture", 2)])


def _path(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__name__}"


def _interfaces() -> str:
    parts = ["## Every component\n", _block("sfrbench.components.core.Component", 3)]
    for kind, cls in BASES.items():
        parts += [
            f"## {TITLES[kind]} {{#{kind}}}\n",
            _block(_path(cls), 3, members=_owned(cls)),
        ]
    parts += ["## What a method is given\n", _block("sfrbench.components.ssl.step.Step", 3)]
    return "\n".join(parts)


def _owned(cls: type[Component]) -> list[str]:
    """What a class says and does beside its fields."""
    names = dict.fromkeys([*vars(cls).get("__annotations__", {}), *vars(cls)])
    others = {*cls.model_fields, *dir(Settings)} - {"kind", "later_fields"}
    return [name for name in names if not name.startswith("_") and name not in others]


def _block(path: str, level: int, **options: object) -> str:
    """What mkdocstrings writes about an object; one name or list of names each."""
    return f"::: {path}\n    options: {json.dumps({'heading_level': level, **options})}\n"
