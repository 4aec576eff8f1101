"""Removing beside others: an artefact is whole or absent after any kill, and twins keep their files."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from sfrbench.store import removal
from sfrbench.store.contents import Contents, Item
from sfrbench.store.removal import Removed, gate, remove
from sfrbench.store.store import Store
from tests.support.leftovers import digest, link, make, whole
from tests.support.places import ROOT
from tests.support.runs import environment

A, B, C = link("retrain", "a"), link("retrain", "b"), link("predict", "c")


def without(store: Store, *kept: tuple[str, str]) -> Removed:
    """Remove all nodes of a store but some, with what is left of them."""

    def reason(item: Item) -> str:
        return "" if item.link in kept and item.kind != "work" else "of no use"

    contents = Contents.of(store)
    items = [item for item in contents.items if reason(item) and item.kind != "work"]
    items.sort(key=lambda item: item.kind == "lock")
    return remove(store, items, lambda: (Contents.of(store), reason))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A needed node, a twin of it that is not, another one, a checkpoint, a failure."""
    made = Store(tmp_path / "store")
    made.open()
    make(made, A, work="training")
    make(made, B, equal_to=A)
    make(made, C, A)
    with made.lock("retrain", digest("d")):
        scratch = made.scratch("retrain", digest("d"))
        scratch.mkdir(parents=True)
        (scratch / "checkpoint.pt").write_bytes(b"x" * 1000)
    with made.lock("retrain", digest("e")):
        made.note_failure("retrain", digest("e"), "it broke", "log")
    return made


def test_what_is_taken_away_is_gone_and_the_rest_is_whole(store: Store) -> None:
    removed = without(store, A, B)
    assert (removed.busy, removed.faults) == ([], [])
    assert {item.kind for item in removed.items} == {"artefact", "checkpoint", "failure", "lock"}
    assert whole(store) == {A, B}
    left = {path.name for path in store.root.rglob("*") if digest("c") in path.name}
    assert left == set()
    assert [path for name in ("tmp", "partial", "failed") for path in (store.root / name).iterdir()] == []
    assert without(store, A, B).items == []


@pytest.mark.parametrize("node", [A, B])
def test_a_twin_keeps_its_files_and_the_work_leads_to_it(store: Store, node: tuple[str, str]) -> None:
    without(store, node)
    assert whole(store) == {node}
    twin = Store(store.root).twin("retrain", digest("training"))
    assert twin is not None
    assert twin.key == node[1]


def test_work_whose_nodes_are_all_gone_leads_nowhere(store: Store) -> None:
    without(store, C)
    assert whole(store) == {C}
    assert list((store.root / "work").iterdir()) == []


@pytest.mark.parametrize("held", ["retrain", "work"])
def test_what_another_process_holds_is_left(store: Store, held: str) -> None:
    """A node that is being worked on, or whose files are being taken for the same work of another node."""
    path = store.lock_path(*(A if held == "retrain" else ("work", digest("training"))))
    with FileLock(path):
        removed = without(store)
        assert [item.link for item in removed.busy if item.kind == "artefact"] == [A]
        assert whole(store) == {A}
    assert [item.link for item in without(store).items if item.kind == "artefact"] == [A]


def test_a_reason_is_asked_for_again_under_the_lock(store: Store) -> None:
    items = [item for item in Contents.of(store).items if item.kind == "artefact"]
    assert remove(store, items, lambda: (Contents.of(store), lambda item: "")).items == []
    assert whole(store) == {A, B, C}


def test_what_its_owner_removes_meanwhile_is_no_fault(store: Store) -> None:
    """A training that ends drops its checkpoint after it is seen, and before it is taken away."""
    contents = Contents.of(store)
    (checkpoint,) = (item for item in contents.items if item.kind == "checkpoint")

    def reason(item: Item) -> str:
        shutil.rmtree(item.path, ignore_errors=True)
        return "its node is done"

    removed = remove(store, [checkpoint], lambda: (contents, reason))
    assert (removed.items, removed.busy, removed.faults) == ([], [], [])


def test_nobody_notes_what_he_wants_while_things_are_taken_away(store: Store) -> None:
    tried: list[bool] = []

    def ask() -> tuple[Contents, Callable[[Item], str]]:
        lock = FileLock(store.root / "locks" / "clean.lock", timeout=0, is_singleton=False)
        with pytest.raises(TimeoutError):
            lock.acquire()
        tried.append(True)
        return Contents.of(store), lambda item: ""

    remove(store, [], ask)
    assert tried == [True]
    store.has(*A)
    shutil.rmtree(store.folder(*A))
    assert store.has(*A)  # as it was seen
    with gate(store):
        assert not store.has(*A)


def test_a_link_is_removed_and_what_it_leads_to_is_not(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "colleague"
    shutil.move(store.folder(*C), elsewhere)
    store.folder(*C).symlink_to(elsewhere)
    assert without(store, A, B).faults == []
    assert not store.folder(*C).is_symlink()
    assert (elsewhere / "record.json").is_file()
    assert (elsewhere / "deep" / "a.bin").is_file()


def test_a_stage_on_a_disk_of_its_own_is_deleted_in_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))

    monkeypatch.setattr(removal.os, "rename", rename)
    assert without(store, A, B).faults == []
    assert whole(store) == {A, B}


def test_a_disk_to_read_only_is_said_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(source))

    monkeypatch.setattr(removal.os, "rename", rename)
    with pytest.raises(OSError, match=r"Read-only"):
        without(store)
    assert whole(store) == {A, B, C}


def test_what_cannot_be_deleted_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def rmtree(path: os.PathLike[str], ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(removal.shutil, "rmtree", rmtree)
    removed = without(store, A, B)
    assert len(removed.faults) == 3
    assert all("Permission denied" in fault for fault in removed.faults)
    assert whole(store) == {A, B}


#: Removes in a fork that dies right before its n-th change on the disk, for n = 1, 2, … until none is left.
KILLED = """\
import os, shutil, sys
from pathlib import Path
from sfrbench.store.store import Store
from tests.store.test_removal import A, B, without
from tests.support.leftovers import whole

place, n, died = Path(sys.argv[1]), 0, True
store = Store(place / "copy" / "store")
without(Store(place / "warm" / "store"), A)  # everything that is imported when it is needed
while died:
    n += 1
    shutil.rmtree(place / "copy", ignore_errors=True)
    shutil.copytree(place / "first", place / "copy", copy_function=os.link)
    child = os.fork()
    if child == 0:
        left = n
        def hook(event, arguments):
            global left
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                left -= 1
                if left == 0:
                    os._exit(9)
        sys.addaudithook(hook)
        without(store, A)
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert A in whole(store), n
    for folder in (store.root / "tmp").iterdir():
        os.utime(folder, (0, 0))
    without(store, A)
    assert whole(store) == {A}, n
    twin = Store(store.root).twin("retrain", sys.argv[2])
    assert twin is not None and twin.key == A[1], n
    Store(store.root).open()
    rest = [path for name in ("tmp", "partial", "failed") for path in (store.root / name).iterdir()]
    assert rest == [], (n, rest)
print(n)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_before_any_change_an_artefact_is_whole_or_absent(store: Store, tmp_path: Path) -> None:
    place = tmp_path / "kills"
    for name in ("first", "warm"):
        shutil.copytree(store.root, place / name / "store")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(place), digest("training")],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 20
