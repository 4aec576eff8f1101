"""What the extras of this package bring. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

from sfrbench.errors import NotReadyError


def require(whose: str, extra: str, oldest: Mapping[str, tuple[int, int]]) -> None:
    """Raises ``NotReadyError`` where a package of the ``extra`` that ``whose`` needs is missing, or older
    than its ``oldest`` version (major, minor). Imports none of them."""
    for package, needed in oldest.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < needed:
            what = f"{whose} needs {package} {'.'.join(map(str, needed))} or later; here: {found}"
            raise NotReadyError(what, hint=f"pip install 'sfrbench[{extra}]'")
