"""Networks whose blocks ``torch.compile`` compiles (``foundation.compile``): what that needs, and what goes
when a node ends. Imports no torch at its top.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sfrbench.components.base import Component
from sfrbench.errors import NotReadyError, Problem

FIELD = "foundation.compile"


def compiles(components: Iterable[Component]) -> bool:
    """Whether one of them asks for compiled blocks."""
    return any(getattr(part, "compile", "none") != "none" for part in components)


def compiler(device: str) -> tuple[str, ...]:
    """The compilers that will do on a device, in the order of search: of C++ for the code of a processor, of
    C for what Triton launches a GPU's code with. Empty: not known."""
    if os.name == "nt" or device == "mps":
        return ()
    if device.startswith("cuda"):
        return (os.environ["CC"],) if os.environ.get("CC") else ("clang", "gcc", "cc")
    return (os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"),)


def lack(device: str) -> Problem | None:
    """What ``torch.compile`` misses for a device, as far as can be seen without trying."""
    without = f"or set {FIELD}: none (another key: other last digits)"
    if device.startswith("cuda") and importlib.util.find_spec("triton") is None:
        return Problem(
            FIELD,
            "compiled blocks need Triton on a GPU, and it is not installed",
            f"pip install triton, {without}",
        )
    names = compiler(device)
    if not names or any(shutil.which(name) for name in names):
        return None
    kind, variable = ("C", "CC") if device.startswith("cuda") else ("C++", "CXX")
    return Problem(
        FIELD,
        f"compiled blocks need a {kind} compiler, and there is no {' or '.join(names)} here",
        f"install one (apt install g++), name yours in ${variable}, {without}",
    )


@contextmanager
def compiled_code(components: Iterable[Component], device: str) -> Iterator[None]:
    """Around a node: where a network of its ``components`` has compiled blocks, they are let go in the end.

    Raises ``NotReadyError`` where the machine cannot compile them.
    """
    if not compiles(components):
        yield
        return
    problem = lack(device)
    if problem is not None:
        raise NotReadyError.of([problem])
    try:
        yield
    finally:
        from sfrbench.components.foundation import _compiled

        _compiled.forget()
