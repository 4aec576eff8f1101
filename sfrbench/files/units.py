"""Durations, sizes and moments as people read and write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB")


def duration(seconds: float | None) -> str:
    """``95`` to ``1m35s``; a dash where it is unknown."""
    if seconds is None:
        return "—"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def now() -> str:
    """This moment in UTC, to the second, by ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def size(count: float | None) -> str:
    """Bytes as ``1.2 GB``; a dash where it is unknown."""
    if count is None:
        return "—"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(count: float, noun: str, several: str = "") -> str:
    """``1 case``, ``2 cases``; ``several`` where that is not the noun with an s."""
    number = f"{count:g}" if isinstance(count, float) else str(count)
    return f"{number} {noun if count == 1 else several or f'{noun}s'}"


def bytes_of(text: str) -> int | None:
    """``200GB``, ``1.5 TB`` or ``750MB`` in bytes (a kB is 1000); none where it is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]?B)", text.strip(), re.IGNORECASE)
    if found is None:
        return None
    power = [unit.lower() for unit in _UNITS].index(found[2].lower())
    return int(float(found[1]) * float(1000**power))
