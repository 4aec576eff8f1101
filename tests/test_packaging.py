"""Cards, experiments and reports are found in a wheel, a source archive and an editable install."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sfrbench import __version__
from sfrbench.errors import NotReadyError
from sfrbench.files import roots
from tests.support.places import ROOT

FOLDERS = ("registry", "experiments", "reports")
PROBE = """
import json, sfrbench
from sfrbench.catalog.cards import Catalog
from sfrbench.files.roots import shipped
print(json.dumps({
    "package": sfrbench.__file__,
    "cards": sorted(f"{card.kind}/{card.name}" for card in Catalog.read(()).cards()),
    "roots": {name: str(shipped(name)) for name in ("registry", "experiments", "reports")},
}))
"""


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run this environment's Python away from the checkout, with ``path`` in front of everything else."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, out: Path, *options: str) -> None:
    pytest.importorskip("build", reason="the extra 'dev' is not installed")
    here = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    python("-m", "build", *here, *options, "--outdir", str(out), str(source), cwd=out)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    build(ROOT, out, "--wheel")
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive of the checkout, unpacked."""
    out = tmp_path_factory.mktemp("sdist")
    build(ROOT, out, "--sdist")
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(out, filter="data")
    return out / f"sfrbench-{__version__}"


def installed(archive: Path, target: Path) -> Path:
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--no-compile"]
    python("-m", "pip", "install", *options, "--target", str(target), str(archive), cwd=target.parent)
    return target


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/RECORD")}


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def cards() -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in (ROOT / "registry").glob("*/*.yaml"))


def check(found: dict[str, Any], home: Path, prefix: str) -> None:
    """The probe saw the copy below ``home`` and nothing else."""
    assert Path(found["package"]) == home / "sfrbench" / "__init__.py"
    beside = home / "sfrbench" if prefix else home
    assert found["roots"] == {name: str(beside / f"{prefix}{name}") for name in FOLDERS}
    assert found["cards"] == cards()
    assert found["cards"]


def test_wheel_owns_one_package(wheel: Path) -> None:
    found = names(wheel)
    assert {name.partition("/")[0] for name in found} == {"sfrbench", f"sfrbench-{__version__}.dist-info"}
    for folder in FOLDERS:
        inside = {name for name in found if name.startswith(f"sfrbench/_{folder}/")}
        assert {name.removeprefix(f"sfrbench/_{folder}/") for name in inside} == tree(ROOT / folder)
    assert "sfrbench/py.typed" in found
    assert {f"sfrbench/report/render/{name}" for name in ("page.css", "page.js", "viewer.js")} <= found
    with zipfile.ZipFile(wheel) as archive:
        points = archive.read(f"sfrbench-{__version__}.dist-info/entry_points.txt").decode()
    assert "sfrbench = sfrbench.cli:main" in points


def test_installed_wheel_finds_its_cards(wheel: Path, tmp_path: Path) -> None:
    target = installed(wheel, tmp_path / "site")
    check(json.loads(python("-c", PROBE, cwd=tmp_path, path=target)), target, "_")


def test_source_archive_is_whole(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    for name in ("LICENSE", "README.md", "Makefile", "constraints-cpu.txt", "tests/conftest.py", ".ci/run"):
        assert (unpacked / name).is_file(), name
    check(json.loads(python("-c", PROBE, cwd=tmp_path, path=unpacked)), unpacked, "")
    build(unpacked, tmp_path, "--wheel")
    assert names(next(tmp_path.glob("*.whl"))) == names(wheel)


def test_editable_install_finds_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the extra 'dev' is not installed")
    hook = f"from hatchling.build import build_editable; print(build_editable({str(tmp_path)!r}))"
    name = python("-c", hook, cwd=unpacked).split()[-1]
    target = installed(tmp_path / name, tmp_path / "site")
    assert not (target / "sfrbench" / "__init__.py").exists()
    # a .pth file counts only in a site folder
    enter = (
        f"import site, sys; sys.path, old = [], sys.path; site.addsitedir({str(target)!r}); sys.path += old"
    )
    check(json.loads(python("-c", f"{enter}\n{PROBE}", cwd=tmp_path)), unpacked, "")


def test_broken_install_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "registry", tmp_path / "registry")  # of another package: no checkout around it
    monkeypatch.setattr(roots, "files", lambda package: tmp_path / package)
    with pytest.raises(NotReadyError, match="'registry' is missing") as caught:
        roots.shipped("registry")
    assert "install sfrbench again" in caught.value.problems[0].hint
