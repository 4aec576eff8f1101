"""Prompted cells through the commands: run, results, report, export, clean, status, compare."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sfrbench.components.base import Component
from sfrbench.components.prompter.clicks import Clicks
from sfrbench.machine import memory_advice
from sfrbench.run.executors.precision import Settler
from sfrbench.stages.finder import recipe_of
from sfrbench.stages.settings import StageSettings
from sfrbench.store.store import Store
from tests.support.prompted import SPEC, Ball, cards
from tests.support.runs import QUIET, here

EXTRA = """\
  - {name: best, prompter: {name: clicks, number: 3, count: 3, scored: best}, stages: [interact, evaluate]}
report: [{table: results}]
"""


class Commands:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cards(folder / "registry")
        (folder / "prompts.yaml").write_text(SPEC + EXTRA, encoding="utf-8")

    def __call__(self, command: str, *arguments: str, check: int | None = 0) -> str:
        common = ("--profile", "smoke", "--registry", "registry", "--workspace", "runs")
        done = here(command, "prompts.yaml", *arguments, *common, cwd=self.folder, check=check)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    made = Commands(tmp_path_factory.mktemp("prompts"))
    said = made("run", *QUIET)
    assert "0 failed, 0 blocked" in said
    assert " done interact " in said
    assert " clicks seed 0 " in said
    return made


def test_a_second_run_does_nothing(commands: Commands) -> None:
    assert "nodes: 0 ran, 13 reused, 0 failed" in commands("run", *QUIET)
    assert "0 to run" in commands("plan")


def test_the_result_of_a_cell_is_that_of_its_prompts(commands: Commands) -> None:
    rows = list(csv.DictReader(io.StringIO(commands("results"))))
    assert {row["arm"] for row in rows} == {"clicks", "corrected", "box", "guess", "sup", "best"}
    assert {row["subset"] for row in rows} == {"test"}
    dice = {
        (row["arm"], row["case"], row["class"]): float(row["value"])
        for row in rows
        if row["metric"] == "dice"
    }
    for (arm, case, cls), value in dice.items():
        if arm == "best":
            assert value >= dice["clicks", case, cls]
    assert any(dice[key] != dice["sup", *key[1:]] for key in dice if key[0] == "guess")


def test_label_maps_are_those_after_the_round_that_is_scored(commands: Commands) -> None:
    said = commands("results", "--labels", "labels")
    assert "12 label maps" in said
    store = Store(commands.folder / "runs" / "store")
    (record,) = [one for one in store.records("interact") if "corrector" in json.dumps(one["components"])]
    talk = store.get("interact", record["key"])
    for case in talk.read_json("index.json")["cases"]:
        file = commands.folder / "labels" / "corrected" / "seed0" / f"{case}.nii.gz"
        written = np.asarray(nibabel.load(file).dataobj)
        with np.load(talk.path(f"rounds/{case}.npz")) as kept:
            assert np.array_equal(written, kept["2"])  # of four rounds two are scored
            assert not np.array_equal(written, kept["4"])


def test_what_needs_a_user_cannot_be_taken_home(commands: Commands) -> None:
    image = commands.folder / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((32, 32, 16), np.float32), np.eye(4)), image)
    for command in ("export", "predict"):
        arguments = ("out",) if command == "export" else (str(image), "b.nii.gz")
        for arm in ("clicks", "guess"):
            said = commands(command, arm, *arguments, "--seed", "0", check=2)
            assert f"{arm} seed 0 segments by prompts, which somebody has to give it" in said
            assert "its model predicts by itself" in said


def test_the_report_of_prompted_cells(commands: Commands) -> None:
    page = commands.folder / "runs" / "reports" / "prompts" / "smoke" / "index.html"
    text = page.read_text(encoding="utf-8")
    for label in ("clicks", "corrected", "box", "guess", "sup", "best"):
        assert label in text
    again = commands("report")
    assert "report: " in again


def test_nothing_is_left_over(commands: Commands) -> None:
    store = commands.folder / "runs" / "store"
    assert not [path for part in ("partial", "tmp") for path in (store / part).rglob("*")]
    assert {path.name for path in (store / "interact").glob("*/*")} == {
        "index.json", "ledger.json", "record.json", "rounds", "said",
    }  # fmt: skip
    assert "everything here is needed" in here("clean", "runs", cwd=commands.folder).stdout
    assert "interact" in here("clean", "runs", "--sizes", cwd=commands.folder).stdout
    assert "prompts-smoke" in here("status", "runs", cwd=commands.folder).stdout


def test_a_workspace_compares_with_itself(commands: Commands) -> None:
    said = here("compare", "runs", "runs", "--experiment", "prompts", cwd=commands.folder).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("corrected") and "Dice" in line]
    assert " 0.00 " in line


def test_the_ledger_is_in_the_store_for_every_prompted_cell(commands: Commands) -> None:
    """Opened labels: cases times rounds of every cell that goes by the truth."""
    store = Store(commands.folder / "runs" / "store")
    looks = {}
    for record in store.records("interact"):
        talk = store.get("interact", record["key"])
        prompter = record["components"]["prompter"]
        ledger, index = talk.read_json("ledger.json"), talk.read_json("index.json")
        wanted = 0 if prompter.get("guess") else 2 * index["rounds"]
        assert sum(ledger["looks"].values()) == wanted
        looks[prompter["name"], bool(prompter.get("guess"))] = wanted
    assert looks == {("clicks", False): 6, ("corrector", False): 8, ("boxer", False): 2, ("boxer", True): 0}


def test_the_precision_of_a_model_that_is_only_prompted() -> None:
    """It is settled as of any network; SAM's own attention is told of models that have it."""
    parts: dict[str, Component] = {"foundation": Ball(precision="bf16"), "prompter": Clicks()}
    settled = Settler("cpu", known=lambda: None, check=_sound).settle("interact", parts, StageSettings())
    assert settled.record["precision"] == {"foundation": "bf16"}
    assert "attention" not in settled.record
    assert recipe_of("interact").needs.network


def _sound():  # type: ignore[no-untyped-def]
    from sfrbench.machine import selfcheck
    from sfrbench.machine.selfcheck import SelfCheck

    return SelfCheck(facts=selfcheck.facts(), checked=1, seconds=0.0, faults=())


def test_a_gpu_that_is_too_small_is_told_what_helps() -> None:
    said = str(memory_advice.advice("interact", {"foundation": Ball()}, 8 * 2**30, None))
    assert "does not suffice for interact" in said
    assert "--set foundation.precision=bf16" in said
