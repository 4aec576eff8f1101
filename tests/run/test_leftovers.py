"""What can go, what stays, and what it takes on the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sfrbench.errors import InputError
from sfrbench.run import sizes as rows
from sfrbench.run.leftovers import Survey, clean, survey
from sfrbench.run.sizes import Row, Sizes
from sfrbench.run.wanted import User
from sfrbench.store.store import Store
from tests.support.leftovers import BYTES, digest, journal, link, make, no_studies, whole

DATA, TRAINED, TWIN, SCORED, OLD, OLDER = (
    link("prepare", "data"), link("retrain", "trained"), link("retrain", "twin"), link("evaluate", "scored"),
    link("retrain", "old"), link("evaluate", "older"),
)  # fmt: skip
NEXT, PRUNED = link("retrain", "next"), link("retrain", "pruned")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two experiments share data; one needs a training, the other its twin; a third has been edited since."""
    place = tmp_path / "runs"
    store = Store(place / "store")
    store.open()
    make(store, DATA)
    make(store, TRAINED, DATA, work="training")
    make(store, TWIN, DATA, equal_to=TRAINED)
    make(store, SCORED, TRAINED)
    make(store, OLD, DATA)
    make(store, OLDER, OLD)
    journal(place, "one-smoke", SCORED)  # what is behind it is found in records
    journal(place, "two-smoke", TWIN, NEXT)
    return place


def scratch(store: Store, node: tuple[str, str]) -> None:
    with store.lock(*node):
        folder = store.scratch(*node)
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").write_bytes(b"x" * BYTES)


def told(found: Survey) -> dict[str, str]:
    """The reasons, by place below the store."""
    return {str(each.item.path.relative_to(found.store.root)): each.reason for each in found.leftovers}


def test_artefacts_that_nobody_needs_can_go_with_their_locks(workspace: Path) -> None:
    found = survey(workspace, no_studies)
    nobody = "no experiment recorded here needs it"
    assert told(found) == {
        f"{folder}{mark}{key}{ending}": nobody
        for stage, key in (OLD, OLDER)
        for folder, mark, ending in ((stage, "/", ""), (f"locks/{stage}", "-", ".lock"))
    }
    clean(workspace, no_studies, found.leftovers)
    assert whole(found.store) == {DATA, TRAINED, TWIN, SCORED}
    assert survey(workspace, no_studies).leftovers == []


def test_what_went_into_a_needed_artefact_is_needed_however_far_back(workspace: Path) -> None:
    (workspace / "journal" / "two-smoke.json").unlink()
    journal(workspace, "one-smoke", OLDER)
    found = survey(workspace, no_studies)
    assert found.needed == {OLDER, OLD, DATA}
    clean(workspace, no_studies, found.leftovers)
    assert whole(found.store) == {OLDER, OLD, DATA}


def test_checkpoints_stay_where_somebody_goes_on_with_them(workspace: Path) -> None:
    store = Store(workspace / "store")
    for node in (NEXT, SCORED, PRUNED, link("retrain", "unknown")):
        scratch(store, node)
    study = User(
        "two-smoke", "study", "two-smoke-0123456789", frozenset({PRUNED, TRAINED}), frozenset({TRAINED})
    )
    reasons = told(survey(workspace, lambda _: [study]))
    nobody = "no experiment recorded here goes on with it"
    assert {name: reason for name, reason in reasons.items() if name.startswith("partial")} == {
        f"partial/evaluate-{SCORED[1]}": "its node is done",
        f"partial/retrain-{PRUNED[1]}": nobody,
        f"partial/retrain-{digest('unknown')}": nobody,
    }
    assert f"locks/retrain-{PRUNED[1]}.lock" not in reasons


def test_failures_stay_until_their_node_is_done(workspace: Path) -> None:
    store = Store(workspace / "store")
    for node in (NEXT, SCORED, link("retrain", "unknown")):
        store.note_failure(*node, "it broke", "log")
    reasons = told(survey(workspace, no_studies))
    assert {name: reason for name, reason in reasons.items() if name.startswith("failed")} == {
        f"failed/evaluate-{SCORED[1]}": "its node is done",
        f"failed/retrain-{digest('unknown')}": "no experiment recorded here needs it",
    }


def test_what_was_set_aside_dead_processes_and_work_that_leads_nowhere_can_go(workspace: Path) -> None:
    store = Store(workspace / "store")
    (store.folder(*SCORED) / "deep" / "a.bin").unlink()
    make(Store(store.root), SCORED, TRAINED)  # the old one is set aside
    dead = store.root / "tmp" / "dead"
    (dead / "files").mkdir(parents=True)
    (dead / "lock").touch()
    os.utime(dead, (0, 0))
    alive = store.new_folder()
    os.utime(alive.parent, (0, 0))
    young = store.root / "tmp" / "young"
    young.mkdir()
    for name, text in {"gone": digest("gone"), "odd": "../../..", "torn": ""}.items():
        (store.root / "work" / f"retrain-{digest(name)}").write_text(text)
    (store.root / "work" / "README").write_text("not ours")
    found = survey(workspace, no_studies)
    reasons = told(found)
    (aside,) = (name for name in reasons if name.startswith("damaged/"))
    assert reasons[aside] == "it was set aside when its node was made anew"
    assert reasons["tmp/dead"] == "the process that wrote it is gone"
    work = {name: reason for name, reason in reasons.items() if name.startswith("work/")}
    assert work[f"work/retrain-{digest('gone')}"] == "its node is gone"
    assert f"work/retrain-{digest('training')}" not in work
    removed = clean(workspace, no_studies, found.leftovers)
    assert (removed.busy, removed.faults) == ([], [])
    assert alive.is_dir()
    assert young.is_dir()
    assert (store.root / "work" / "README").is_file()
    assert whole(store) == {DATA, TRAINED, TWIN, SCORED}
    assert told(survey(workspace, no_studies)) == {}


def test_a_folder_of_the_users_own_is_none_of_ours(workspace: Path) -> None:
    mine = workspace / "store" / "notes" / "today"
    mine.mkdir(parents=True)
    (mine / "record.json").write_text('{"files": {}, "bytes": 0}')
    (workspace / "store" / "retrain" / "backup").mkdir()
    (workspace / "store" / "README").touch()
    clean(workspace, no_studies, survey(workspace, no_studies).leftovers)
    assert (mine / "record.json").is_file()
    assert (workspace / "store" / "retrain" / "backup").is_dir()
    assert (workspace / "store" / "README").is_file()


def test_an_artefact_without_a_record_goes_by_its_name(workspace: Path) -> None:
    """What another version or a broken disk left; of a needed node it is a run's to set aside."""
    store = Store(workspace / "store")
    for node in (OLD, SCORED):
        (store.folder(*node) / "record.json").write_text("{")
    reasons = told(survey(workspace, no_studies))
    assert f"retrain/{OLD[1]}" in reasons
    assert f"evaluate/{SCORED[1]}" not in reasons


def test_a_stage_that_is_a_link_is_counted_and_left_alone(workspace: Path, tmp_path: Path) -> None:
    """Two stores may share their prepared data so."""
    store = Store(workspace / "store")
    shutil.move(store.root / "retrain", tmp_path / "big")
    (store.root / "retrain").symlink_to(tmp_path / "big")
    found = survey(workspace, no_studies)
    assert f"retrain/{OLD[1]}" not in told(found)
    assert f"evaluate/{OLDER[1]}" in told(found)
    assert DATA in found.needed  # records behind the link are read
    clean(workspace, no_studies, found.leftovers)
    assert whole(store) == {DATA, TRAINED, TWIN, SCORED, OLD}
    assert (
        next(row for row in rows.by_stage(found.contents, Sizes()) if row.name == "retrain").bytes > 2 * BYTES
    )


def test_a_folder_without_a_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no workspace with a store"):
        survey(tmp_path / "nowhere", no_studies)


def disk(*paths: Path) -> int:
    """What places take together, as ``du`` says it."""
    command = ["du", "-sc", "--block-size=1", *map(str, paths)]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[-2])


@pytest.mark.skipif(shutil.which("du") is None, reason="compares with du")
def test_sizes_are_those_of_du_and_twins_count_once(workspace: Path) -> None:
    store = Store(workspace / "store")
    scratch(store, NEXT)
    found = survey(workspace, no_studies)
    at = {node: store.folder(*node) for node in (DATA, TRAINED, TWIN, SCORED, OLD, OLDER)}
    stages = {row.name: row for row in rows.by_stage(found.contents, Sizes())}
    assert list(stages) == ["prepare", "retrain", "evaluate", "checkpoints"]  # as they run
    assert stages["retrain"] == Row("retrain", 3, *[disk(at[TRAINED], at[TWIN], at[OLD])] * 2)
    assert stages["evaluate"].bytes == disk(at[SCORED], at[OLDER])
    assert stages["checkpoints"].bytes == disk(store.scratch(*NEXT))
    shared = disk(store.folder(*TWIN) / "deep" / "a.bin")
    assert shared >= BYTES
    by_name = {row.name: row for row in rows.by_experiment(found, Sizes())}
    one, two = at[TRAINED], [at[TWIN], store.scratch(*NEXT)]
    assert by_name == {
        "one-smoke": Row("one-smoke", 3, disk(at[DATA], one, at[SCORED]), disk(one, at[SCORED]) - shared),
        "two-smoke": Row("two-smoke", 2, disk(at[DATA], *two), disk(*two) - shared),
    }


@pytest.mark.skipif(shutil.which("du") is None, reason="compares with du")
def test_a_twin_frees_what_it_has_alone(workspace: Path) -> None:
    """The file system's own count before and after."""
    (workspace / "journal" / "two-smoke.json").unlink()
    found = survey(workspace, no_studies)
    items = [each.item for each in found.leftovers]
    assert {item.link for item in items} == {TWIN, OLD, OLDER}
    promised, before = Sizes().of(items).freed, disk(workspace)
    clean(workspace, no_studies, found.leftovers)
    assert abs(before - disk(workspace) - promised) < BYTES / 4  # folders may shrink
    assert promised < 3 * BYTES
    assert whole(found.store) == {DATA, TRAINED, SCORED}


def test_beside_the_store(workspace: Path) -> None:
    (workspace / "studies.db").write_bytes(b"x" * BYTES)
    found = {row.name: row.bytes for row in rows.beside(workspace)}
    assert list(found) == ["journal", "studies.db"]
    assert found["studies.db"] >= BYTES
