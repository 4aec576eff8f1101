"""How much a specification, a card or a plan may hold: what exceeds it is a slip far more often than a wish.

``SFRBENCH_LIMITS="cells=100000 values=1000000"`` raises, or lowers, single limits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sfrbench.errors import InputError, did_you_mean

VARIABLE = "SFRBENCH_LIMITS"
#: Name -> what holds where nothing else is said, and what it counts.
LIMITS: Mapping[str, tuple[int, str]] = {
    "bytes": (1_000_000, "bytes of a YAML file"),
    "values": (20_000, "values of a YAML file, each as often as aliases repeat it"),
    "depth": (40, "levels of a YAML file"),
    "cells": (20_000, "cells of a plan, and points of its axes and of a grid search"),
}
_HIGHEST = {"depth": 200}  # Python's own recursion


def limit(name: str) -> int:
    """One limit. Raises ``InputError`` where the variable is wrong."""
    return _given().get(name, LIMITS[name][0])


def remedy(name: str) -> str:
    """How to go beyond a limit, as the hint of a problem."""
    return f"the limit is {limit(name)} ({LIMITS[name][1]}); where it is meant: {VARIABLE}={name}=NUMBER"


def _given() -> dict[str, int]:
    found: dict[str, int] = {}
    for part in os.environ.get(VARIABLE, "").replace(",", " ").split():
        name, _, text = part.partition("=")
        if name not in LIMITS:
            raise InputError(f"no limit '{name}'", where=VARIABLE, hint=did_you_mean(name, LIMITS))
        if not (text.isascii() and text.isdigit() and 0 < len(text) < 13 and int(text)):
            raise InputError(f"'{part}' gives no whole number from 1", where=VARIABLE, hint=f"{name}=1000")
        found[name] = min(int(text), _HIGHEST.get(name, int(text)))
    return found
