"""What is made from the code: whole pages, and parts of written ones; the order of the reference."""

from __future__ import annotations

from functools import cache
from typing import Any

from docs.tools import commands, components, experiments, forms, pictures, python
from docs.tools.pages import ROOT

_FILES = ("specification", "report-items", "profiles", "cards", "configuration", "experiments", "workspace")
_PYTHON = ("python", "interfaces")


@cache
def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown, of pages that nobody writes."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return {**commands.pages(), **components.pages(), "changes.md": changes}


@cache
def tables() -> dict[str, str]:
    """Name -> Markdown, of what stands in a written page at ``<!-- made: NAME -->``."""
    return {
        **commands.tables(),
        **components.tables(),
        **forms.tables(),
        **experiments.tables(),
        **python.tables(),
        **pictures.tables(),
    }


def nav() -> list[Any]:
    """The section; written pages that it does not name come last."""
    named = {"index", *_FILES, *_PYTHON}
    others = sorted(
        path.stem for path in (ROOT / "docs" / "reference").glob("*.md") if path.stem not in named
    )
    return [
        "reference/index.md",
        {"Commands": ["reference/commands/index.md", *commands.nav()]},
        {"Files": [f"reference/{name}.md" for name in _FILES]},
        {"Components": ["reference/components/index.md", *components.pages()]},
        {"Python": [f"reference/{name}.md" for name in _PYTHON]},
        "memory.md",
        "changes.md",
        *(f"reference/{name}.md" for name in others),
    ]
