"""Cards, experiments and reports are found in a wheel, a source archive and an editable install."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
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


def test_what_an_index_of_packages_shows(wheel: Path) -> None:
    """README.md without links to files that are not there; version, licence and Python as they are said."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"sfrbench-{__version__}.dist-info/METADATA").decode()
    told = message_from_string(text)
    shown = told.get_payload()
    assert isinstance(shown, str)
    prose = re.sub(r"^```.*?^```", "", shown, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)", prose) + re.findall(
        r"<(?:img|a)\s[^>]*(?:src|href)=\"([^\"]+)", prose
    )
    assert [link for link in links if not link.startswith(("#", "https://"))] == []
    assert "# sfrbench" in shown
    assert (told["Version"], told["License-Expression"]) == (__version__, "Apache-2.0")
    needed = {re.split(r"[<>=!;\[ ]", each)[0] for each in told.get_all("Requires-Dist", [])}
    assert {"torch", "pip"} <= needed  # pip: 'weights get' calls it, and environments of uv come without
    assert (told["License-File"], told["Requires-Python"]) == ("LICENSE", ">=3.11")


def test_a_link_that_leads_nowhere_is_its_text() -> None:
    pytest.importorskip("hatchling", reason="the extra 'dev' is not installed")
    spec = importlib.util.spec_from_file_location("hook", ROOT / "packaging" / "long_description.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    kept = "[here](#there) [site](https://example.org)\n```yaml\na: [b](c)\n```\n"
    text = f"see [docs/a.md](docs/a.md#b), ![a plot](docs/a.png)\n{kept}"
    assert hook.long_description(text) == f"see docs/a.md, a plot\n{kept}"


def test_images_are_built_from_all_that_a_wheel_needs() -> None:
    """``Dockerfile`` copies what ``.dockerignore`` lets through; ``apptainer.def`` names it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    hook = Path(settings["tool"]["hatch"]["metadata"]["hooks"]["custom"]["path"])
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        *settings["project"]["license-files"],
        hook.parts[0],
    }
    needed |= {"pyproject.toml", "README.md", "constraints-cpu.txt"}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    definition = (ROOT / "packaging" / "apptainer.def").read_text(encoding="utf-8")
    assert set(re.findall(r"^!(\S+)$", ignored, re.MULTILINE)) == needed
    assert set(re.findall(r"^    (\S+) /src/\1$", definition, re.MULTILINE)) == needed


def test_one_version_is_said_everywhere() -> None:
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", cited, re.MULTILINE) == [__version__]
    assert re.search(rf"^## \[{re.escape(__version__)}\]", changes, re.MULTILINE)


def test_installed_wheel_finds_its_cards(wheel: Path, tmp_path: Path) -> None:
    target = installed(wheel, tmp_path / "site")
    check(json.loads(python("-c", PROBE, cwd=tmp_path, path=target)), target, "_")


def test_source_archive_is_whole(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    beside = ("LICENSE", "README.md", "CONTRIBUTING.md", "Makefile", "Dockerfile", "constraints-cpu.txt")
    for name in (*beside, "tests/conftest.py", "docs/how-to/install.md", ".ci/run"):
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
