"""The store: atomic or absent, checked on read, explained."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from sfrbench.errors import StoreError
from sfrbench.files.atomic import canonical, write_atomic
from sfrbench.store.fingerprints import Fingerprints
from sfrbench.store.store import Store
from tests.support.stores import publish


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has("stage", "k1")
    publish(store)
    fresh = Store(tmp_path).get("stage", "k1")
    assert fresh.path("deep/a.txt").read_text() == "hello"
    assert fresh.record["bytes"] == 8
    assert [record["seconds"] for record in store.records("stage")] == [1.0]


@pytest.mark.parametrize("damage", [b"hellp", b"hell", b""])
def test_a_damaged_file_is_found_on_read(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path)
    publish(store)
    (tmp_path / "stage" / "k1" / "deep" / "a.txt").write_bytes(damage)
    with pytest.raises(StoreError, match=r"damaged(.|\n)*(anew|away)"):
        Store(tmp_path).get("stage", "k1").path("deep/a.txt")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("deep/a.txt", None, "deep/a.txt is missing"),
        ("deep/a.txt", b"", "deep/a.txt is damaged"),
        ("deep/b.csv", b"1,3", "deep/b.csv is damaged"),  # of the same size
        ("record.json", "seconds", "record.json is damaged: its hash is another"),
    ],
)
def test_a_damaged_artefact_is_made_anew_beside_the_old_one(
    tmp_path: Path, file: str, content: bytes | str | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    publish(store)
    path = tmp_path / "stage" / "k1" / file
    if content is None:
        path.unlink()
    elif isinstance(content, str):
        path.write_text(path.read_text().replace(f'"{content}": 1.0', f'"{content}": 2.0'))
    else:
        path.write_bytes(content)
    store = Store(tmp_path)
    assert not store.has("stage", "k1")
    assert store.damage("stage", "k1") == told
    assert told in (store.failure("stage", "k1") or "")
    store.check("stage", "k1")  # it may be replaced
    publish(store)
    assert store.has("stage", "k1")
    assert store.damage("stage", "k1") == ""
    (aside,) = (tmp_path / "damaged").iterdir()
    assert (aside / "record.json").is_file()
    assert f"{told}; it is set aside as {aside}" in caplog.text


def test_a_damaged_volume_of_the_same_size_is_found_when_it_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store)
    (tmp_path / "stage" / "k1" / "deep" / "a.txt").write_bytes(b"jello")
    assert Store(tmp_path).has("stage", "k1")
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path).get("stage", "k1").path("deep/a.txt")


def test_missing_file_and_record_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError, match="no readable record"):
        store.get("stage", "nothing")
    publish(store)
    with pytest.raises(StoreError, match=r"holds no file 'b\.txt'"):
        store.get("stage", "k1").path("b.txt")


def test_nothing_is_visible_before_publishing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.new_folder()
    (folder / "a.txt").write_text("half")
    assert not store.has("stage", "k1")
    assert not (tmp_path / "stage").exists()


def test_publishing_drops_scratch_and_failure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.scratch("stage", "k1").mkdir(parents=True)
    store.note_failure("stage", "k1", "it broke", "traceback")
    assert store.failure("stage", "k1") == "it broke"
    publish(store)
    assert store.failure("stage", "k1") is None
    assert not store.scratch("stage", "k1").exists()


def test_a_folder_without_record_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "stage" / "k1").mkdir(parents=True)
    assert not store.has("stage", "k1")
    publish(store)
    assert store.has("stage", "k1")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with Store(tmp_path).lock("stage", "k1"):
            order.append("second")

    with Store(tmp_path).lock("stage", "k1"):
        thread = threading.Thread(target=second)
        thread.start()
        started.wait()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_canonical_ignores_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": [1.0, "x"]}) == canonical({"a": [1.0, "x"], "b": 1})
    assert canonical({"a": 1}) != canonical({"a": 2})


def test_fingerprints_follow_content_not_time(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("one")
    cache = tmp_path / "cache.json"
    first = Fingerprints(cache).of([data / "a"], data)
    os.utime(data / "a", (1, 1))
    assert Fingerprints(cache).of([data / "a"], data) == first
    (data / "a").write_text("two")
    assert Fingerprints(cache).of([data / "a"], data) != first


def test_a_moved_folder_has_the_same_fingerprint(tmp_path: Path) -> None:
    marks = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a").write_text("one")
        marks.append(Fingerprints(tmp_path / "cache.json").of([folder / "a"], folder))
    assert marks[0] == marks[1]


def test_a_damaged_fingerprint_cache_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text("{half")
    (tmp_path / "a").write_text("one")
    assert Fingerprints(tmp_path / "cache.json").of([tmp_path / "a"], tmp_path)
    assert json.loads((tmp_path / "cache.json").read_text())


def test_write_atomic_leaves_no_part(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x.json", "1")
    write_atomic(tmp_path / "x.json", "2")
    assert (tmp_path / "x.json").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
