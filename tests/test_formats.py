"""What earlier versions wrote is read, and no format changes without a number and a note.

``tests/golden/workspace`` has a workspace of each release, made by ``tests/golden/make_workspace.py``; what
holds of them is said in docs/explanation/formats.md.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sfrbench
from sfrbench.compare.provenance import read_provenance
from sfrbench.compare.trace import described, find, open_report
from sfrbench.errors import InputError, StoreError
from sfrbench.files import formats
from sfrbench.files.atomic import read_state
from sfrbench.files.formats import FORMATS
from sfrbench.places import locations
from sfrbench.results.frame import COLUMNS, scores
from sfrbench.run.experiment import Experiment, Journal, open_experiment
from sfrbench.run.wanted import users_of
from sfrbench.stages.finder import recipes
from sfrbench.store.artefact import digest_of
from sfrbench.store.store import Store
from tests.support.formats import changes, noted
from tests.support.places import GOLDEN, ROOT
from tests.support.runs import here

ARCHIVES = sorted((GOLDEN / "workspace").glob("*.tar.xz"))
OPTIONS = ("--profile", "smoke", "--registry", "cards")
NOTES = ROOT / "docs" / "explanation" / "formats.md"


@dataclass(frozen=True)
class Golden:
    """A copy of what a release left behind."""

    folder: Path

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.folder.glob("runs/store/*/*/record.json")]

    @property
    def report(self) -> Path:
        return self.folder / "runs" / "reports" / "golden" / "smoke"

    def says(self, *arguments: str) -> str:
        return here(*arguments, cwd=self.folder).stdout

    def experiment(self) -> Experiment:
        from sfrbench.machine.needs import Machine
        from sfrbench.report.items import kinds

        return open_experiment(
            str(self.folder / "golden.yaml"),
            "smoke",
            Machine(self.folder / "runs"),
            items=kinds(),
            registry=[self.folder / "cards"],
        )

    def moved(self) -> set[tuple[str, str]]:
        """Nodes of its experiment of which a version was raised since, or of a node that goes into them."""
        then: set[tuple[str, int]] = set()
        for record in self.records:
            then.add((record["stage"], record["stage_version"]))
            parts = [record["components"][kind] for kind in record["keyed"]]
            then |= {(part["class"], part["version"]) for part in parts}
        found: set[tuple[str, str]] = set()
        for link, node in self.experiment().plan.nodes.items():
            parts = [node.components[kind].component for kind in node.keyed]
            own = (link[0], recipes()[link[0]].version)
            now = {own, *((each.identity(), each.version) for each in parts)}
            if not now <= then or found & set(node.inputs.values()):
                found.add(link)
        return found


def unpacked(archive: Path, folder: Path) -> Golden:
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return Golden(folder)


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return unpacked(request.param, tmp_path_factory.mktemp("golden"))


def test_there_is_a_workspace_with_every_stage(golden: Golden) -> None:
    assert ARCHIVES
    assert {record["stage"] for record in golden.records} == set(recipes())


def test_a_key_moves_only_where_a_version_was_raised(golden: Golden) -> None:
    experiment, moved = golden.experiment(), golden.moved()
    assert set(experiment.left()) == moved
    counts = json.loads(golden.says("plan", "golden.yaml", *OPTIONS, "--json"))
    assert counts["reused"] == counts["nodes"] - len(moved)


def test_its_results_are_read(golden: Golden) -> None:
    with (golden.folder / "results.csv").open(encoding="utf-8", newline="") as stream:
        then = list(csv.DictReader(stream))
    assert set(then[0]) <= set(COLUMNS)
    golden.says("results", "golden.yaml", *OPTIONS, "--out", "now.csv")
    with (golden.folder / "now.csv").open(encoding="utf-8", newline="") as stream:
        now = list(csv.DictReader(stream))
    if not golden.moved():
        assert [{name: row[name] for name in then[0]} for row in now] == then
    for path in golden.folder.glob("runs/store/evaluate/*/scores.csv"):
        assert len(scores(path, "voxel"))


@pytest.mark.parametrize("sides", [("results.csv",) * 2, ("runs",) * 2, ("runs/reports/golden/smoke",) * 2])
def test_it_is_compared_with_itself(golden: Golden, sides: tuple[str, str]) -> None:
    golden.says("compare", *sides, "--csv", "compared.csv")
    with (golden.folder / "compared.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["arm"] for row in rows} == {"sfr_plus", "clicks", "other"}
    assert {float(row["difference"]) for row in rows} == {0.0}


def test_its_report_is_traced_and_written_anew(golden: Golden) -> None:
    before = (golden.report / "provenance.json").read_text(encoding="utf-8")
    report = open_report(golden.report)
    (run,) = described(report, find(report, "sfr_plus", "dice", "results"))["runs"]
    assert all(node["there"] for node in run["nodes"])
    assert {"retrain", "select"} <= {node["node"].partition("/")[0] for node in run["nodes"]}
    golden.says("report", "golden.yaml", *OPTIONS)
    after = json.loads((golden.report / "provenance.json").read_text(encoding="utf-8"))
    assert after["study"]["trials"][0]["state"] == "complete"  # of studies.db
    if not golden.moved():
        assert after["cells"] == json.loads(before)["cells"]


def test_what_it_needs_is_known(golden: Golden) -> None:
    assert "golden" in golden.says("status")
    folder = golden.folder / "runs"
    found = users_of(folder, Store(folder / "store"), lambda _: [])
    assert {user.what for user in found} == {"report", "run"}
    assert json.loads(golden.says("clean", "--dry-run", "--json"))["not_needed"] == []
    sizes = json.loads(golden.says("clean", "--sizes", "--json"))
    assert sizes["experiments"]["golden-smoke"]["count"] == len(golden.records)  # those of its search, too
    assert read_state(folder / "journal" / "golden-smoke.json", Journal) is not None


def test_its_export_is_loaded(golden: Golden) -> None:
    import torch

    network = sfrbench.load_model(golden.folder / "exported")
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


def test_its_configuration_is_read(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "config_file", lambda: golden.folder / "config.yaml")
    assert locations.workspace() == Path("runs")
    assert locations.config("executors") == {"local": {"workers_per_gpu": 2}}


def test_every_number_has_a_note() -> None:
    """A row for each: file, number, the version that began with it, what becomes of files of before."""
    row = r"^\| `([^|`]+)` \| (\d+) \| [^|]*\w[^|]* \| [^|]*\w[^|]* \|$"
    rows = re.findall(row, NOTES.read_text("utf-8"), re.MULTILINE)
    found = {(name, int(number)) for name, number in rows}
    assert found == {(name, number) for name, last in FORMATS.items() for number in range(1, last + 1)}


def test_noted_fields_are_of_the_current_numbers() -> None:
    numbers = {name: entry["format"] for name, entry in noted().items()}
    assert numbers == FORMATS, "run 'python tests/golden/make_workspace.py'"


def test_a_field_that_goes_or_changes_is_seen() -> None:
    old = {"fields": {"a": "str", "b": "null or number"}, "in all": ["a"]}
    assert changes(old, {"fields": {"a": "str", "b": "null"}, "in all": ["a"]}) == []
    new = {"fields": {"b": "str", "c": "list"}, "in all": []}
    assert changes(old, new) == ["new: b (str)", "new: c (list)", "gone: a"]


def later(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, **changed}), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "opened", "error"),
    [
        ("runs/reports/golden/smoke/provenance.json", read_provenance, InputError),
        ("exported/config.json", lambda path: sfrbench.load_model(path.parent), InputError),
        ("runs/journal/golden-smoke.json", lambda path: _needed(path.parents[1]), StoreError),
    ],
)
def test_a_file_of_a_later_format_is_refused(
    tmp_path: Path, name: str, opened: Callable[[Path], Any], error: type[Exception]
) -> None:
    golden = unpacked(ARCHIVES[-1], tmp_path)
    later(golden.folder / name)
    with pytest.raises(error, match=r"written by a later version") as caught:
        opened(golden.folder / name)
    later_one = formats.unreadable(2, "journal")
    assert later_one is not None
    assert [problem.hint for problem in caught.value.problems] == [later_one.hint]


@pytest.mark.parametrize(
    ("number", "what"), [("2", "written by a later version"), ('"x"', "'x' is no format")]
)
def test_a_report_of_another_format_is_one_plain_message(tmp_path: Path, number: str, what: str) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(f'{{"format": {number}}}')
    with pytest.raises(InputError) as caught:
        read_provenance(path)
    assert caught.value.problems[0].what.startswith(what)
    assert ("read it with that version" in caught.value.problems[0].hint) == ("later" in what)


@pytest.mark.parametrize("number", ["2", "x" * 99, -1, 0, 1.5, None, True, [1]])
def test_what_is_no_number_of_a_format_is_not_called_later(number: object) -> None:
    fault = formats.unreadable(number, "journal")
    assert fault is not None
    assert re.fullmatch(r".{1,30} is no format of journal: a number from 1 to 1 is needed", fault.what)
    assert "version" not in fault.hint


@pytest.mark.parametrize("name", ["reports/golden/smoke/provenance.json", "journal/golden-smoke.json"])
def test_a_file_of_a_later_format_is_not_replaced(tmp_path: Path, name: str) -> None:
    golden = unpacked(ARCHIVES[-1], tmp_path)
    place = golden.folder / "runs" / name
    later(place)
    before = place.read_bytes()
    for command in ("run", "report"):
        said = here(command, "golden.yaml", *OPTIONS, cwd=golden.folder, check=2).stderr
        assert re.match(
            r".*\.json  written by a later version .* it is not replaced\n    .*--workspace", said
        )
    if "report" in name:
        out = str(place.parent)
        said = here("report", "golden.yaml", *OPTIONS, "--out", out, cwd=golden.folder, check=2).stderr
        assert "it is not replaced" in said
    assert place.read_bytes() == before


def _needed(workspace: Path) -> object:
    return users_of(workspace, Store(workspace / "store"), lambda _: [])


def test_an_artefact_of_a_later_format_is_left_alone(tmp_path: Path) -> None:
    golden = unpacked(ARCHIVES[-1], tmp_path)
    store = Store(golden.folder / "runs" / "store")
    record = next(store.folder("prepare", "x").parent.glob("*/record.json"))
    changed = {**json.loads(record.read_text()), "format": 2}
    record.write_text(json.dumps({**changed, "sha256": digest_of(changed)}), encoding="utf-8")
    key = record.parent.name
    assert not store.has("prepare", key)
    assert store.damage("prepare", key) == ""
    with pytest.raises(StoreError, match=r"format 2 of record\.json, and this one reads 1"):
        store.check("prepare", key)


def test_files_of_before_there_were_numbers_are_of_the_first(tmp_path: Path) -> None:
    golden = unpacked(ARCHIVES[0], tmp_path)
    path = golden.folder / "runs" / "journal" / "golden-smoke.json"
    value = json.loads(path.read_text())
    value.pop("format", None)
    path.write_text(json.dumps(value), encoding="utf-8")
    found = read_state(path, Journal)
    assert found is not None
    assert found.format == 1
    shutil.rmtree(golden.folder / "runs")
