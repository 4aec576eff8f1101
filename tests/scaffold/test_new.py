"""``sfrbench new``: names that are refused, files that are there, experiments that go on from others."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sfrbench.catalog.cards import Catalog
from sfrbench.errors import InputError
from sfrbench.files.roots import shipped
from sfrbench.plan.build import build_plan
from sfrbench.report.items import kinds
from sfrbench.scaffold import parts, writing
from sfrbench.scaffold.experiment import experiment
from sfrbench.spec.extends import load_spec
from sfrbench.spec.reader import read_spec
from tests.support.places import ROOT
from tests.support.runs import here


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["ssl", "mean_teacher"], "NAME  'mean_teacher' is the name of a card of this kind that ships"),
        (["ssl", "random"], "'random' is a module of Python's own, which random.py would hide"),
        (["ssl", "torch"], "'torch' is an installed module, /"),
        (["ssl", "class"], "'class' is a word of Python"),
        (["ssl", "null"], "'null' is no text in a specification"),
        (["ssl", "my-method"], "'my-method' cannot be a name"),
        (["ssl", "../up"], "'../up' cannot be a name"),
        (["ssl", "a" * 41], "cannot be a name"),
        (["dataset", "case"], "the class would be called Case, as something that it uses"),
        (["backbone", "part"], "the class would be called Part"),
        (["item", "table"], "'table' is the name of a report item that ships"),
        (["item", "arms"], "'arms' means something else in a report item"),
        (["item", "worst"], "there is no sfrbench/report/items here"),
        (["ssl", "mine", "--from", "la_scarce"], "--from  this is for experiments"),
        (["experiment", "quickstart"], "'quickstart' is the name of an experiment that ships"),
        (["experiment", "mine", "--from", "la_scarcee"], "did you mean 'la_scarce'?"),
        (["experiment", "mine", "--data", "hipocampus"], "did you mean 'hippocampus'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: list[str], wanted: str) -> None:
    assert wanted in here("new", *arguments, cwd=tmp_path, check=2).stderr
    assert left(tmp_path) == []


def test_the_registry_that_ships_is_not_written_to() -> None:
    said = here("new", "ssl", "my_method", "--into", str(ROOT), cwd=ROOT, check=2).stderr
    assert "the registry here ships with sfrbench" in said


def test_files_that_are_there_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    for name in ("test_mine.py", "mine.py"):
        (tmp_path / name).write_text("own")
    said = here("new", "ssl", "mine", cwd=tmp_path, check=2).stderr
    assert said.count("the file exists") == 2
    assert left(tmp_path) == ["mine.py", "test_mine.py"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"own"}


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (errno.EACCES, "--into DIR: a folder that you may write to"),
        (errno.ENOSPC, "free some space (df -h) or some files (df -i); the same command goes on from there"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, wanted: str
) -> None:
    opened = Path.open

    def refused(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "test_mine.py" and args[:1] == ("x",):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    said = here("new", "ssl", "mine", "--into", "a/b", cwd=tmp_path, check=2).stderr
    assert said.splitlines() == [
        f"a/b/test_mine.py  {os.strerror(number)}",
        f"    {wanted}; nothing was written",
    ]
    assert left(tmp_path) == []


@pytest.mark.parametrize("after", range(3))
def test_of_two_at_once_one_is_told_that_the_name_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The other one makes its first file, and then more, where this one has seen none."""
    files = {"a/x.py": "mine", "a/y.py": "mine", "b.py": "mine"}
    makes = writing._make_folder

    def quicker(folder: Path, made: list[Path]) -> None:
        if not (tmp_path / "b.py").exists():
            for path in list(files)[after:]:
                (tmp_path / path).parent.mkdir(exist_ok=True)
                (tmp_path / path).write_text("other")
        makes(folder, made)

    monkeypatch.setattr(writing, "_make_folder", quicker)
    with pytest.raises(InputError, match=r"the file exists\n.*choose another NAME"):
        writing.write_new(tmp_path, files)
    assert {path.read_text() for path in tmp_path.rglob("*.py")} == {"other"}
    assert len(list(tmp_path.rglob("*.py"))) == 3 - after


def test_what_was_written_and_how_to_go_on(tmp_path: Path) -> None:
    said = here("new", "backbone", "tiny", "--into", "parts", cwd=tmp_path).stdout.splitlines()
    files = [line.split()[0] for line in said[1 : said.index("go on with:")]]
    assert sorted(files) == ["_tiny.py", "registry/backbone/tiny.yaml", "test_tiny.py", "tiny.py"]
    assert all((tmp_path / "parts" / file).is_file() for file in files)
    assert said[-4:] == [
        "  cd parts",
        "  python -m pytest test_tiny.py",
        "  PYTHONPATH=. sfrbench conform backbone/tiny --registry registry",
        "  PYTHONPATH=. sfrbench run quickstart --profile smoke --registry registry --set backbone=tiny",
    ]


def made(folder: Path, base: str, data: str | None = None) -> Path:
    """The specification that ``new experiment`` writes after another one."""
    new = experiment("mine", base, data, (), folder)
    (folder / "mine.yaml").write_text(new.files["mine.yaml"], encoding="utf-8")
    return folder / "mine.yaml"


def test_pytest_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert parts.part("ssl", "mine", tmp_path).commands[0] == "python -m pytest test_mine.py"
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    assert parts.part("ssl", "mine", tmp_path).commands[:2] == [
        "pip install pytest",
        "python -m pytest test_mine.py",
    ]


def test_an_experiment_extends_the_other(tmp_path: Path) -> None:
    path = made(tmp_path, "la_scarce")
    data, base = load_spec(path).data, load_spec(shipped("experiments") / "la_scarce.yaml").data
    assert data.pop("title") == f"{base.pop('title')}, changed"
    assert data == base


def test_what_is_commented_out_is_sound(tmp_path: Path) -> None:
    path = made(tmp_path, "la_scarce")
    head, _, changes = path.read_text(encoding="utf-8").partition("the fields:\n#\n")
    text = "".join(f"{line.removeprefix('# ')}\n" for line in changes.splitlines())
    path.write_text(head + "\n" + text, encoding="utf-8")
    assert load_spec(path).data["seeds"] == [0, 1, 2]
    read = read_spec(path, "smoke", items=kinds())
    assert read.problems == ()
    assert [arm.name for arm in read.arms][-2:] == ["sfr_mt", "sfr_mt_ict"]


def test_an_experiment_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    mine = made(tmp_path, "quickstart")
    new = experiment("two", str(mine), None, (), tmp_path / "far")
    assert 'extends: "../mine.yaml"' in new.files["two.yaml"]


@pytest.mark.parametrize("data", [(), ("--data", "hippocampus")])
def test_no_path_is_more_than_a_path(tmp_path: Path, data: tuple[str, ...]) -> None:
    """Where it stands in a comment, in a value and in a command to copy."""
    (tmp_path / "o d\nseeds: [7] # ä'.yaml").write_text(
        (shipped("experiments") / "quickstart.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    base, into = "o d\nseeds: [7] # ä'.yaml", "my parts"
    said = here("new", "experiment", "mine", "--from", base, "--into", into, *data, cwd=tmp_path).stdout
    assert "  cd 'my parts'\n" in said
    assert load_spec(tmp_path / into / "mine.yaml").data.get("seeds") != [7]


@pytest.mark.parametrize("said", ["report:", "report: 5", "base: [1]", "arms: [{name: 'a b: c'}]"])
def test_something_is_made_of_a_faulty_one(tmp_path: Path, said: str) -> None:
    (tmp_path / "other.yaml").write_text(
        f"title: T\nprofiles: {{cpu: {{dataset.shape: [9, 9, 9]}}}}\n{said}\n"
    )
    for data in (None, "phantom", "hippocampus"):
        new = experiment("mine", str(tmp_path / "other.yaml"), data, (), tmp_path)
        changes = new.files["mine.yaml"].partition("the fields:\n#\n")[2]
        assert "a b" not in changes
        (tmp_path / "mine.yaml").write_text(new.files["mine.yaml"], encoding="utf-8")
        title = load_spec(tmp_path / "mine.yaml").data["title"]
        assert title.startswith(f"other on {data}" if data else "T, ")


@pytest.mark.parametrize("data", [(), ("--data", "phantom")])
def test_faults_that_are_inherited_are_told_at_once(tmp_path: Path, data: tuple[str, ...]) -> None:
    text = (shipped("experiments") / "quickstart.yaml").read_text(encoding="utf-8")
    (tmp_path / "other.yaml").write_text(text.replace("stitch: grid", "stitch: gird"), encoding="utf-8")
    done = here("new", "experiment", "mine", "--from", "other.yaml", *data, cwd=tmp_path, check=2)
    assert "written:" in done.stdout
    said = done.stderr.splitlines()
    assert said[0] == "it is not sound yet; mend this first:"
    assert said[1].startswith("other.yaml:")
    assert done.stderr.count("no component 'gird' of kind 'stitch'") == 1
    assert (tmp_path / "mine.yaml").is_file()


def test_fields_that_the_new_dataset_does_not_have_are_left_out(tmp_path: Path) -> None:
    said = here("new", "experiment", "mine", "--data", "hippocampus", cwd=tmp_path).stdout
    assert "note: hippocampus has no such field, left out: profiles.cpu: dataset.train_cases 16" in said
    assert "note: chosen in quickstart for its own dataset: profiles.cpu: dataset.patch [64, 64, 16]" in said
    data = load_spec(tmp_path / "mine.yaml").data
    assert "note: hippocampus: Hippocampus in MRI" in said
    assert "extends" not in data
    assert data["title"] == "quickstart on hippocampus"
    assert data["dataset"] == {"name": "hippocampus", "labeled": 1}
    assert "dataset.train_cases" not in data["profiles"]["cpu"]
    assert data["profiles"]["cpu"]["ssl.steps"] == 150


@pytest.mark.parametrize("data", [None, "hippocampus"])
@pytest.mark.parametrize("base", ["la_scarce", "quickstart", "table01_la", "fig12_label_counts", "fig10_kde"])
def test_what_is_written_is_sound(tmp_path: Path, base: str, data: str | None) -> None:
    read = read_spec(made(tmp_path, base, data), "smoke", items=kinds())
    assert read.problems == ()
    build_plan(read, Catalog.read(), lambda dataset: "none")
    assert data is None or (read.paper == "" and "published" not in [item.kind for item in read.report])
