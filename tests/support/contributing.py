"""The files of CONTRIBUTING.md, and a copy of the package that some of them are added to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from sfrbench.files.roots import shipped
from tests.support.places import ROOT


@cache
def blocks() -> Mapping[str, str]:
    """Every code block by the file that its first line names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) == len(re.findall(r"^```(?:python|yaml)$", text, re.MULTILINE))
    return dict(found)


def write_blocks(folder: Path, *starts: str) -> list[Path]:
    """The files whose names start in one of these ways, below a folder; without any, all of them."""
    return list(_written(folder, starts or ("",)))


def _written(folder: Path, starts: tuple[str, ...]) -> Iterator[Path]:
    for name, text in blocks().items():
        if name.startswith(starts):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.startswith("sfrbench/stages/"):
                (path.parent / "__init__.py").touch()
            path.write_text(text, encoding="utf-8")
            yield path


def copy_of_package(folder: Path) -> Path:
    """The package with what is shipped beside it, to be changed below ``folder``."""
    shutil.copytree(ROOT / "sfrbench", folder / "sfrbench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("registry", "experiments", "reports"):
        (folder / name).symlink_to(shipped(name), target_is_directory=True)
    return folder
