"""The rules of clicks by name, and what is known of each before anything is computed."""

from __future__ import annotations

from typing import Literal

Rule = Literal["random", "random_balanced", "ritm3d", "ritm", "center", "uniform", "first_random"]
#: Those that see one slice.
ON_A_SLICE = frozenset({"ritm", "center", "uniform", "first_random"})
#: Those that draw nothing: the same error has the same click.
FIXED = frozenset({"ritm", "center"})
