"""What a network can give. Imports nothing heavy."""

from __future__ import annotations

from sfrbench.components.core import LACKING, Part

#: All that a method may ask for.
ALL: frozenset[Part] = frozenset(LACKING)
