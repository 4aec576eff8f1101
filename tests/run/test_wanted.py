"""Who needs what: every record counts, and one that cannot be read or is missing stops everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfrbench.errors import StoreError
from sfrbench.run.begun import begun
from sfrbench.run.wanted import User, users_of
from sfrbench.store.store import Store
from tests.support.leftovers import journal, link, no_studies, nodes

A, B, C, D, E, F = (link("retrain", name) for name in "abcdef")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace in which one experiment was run."""
    place = tmp_path / "runs"
    Store(place / "store").open()
    journal(place, "one-smoke", A)
    return place


def users(workspace: Path, studies: Callable[[Path], list[User]] = no_studies) -> dict[str, set[Any]]:
    """What each kind of user needs."""
    found: dict[str, set[Any]] = {}
    for user in users_of(workspace, Store(workspace / "store"), studies):
        found.setdefault(user.what, set()).update(user.nodes)
    return found


def provenance(workspace: Path, whole: Any) -> Path:
    path = workspace / "reports" / "one" / "smoke" / "provenance.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(whole))
    return path


def test_every_record_counts(workspace: Path) -> None:
    """Two profiles, a run that was killed, one that goes on elsewhere, a report with its cells, what stands
    behind them, and trials of a search."""
    journal(workspace, "one-cpu", B)
    journal(workspace, "two-smoke.12345678", C, ending=".begun")
    (workspace / "running").mkdir()
    board = json.loads(nodes([D]))
    board |= {"run": "two-smoke-node7-4711", "experiment": "two", "profile": "smoke", "host": "node7"}
    board["nodes"][0] |= {"title": "a node", "inputs": []}
    (workspace / "running" / "job.json").write_text(json.dumps(board))
    provenance(
        workspace,
        {
            "nodes": {"cell": {"retrain": "/".join(E)}},
            "records": {"/".join(F): {"inputs": ["prepare/p"], "git": None}},
            "study": {"trials": [{"number": 0, "nodes": {"0": {"retrain": ["retrain", "t"]}}}]},
        },
    )
    assert users(workspace) == {
        "run": {A, B},
        "begun": {C, D},
        "report": {E, F, ("prepare", "p"), ("retrain", "t")},
    }
    found = users_of(workspace, Store(workspace / "store"), no_studies)
    assert {user.name for user in found if user.what == "begun"} == {"two-smoke"}, "its note and its board"


def test_studies_count_and_are_asked_for_by_workspace(workspace: Path) -> None:
    def studies(place: Path) -> list[User]:
        assert place == workspace.resolve()
        return [User("one-smoke", "study", "one-smoke-0123456789", frozenset({B}), frozenset())]

    (workspace / "store" / "locks" / "search-one-smoke-0123456789.lock").touch()
    assert users(workspace, studies) == {"run": {A}, "study": {B}}


def refusal(workspace: Path, file: Path | str) -> str:
    """What is said of a file for which nothing can be told."""
    with pytest.raises(StoreError) as caught:
        users(workspace)
    said = [problem for problem in caught.value.problems if problem.where == str(file)]
    assert len(said) == 1, caught.value.problems
    assert said[0].hint
    return said[0].what


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"nodes": {}}', '{"nodes": [["a", "b"]]}', "\xff\xfe"]
)
@pytest.mark.parametrize(
    "file",
    [
        "journal/two-smoke.json",
        "journal/two-smoke.12345678.begun",
        "running/job.json",
        "reports/two/smoke/provenance.json",
    ],
)
def test_one_record_that_cannot_be_read_stops_everything(workspace: Path, file: str, text: str) -> None:
    path = workspace.resolve() / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))
    assert "cannot be read" in refusal(workspace, path)


def test_a_folder_in_the_place_of_a_journal_stops_everything(workspace: Path) -> None:
    path = workspace.resolve() / "journal" / "two-smoke.json"
    path.mkdir()
    assert "cannot be read" in refusal(workspace, path)


def test_a_file_that_is_just_being_written_does_not(workspace: Path) -> None:
    (workspace / "journal" / ".12345678.json").write_text('{"nodes"')
    assert users(workspace) == {"run": {A}}


def test_a_workspace_without_any_record_is_left_alone(workspace: Path) -> None:
    """As versions without a journal left it; a report alone does not say what was run since."""
    (workspace / "journal" / "one-smoke.json").unlink()
    assert "no run is recorded here" in refusal(workspace, workspace / "journal")
    provenance(workspace, {"nodes": {}, "records": {}})
    assert "no run is recorded here" in refusal(workspace, workspace / "journal")


def test_an_experiment_that_was_begun_and_left_no_record_is_named(workspace: Path) -> None:
    place = workspace / "journal" / "two-smoke.spec"
    place.write_text("{}")
    assert "'two-smoke' was begun" in refusal(workspace, place)
    journal(workspace, "two-smoke", B)
    assert users(workspace) == {"run": {A, B}}


def test_a_search_whose_study_is_elsewhere_is_named(workspace: Path) -> None:
    lock = workspace / "store" / "locks" / "search-one-smoke-0123456789.lock"
    lock.touch()
    assert "study 'one-smoke-0123456789'" in refusal(workspace, lock)


@pytest.fixture
def shared(workspace: Path) -> Path:
    """A second workspace, with the store of the first by a link, in which something was run."""
    other = workspace.parent / "other"
    other.mkdir()
    (other / "store").symlink_to(workspace / "store")
    with begun(other, Store(other / "store"), "two-smoke", [B]) as ended:
        journal(other, "two-smoke", B)
        ended()
    return other


def test_workspaces_that_share_a_store_count_together(workspace: Path, shared: Path) -> None:
    assert users(workspace) == {"run": {A, B}}
    assert users(shared) == {"run": {A, B}}


def test_a_workspace_that_shares_the_store_and_is_out_of_sight_is_named(
    workspace: Path, shared: Path
) -> None:
    shared.rename(shared.with_name("moved"))
    (entry,) = (workspace / "store" / "workspaces").iterdir()
    assert "other has this store by a link" in refusal(workspace, entry.resolve())


def test_a_workspace_that_has_a_store_of_its_own_by_now_does_not_count(workspace: Path, shared: Path) -> None:
    (shared / "store").unlink()
    Store(shared / "store").open()
    assert users(workspace) == {"run": {A}}
    assert users(shared) == {"run": {B}}


def test_a_link_that_was_made_before_links_were_noted_is_refused(workspace: Path) -> None:
    other = workspace.parent / "other"
    journal(other, "two-smoke", B)
    (other / "store").symlink_to(workspace / "store")
    assert "which workspaces use that" in refusal(other, other / "store")


def test_a_workspace_that_is_a_link_itself_is_one_workspace(workspace: Path) -> None:
    here = workspace.parent / "link"
    here.symlink_to(workspace)
    assert users(here) == {"run": {A}}
