"""Pages of what Python code may import, and of the interfaces of components; mkdocstrings writes their bodies."""

from __future__ import annotations

import sfrbench
from docs.tools.components import TITLES
from sfrbench.catalog.code import BASES

_API = """# Python

For notebooks and scripts. Nothing here runs an experiment; what is not named here may change in any version.

"""
_INTERFACES = """# Interfaces of components

What a class of yours has to give, by kind; the fields that every component of a kind has are on its page under
[components](components/index.md).

"""


def pages() -> dict[str, str]:
    return {"reference/python.md": api(), "reference/interfaces.md": interfaces()}


def api() -> str:
    names = [name for name in sfrbench.__all__ if not name.startswith("_")]
    ours = [f"{getattr(sfrbench, name).__module__}.{name}" for name in sorted(names, key=str.lower)]
    also = ["sfrbench.api.Made", "sfrbench.api.Picture"]
    return _API + "\n".join(_block(path, 2) for path in (*ours, *also))


def interfaces() -> str:
    parts = ["## Every component\n", _block("sfrbench.components.core.Component", 3)]
    for kind, cls in BASES.items():
        parts += [f"## {TITLES[kind]} {{#{kind}}}\n", _block(f"{cls.__module__}.{cls.__name__}", 3)]
    parts += ["## What a method is given\n", _block("sfrbench.components.ssl.step.Step", 3)]
    return _INTERFACES + "\n".join(parts)


def _block(path: str, level: int) -> str:
    return f"::: {path}\n    options: {{heading_level: {level}}}\n"
