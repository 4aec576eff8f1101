"""What ``sfrbench new`` writes works as it is: it conforms, its test passes, its style is the house's."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.components.dataset.phantom import Phantom
from sfrbench.conformance.card import CHECKS
from sfrbench.conformance.suites import Examination, suite_of
from sfrbench.report import items
from sfrbench.scaffold.names import LONGEST, class_name
from sfrbench.scaffold.parts import ITEMS, KINDS
from tests.support.data_writers import write_nifti
from tests.support.places import ROOT
from tests.support.runs import SPEC, here

TRAININGS = {
    "it_learns",
    "a_seed_gives_the_same_bits",
    "no_label_leaks_and_a_kill_changes_nothing",
    "soft_pseudo_labels_train_a_bf16_backbone",
}
CONFIG = ROOT / "pyproject.toml"
COMPONENTS = tuple(kind for kind in KINDS if kind != "item")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, and a place for report items; what is imported from it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / ITEMS).mkdir(parents=True)
    monkeypatch.setattr(items, "__path__", [*items.__path__, str(tmp_path / ITEMS)])
    items.every.cache_clear()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    items.every.cache_clear()


def ruff(folder: Path, *options: str) -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options, "--no-cache", "--config", CONFIG, "."],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def write_pairs(root: Path) -> None:
    for number in range(4):
        case = Phantom(shape=(32, 32, 16)).read_case(None, f"p{number:06d}")
        for name, values in (("images", case.image), ("labels", case.label)):
            (root / name).mkdir(parents=True, exist_ok=True)
            write_nifti(root / name / f"case{number}.nii.gz", values)


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_component_conforms_and_is_planned(folder: Path, kind: str) -> None:
    """All that 'sfrbench conform' tries but for whole trainings, which take a minute."""
    here("new", kind, f"begun_{kind}", cwd=folder)
    write_pairs(folder / "pairs")
    card = Catalog.read([folder / "registry"]).card(kind, f"begun_{kind}")
    examination, suite = Examination({f"begun_{kind}": folder / "pairs"}), suite_of(kind)
    checks = [*CHECKS, *suite.OF_CARDS, suite.ready, *suite.FIRST, *suite.CHECKS]
    results = [examination.result(check, card) for check in checks if check.__name__ not in TRAININGS]
    assert [str(one) for one in results if one.status != "holds"] == []
    text = re.sub(rf"{kind}: (\w+|{{.*?}})", f"{kind}: {{name: begun_{kind}}}", SPEC)
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    options = ["--profile", "cpu", "--registry", "registry", "--data", "begun_dataset=pairs"]
    assert "mine.yaml: sound, 3 cells" in here("validate", "mine.yaml", *options, cwd=folder).stdout


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_test_passes(folder: Path, kind: str) -> None:
    said = here("new", kind, f"begun_{kind}", cwd=folder).stdout
    items.every.cache_clear()
    test = re.search(r"pytest .*?(\S+\.py)$", said, re.MULTILINE)
    assert test is not None
    quiet = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder)]
    assert pytest.main([*quiet, str(folder / test[1])]) == 0


@pytest.mark.parametrize("name", ["q", "a" * LONGEST, "Net3D_of_mine"])
def test_files_are_in_the_style_of_the_house_whatever_the_name(folder: Path, name: str) -> None:
    for kind in KINDS:
        here("new", kind, name, "--into", kind if kind != "item" else ".", cwd=folder)
    (folder / "item").mkdir()
    (folder / "sfrbench").rename(folder / "item" / "sfrbench")
    (folder / "tests").rename(folder / "item" / "tests")
    for kind in COMPONENTS:
        ruff(folder / kind)
    ruff(folder / "item", "--config", "lint.isort.known-first-party=['sfrbench']")  # as in a checkout
    text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.*") if path.is_file())
    assert [word for word in ("newpart", "new part", "scaffold") if word in text.lower()] == []
    assert f"class {class_name(name)}(" in (folder / "ssl" / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", COMPONENTS)
def test_templates_stand_in_the_package_as_they_are_written(kind: str) -> None:
    """So that the house's own tools see them: style, types and imports."""
    module = importlib.import_module(f"sfrbench.scaffold.templates.{kind}.newpart")
    assert module.NewPart.kind == kind
