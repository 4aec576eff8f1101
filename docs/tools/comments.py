"""Has mkdocstrings show what the code says of an attribute: ``#:`` lines above it, or a comment behind it."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any

import griffe


class Comments(griffe.Extension):
    """Comments as docstrings of attributes that have none."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.lineno is not None and (text := _said(attr)):
            attr.docstring = griffe.Docstring(text, parent=attr)


def _said(attr: griffe.Attribute) -> str:
    assert attr.lineno is not None
    lines = [] if isinstance(attr.filepath, list) else attr.lines_collection[attr.filepath]
    before = reversed([line.strip() for line in lines[: attr.lineno - 1]])
    above = list(takewhile(lambda line: line.startswith("#:"), before))
    if above:
        return " ".join(line.removeprefix("#:").strip() for line in reversed(above))
    last = lines[(attr.endlineno or attr.lineno) - 1] if lines else ""
    behind = re.search(r"  # (?!type:|noqa)(.*)$", last)
    return behind[1] if behind else ""
