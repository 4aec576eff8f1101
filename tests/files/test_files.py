"""Small files: written whole or not at all, read without trust, and faults that name their place."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfrbench.errors import no_room, problem_of, short_of, told
from sfrbench.files.atomic import atomic_file, read_state, write_atomic
from sfrbench.store.fingerprints import Fingerprints
from sfrbench.store.store import Store
from tests.support.stores import publish

TORN = ["", "{", '{"a": ', "[]", "{}", "null", "3", '"text"', '{"a": 1', "[[[", '{"files": []}', "\x00\x01"]


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a.txt") as file:
        _half(file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def _half(file: Path) -> None:
    file.write_text("half")
    raise KeyboardInterrupt


def test_a_full_disk_names_the_file_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, atomic_file(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    problem = problem_of(caught.value)
    assert problem.where == str(tmp_path / "a.txt")
    assert "df -i" in problem.hint
    assert told(caught.value) == str(problem)


def test_links_are_followed_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("there.txt")
    write_atomic(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there.txt").read_text() == "new"
    with atomic_file(Path(os.devnull)) as file:
        file.write_text("nowhere")
    assert Path(os.devnull).is_char_device()


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((NotADirectoryError, FileExistsError)) as caught:
        write_atomic(tmp_path / "file" / "x.json", "{}")
    assert str(tmp_path / "file") in problem_of(caught.value).where
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(tmp_path / "folder", "{}")
    assert "a folder lies where a file" in problem_of(caught.value).hint


@pytest.mark.parametrize("text", TORN)
def test_state_of_another_shape_is_absent(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    wanted = {} if text == "{}" else None
    assert read_state(path, dict[str, dict[str, str]]) == wanted
    (tmp_path / "a").write_text("one")
    assert Fingerprints(path).of([tmp_path / "a"], tmp_path)  # made anew
    store = Store(tmp_path)
    store.note_failure("stage", "k", "why", "log")
    (store.failure_folder("stage", "k") / "error.json").write_text(text)
    assert store.failure("stage", "k") in (None, "for a reason that was not noted")


def test_state_that_is_missing_a_folder_or_not_utf8_is_absent(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b'{"a": "\xe9"}')
    for name in ("missing", "folder", "latin", "latin/below"):
        assert read_state(tmp_path / name, dict[str, str]) is None


@pytest.mark.parametrize("text", TORN)
def test_an_artefact_with_a_part_of_a_record_is_made_anew(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    publish(store, "k1", "old")
    (tmp_path / "stage" / "k1" / "record.json").write_text(text)
    fresh = Store(tmp_path)
    assert not fresh.has("stage", "k1")
    assert list(fresh.records("stage")) == []
    fresh.check("stage", "k1")  # may be replaced
    publish(fresh, "k1", "new")
    assert Store(tmp_path).get("stage", "k1").path("deep/a.txt").read_text() == "new"


def test_a_changed_record_is_damaged(tmp_path: Path) -> None:
    """Its hash is over every other entry; a record without one, of an older version, is valid."""
    publish(Store(tmp_path))
    path = tmp_path / "stage" / "k1" / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"seconds": 2.0}))
    store = Store(tmp_path)
    assert not store.has("stage", "k1")
    assert "its hash is another; 'sfrbench run' makes it anew" in (store.failure("stage", "k1") or "")
    store.check("stage", "k1")  # may be replaced: it is set aside
    del record["sha256"]
    path.write_text(json.dumps(record))
    assert Store(tmp_path).has("stage", "k1")


def test_the_mode_of_all_files_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o002)
    try:
        store = Store(tmp_path)
        folder = store.new_folder()
        (folder / "a").write_text("a")
        (folder / "a").chmod(0o600)  # as safetensors does
        store.publish("stage", "k", folder, {})
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o664}


def test_what_killed_runs_left_is_swept_and_no_living_process_loses_its_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sfrbench.store.store import Store\n"
        "store = Store(Path(sys.argv[1])); folder = store.new_folder(); (folder / 'x').write_text('x')\n"
        "print(folder, flush=True); time.sleep(60)"
    )
    made = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = []
    for process in made:
        assert process.stdout is not None
        folders.append(Path(process.stdout.readline().strip()))
    made[0].kill()
    made[0].wait()
    old = time.time() - 3600
    stranger = tmp_path / "tmp" / "0123"  # without a lock: another version's
    stranger.mkdir()
    store = Store(tmp_path)
    young = store.new_folder()
    for folder in (*(folder.parent for folder in folders), stranger):
        os.utime(folder, (old, old))
    try:
        Store(tmp_path).open()
        assert [folder.exists() for folder in (*folders, stranger, young)] == [False, True, True, True]
    finally:
        made[1].kill()
        made[1].wait()
    assert not [path for path in (tmp_path / "tmp").iterdir() if path.is_file()]


def test_a_shortage_in_the_words_of_a_library_is_understood() -> None:
    for error in (
        MemoryError(),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ):
        assert "not enough memory" in told(error)
    for text in (
        "Error while serializing: I/O error: No space left on device (os error 28)",  # safetensors
        "[Errno 28] Unable to write file (file write failed: errno = 28, ...)",  # h5py
        "database or disk is full",  # SQLite
    ):
        assert "No space left on device\n    free some space" in told(Exception(text))
    assert "quota" in told(Exception("I/O error: Disk quota exceeded (os error 122)"))
    assert short_of(Exception("No such file or directory (os error 2)")) is None
    assert short_of(RuntimeError("shapes differ")) is None
    assert no_room(OSError(errno.ENOSPC, "full"))
    assert no_room(RuntimeError("I/O error: Disk quota exceeded (os error 122)"))
    assert not no_room(OSError(errno.ENOENT, "gone"))
    assert not no_room(MemoryError())
    numpys = OSError("16384 requested and 4064 written")
    numpys.filename = "a.npy"
    assert (problem_of(numpys).where, problem_of(numpys).what) == ("a.npy", "No space left on device")
    numpys.args = ("the server is busy",)
    assert str(problem_of(numpys)) == "a.npy  the server is busy"
    assert told(RuntimeError("shapes differ")) == "RuntimeError: shapes differ"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_state_that_is_a_pipe_or_a_folder_is_absent(tmp_path: Path) -> None:
    """A pipe would be waited for; a new state takes its place."""
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("folder.json", "pipe.json"):
        assert read_state(tmp_path / name, dict[str, int]) is None
    write_atomic(tmp_path / "pipe.json", '{"a": 1}')
    assert read_state(tmp_path / "pipe.json", dict[str, int]) == {"a": 1}
    store = Store(tmp_path / "store")
    for make, key in ((os.mkfifo, "k1"), (os.mkdir, "k2")):
        (tmp_path / "store" / "stage" / key).mkdir(parents=True)
        make(tmp_path / "store" / "stage" / key / "record.json")
        assert not store.has("stage", key)
        assert list(store.records("stage")) == []
        publish(store, key)
        assert Store(store.root).has("stage", key)
        shutil.rmtree(tmp_path / "store" / "stage")
