"""What Tab offers, by click's own interface, and that it needs nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from sfrbench.cli import complete, main
from sfrbench.files.roots import shipped
from tests.support.runs import here

ARMS = 'arms:\n  - {name: first}\n  - {name: second arm}\n  - {name: "a,b"}\n  - {label: none}\n'


def offered(*words: str) -> list[str]:
    """What is offered for the last word."""
    found = ShellComplete(main, {}, "sfrbench", "_SFRBENCH_COMPLETE").get_completions(
        list(words[:-1]), words[-1]
    )
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in found]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a specification, another file, a hidden one and a card of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (
        "mine.yaml",
        ".hidden.yaml",
        "notes.txt",
        "sub/deep.yml",
        "cards/ssl/own.yaml",
        "broken.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(ARMS if "mine" in name else "arms: [", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["valid"], ["validate"]),
        (["plan", "--prof"], ["--profile"]),
        (["run", "x", "--profile", ""], ["cpu", "paper", "released", "smoke"]),
        (["run", "x", "--executor", "l"], ["local"]),
        (["plan", "la_s"], ["la_scarce", "la_stitch_scale"]),
        (["validate", "quickstart", "mi"], ["mine.yaml"]),
        (["plan", "sub/"], ["sub/deep.yml"]),
        (["run", "no"], ["<file>"]),  # the shell's own
        (["predict", "quickstart", "sfr"], ["sfr_ft", "sfr_mt"]),
        (["export", "mine.yaml", ""], ["first"]),  # what is no word for a shell is not offered
        (["export", "broken.yaml", ""], []),
        (["predict", "nowhere", ""], []),
        (["predict", "--seed", "0", "quickstart", "m"], ["mt"]),
        (["show", "ssl/mean"], ["ssl/mean_teacher"]),
        (["show", "experiment/la_sc"], ["experiment/la_scarce"]),
        (["show", "mine"], ["mine.yaml"]),
        (["conform", "--registry", "cards", "ssl/ow"], ["ssl/own"]),
        (["conform", "stitch/grid", "sel"], ["selector", "selector/all", "selector/both", "selector/none",
                                             "selector/quantile", "selector/tau"]),
        (["list", "back"], ["backbone"]),
        (["data", "check", "hip"], ["hippocampus"]),
        (["new", "experiment", "x", "--data", "hip"], ["hippocampus"]),
        (["new", "experiment", "x", "--from", "quick"], ["quickstart"]),
        (["new", "b"], ["backbone"]),
        (["weights", "get", ""], ["lite_medsam"]),
        (["weights", "check", "sam_vit"], ["sam_vit_b", "sam_vit_l", "sam_vit_h"]),
        (["weights", "remove", ""], []),
        (["completion", "z"], ["zsh"]),
    ],
)  # fmt: skip
def test_what_is_offered(folder: Path, words: list[str], found: list[str]) -> None:
    assert offered(*words) == found


def test_every_experiment_and_card_is_offered(folder: Path) -> None:
    files = {path.stem for path in shipped("experiments").glob("*.yaml")}
    assert set(offered("plan", "")) == {*files, "mine.yaml", "broken.yaml"}
    cards = {f"{path.parent.name}/{path.stem}" for path in shipped("registry").glob("*/*.yaml")}
    assert set(offered("show", "")) == {*cards, *(f"experiment/{name}" for name in files)}


def test_rows_of_a_report_are_offered(folder: Path) -> None:
    rows = [{"row": arm.upper(), "arm": arm, "match": {}} for arm in ("mt", "sfr_mt", "mt")]
    told = {"experiment": "mine", "profile": "cpu", "shown": {"a": rows}}
    told |= {key: {} for key in ("cells", "nodes", "records")}
    (folder / "provenance.json").write_text(json.dumps(told), encoding="utf-8")
    assert offered("trace", ".", "--row", "") == ["mt", "sfr_mt"]
    assert offered("trace", "nowhere", "--row", "") == []
    assert offered("trace", "--row", "") == []


@pytest.mark.parametrize("shell", complete.SHELLS)
def test_the_script_of_each_shell(tmp_path: Path, shell: str) -> None:
    said = here("completion", shell, cwd=tmp_path).stdout
    assert f"_SFRBENCH_COMPLETE={shell}_complete" in said
    assert said.rstrip().endswith({"bash": "_sfrbench_completion_setup;", "zsh": "fi"}.get(shell, '";'))
