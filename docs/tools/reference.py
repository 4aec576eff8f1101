"""The pages of the reference that are made from the code, and the order of all."""

from __future__ import annotations

from functools import cache
from typing import Any

from docs.tools import commands, components, experiments, forms, python
from docs.tools.pages import ROOT


@cache
def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    return {
        **commands.pages(),
        **components.pages(),
        **forms.pages(),
        **experiments.pages(),
        **python.pages(),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }


def nav() -> list[Any]:
    """The section, generated and written pages alike; written ones that it does not name come last."""
    files = ["specification", "report-items", "profiles", "cards", "configuration", "experiments"]
    sections: list[Any] = [
        "reference/index.md",
        {"Commands": list(commands.pages())},
        {"Files": [*(f"reference/{name}.md" for name in files), "reference/workspace.md"]},
        {"Components": list(components.pages())},
        {"Python": list(python.pages())},
        "memory.md",
        "changes.md",
    ]
    known = {"index.md", "workspace.md"}
    written = sorted(path.name for path in (ROOT / "docs" / "reference").glob("*.md"))
    return [*sections, *(f"reference/{name}" for name in written if name not in known)]
