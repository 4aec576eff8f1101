"""Datasets that misbehave, importable by the worker processes of ``prepare``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sfrbench.components.base import Case
from sfrbench.components.dataset.la import LeftAtrium
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.errors import NotReadyError


class Slow(Phantom):
    """A fifth of a second for each case."""

    def read_case(self, root: Path | None, case: str) -> Case:
        time.sleep(0.2)
        return super().read_case(root, case)


class Deadly(LeftAtrium):
    """``crop_seed`` 1 ends the process at case C3, 2 lacks a library at B2, 3 has a defect at D4."""

    def read_case(self, root: Path | None, case: str) -> Case:
        if case == "C3" and self.crop_seed == 1:
            os._exit(7)
        if case == "B2" and self.crop_seed == 2:
            raise NotReadyError("reading it needs a package", hint="pip install it")
        if case == "D4" and self.crop_seed == 3:
            raise ZeroDivisionError("of ours")
        return super().read_case(root, case)
