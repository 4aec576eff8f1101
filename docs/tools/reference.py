"""The pages of the reference that are made from the code, and where they stand."""

from __future__ import annotations

from functools import cache
from typing import Any

from docs.tools.pages import ROOT


@cache
def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return {"changes.md": changes, "reference/index.md": "# Reference\n"}


def nav() -> list[Any]:
    return ["reference/index.md"]
