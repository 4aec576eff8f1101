"""Values of axes as texts, by which cells, rows of a frame and lines of a table know one another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def axis_text(value: Any) -> str:
    """The value of an axis as one text, the same from a specification and from a frame."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value != value:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, sort_keys=True, default=str)
    return str(value)


def axis_texts(axes: Mapping[str, Any]) -> dict[str, str]:
    """The values at a point of the axes as texts, by path."""
    return {path: axis_text(value) for path, value in axes.items()}


def point_texts(axes: Mapping[str, Any], without: str = "") -> list[str]:
    """A point of the axes in words, such as ``stitch.scale 4``; one axis may be told elsewhere."""
    return [f"{path} {text}" for path, text in axis_texts(axes).items() if path != without]
