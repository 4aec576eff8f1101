"""Code that decides results may not change unnoticed: it needs a raised version, or a refresh.

``tests/golden/code.json`` holds, for each such module, a hash of its code without docstrings and comments,
and the versions that stand in keys. Where the hash differs and the versions do not, old artefacts would be
reused for new behaviour. If the behaviour did change, raise ``version`` of the component or in the
stage's recipe; if it did not (a rename, a type), refresh with ``python tests/test_versions.py``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden" / "code.json"
SHARED = (
    "engine.training", "engine.inference", "engine.sam_input", "engine.volumes",
    "maths.losses", "maths.sampling", "maths.metrics",
)  # fmt: skip
sys.path.insert(0, str(ROOT))


def code_hash(path: Path) -> str:
    """A hash of the module's syntax tree; docstrings, comments and layout do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body.pop(0)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def versions_of(module: str) -> dict[str, int]:
    """The versions in keys that stand for a module: its own components', its stage's, or every stage's."""
    from sfrbench.components.base import Component
    from sfrbench.stages.finder import recipes

    every = {stage: recipe.version for stage, recipe in recipes().items()}
    parts = module.split(".")
    if parts[0] == "stages":
        return {parts[1]: every[parts[1]]} if parts[1] in every else every
    if parts[0] == "components":
        package = ROOT / "sfrbench" / "components" / parts[1]
        found: dict[str, int] = {}
        for path in sorted(package.glob("[a-z]*.py")) if package.is_dir() else []:
            loaded = importlib.import_module(f"sfrbench.components.{parts[1]}.{path.stem}")
            for name, value in vars(loaded).items():
                if (
                    isinstance(value, type)
                    and issubclass(value, Component)
                    and value.__module__ == loaded.__name__
                ):
                    found[name] = value.version
        return found
    return every


def modules() -> list[str]:
    paths = [ROOT / "sfrbench" / Path(*name.split(".")).with_suffix(".py") for name in SHARED]
    for folder in ("stages", "components"):
        paths += sorted((ROOT / "sfrbench" / folder).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT / "sfrbench").with_suffix("").parts) for path in paths]
    return [name for name in names if not name.endswith("__init__") and name != "components.base"]


def current() -> dict[str, dict[str, object]]:
    return {
        name: {
            "code": code_hash(ROOT / "sfrbench" / Path(*name.split(".")).with_suffix(".py")),
            "versions": versions_of(name),
        }
        for name in modules()
    }


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("module", modules())
def test_changed_code_has_a_raised_version(module: str, golden: dict[str, dict[str, object]]) -> None:
    now = current()[module]
    assert module in golden, f"{module} is new: run 'python tests/test_versions.py'"
    old = golden[module]
    if now["code"] != old["code"]:
        assert now["versions"] != old["versions"], (
            f"{module} changed and no version was raised: see {__file__}"
        )


def test_nothing_is_left_in_the_file(golden: dict[str, dict[str, object]]) -> None:
    assert set(golden) == set(modules())


def test_the_hash_sees_code_and_nothing_else(tmp_path: Path) -> None:
    def hashed(text: str) -> str:
        (tmp_path / "m.py").write_text(text)
        return code_hash(tmp_path / "m.py")

    plain = hashed("def f(x):\n    return x + 1\n")
    assert hashed('"""Doc."""\n\n\ndef f(x):  # why\n    """Doc."""\n    return x + 1\n') == plain
    assert hashed("def f(x):\n    return x + 2\n") != plain


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(current())} modules: {GOLDEN}")
