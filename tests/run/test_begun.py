"""A run says what it wants before it looks, and clean sees it, whichever of the two is first."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from sfrbench.run import leftovers
from sfrbench.run.begun import begun
from sfrbench.run.leftovers import clean, survey
from sfrbench.store.store import Store
from tests.support.leftovers import journal, link, make, no_studies, whole

A, B, C = (link("retrain", name) for name in "abc")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """One experiment needs A; B and C are of earlier times."""
    place = tmp_path / "runs"
    store = Store(place / "store")
    store.open()
    for node in (A, B, C):
        make(store, node)
    journal(place, "one-smoke", A)
    return place


def cleaned(workspace: Path) -> set[tuple[str, str]]:
    """What is there once everything that can go went."""
    clean(workspace, no_studies, survey(workspace, no_studies).leftovers)
    return whole(Store(workspace / "store"))


def notes(workspace: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in (workspace / "journal").glob("*.begun"))


def test_a_run_that_ended_leaves_its_journal_alone(workspace: Path) -> None:
    with begun(workspace, Store(workspace / "store"), "two-smoke", [B]) as ended:
        assert notes(workspace) == ["two-smoke"]
        assert cleaned(workspace) == {A, B}
        ended()
    assert [path.name for path in (workspace / "journal").iterdir()] == ["one-smoke.json"]
    assert cleaned(workspace) == {A}


def test_what_an_interrupted_run_wants_is_kept_until_the_next_of_its_name(workspace: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begun(workspace, Store(workspace / "store"), "two-smoke", [B]):
        raise KeyboardInterrupt
    assert cleaned(workspace) == {A, B}
    with begun(workspace, Store(workspace / "store"), "two-cpu", []):
        assert notes(workspace) == ["two-cpu", "two-smoke"]
    with begun(workspace, Store(workspace / "store"), "two-smoke", []):
        assert notes(workspace) == ["two-cpu", "two-smoke"]
        assert cleaned(workspace) == {A}


def test_the_note_of_a_killed_run_goes_with_its_lock_file(workspace: Path) -> None:
    journal(workspace, "two-smoke.12345678", B, ending=".begun")
    (workspace / "journal" / "two-smoke.12345678.lock").touch()
    with begun(workspace, Store(workspace / "store"), "two-smoke", [C]) as ended:
        assert cleaned(workspace) == {A, C}
        ended()
    assert [path.name for path in (workspace / "journal").iterdir()] == ["one-smoke.json"]


def test_two_runs_of_one_name_count_both(workspace: Path) -> None:
    store = Store(workspace / "store")
    with begun(workspace, store, "two-smoke", [B]) as first:
        with begun(workspace, store, "two-smoke", [C]) as second:
            second()
        journal(workspace, "two-smoke", C)
        assert notes(workspace) == ["two-smoke"]
        assert cleaned(workspace) == {A, B, C}
        first()


def test_where_nothing_can_be_noted_the_run_goes_on(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (workspace / "file").touch()
    with (
        caplog.at_level(logging.WARNING),
        begun(workspace / "file", Store(workspace / "store"), "x", [B]) as ended,
    ):
        ended()
    assert "cannot be noted" in caplog.text


def test_a_run_that_begins_while_the_user_is_asked_is_seen(workspace: Path) -> None:
    found = survey(workspace, no_studies).leftovers
    with begun(workspace, Store(workspace / "store"), "two-smoke", [B]):
        removed = clean(workspace, no_studies, found)
        assert whole(Store(workspace / "store")) == {A, B}
        assert {item.link for item in removed.items} == {C}


def test_a_run_that_begins_while_things_are_taken_away_waits_and_then_looks(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen B before; it is told of the truth when it is let in."""
    store, found = Store(workspace / "store"), survey(workspace, no_studies).leftovers
    assert store.has(*B)
    seen: list[bool] = []

    def run() -> None:
        with begun(workspace, store, "two-smoke", [B]) as ended:
            seen.append(store.has(*B))
            ended()

    runner = threading.Thread(target=run)
    look = leftovers.survey

    def looks(*arguments: object) -> leftovers.Survey:
        now = look(*arguments)  # type: ignore[arg-type]
        runner.start()
        runner.join(0.5)
        assert runner.is_alive()
        return now

    monkeypatch.setattr(leftovers, "survey", looks)
    clean(workspace, no_studies, found)
    runner.join(30)
    assert seen == [False]
    assert whole(store) == {A}


def test_a_process_of_which_nothing_is_noted_stops_everything(workspace: Path) -> None:
    """An earlier version's, which works on a node and will want others."""
    found = survey(workspace, no_studies).leftovers
    store = Store(workspace / "store")
    with FileLock(store.lock_path(*B)):
        for tried in (lambda: survey(workspace, no_studies), lambda: clean(workspace, no_studies, found)):
            with pytest.raises(leftovers.StoreError, match="a process works on retrain"):
                tried()
    assert whole(store) == {A, B, C}
    with FileLock(store.lock_path(*A)):  # of the recorded experiment
        assert cleaned(workspace) == {A}
