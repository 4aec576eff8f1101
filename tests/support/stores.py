"""Artefacts put into a store, and what folders hold."""

from __future__ import annotations

from pathlib import Path

from sfrbench.store.store import Store


def publish(store: Store, key: str = "k1", text: str = "hello") -> None:
    folder = store.new_folder()
    (folder / "deep").mkdir()
    (folder / "deep" / "a.txt").write_text(text)
    (folder / "deep" / "b.csv").write_text("1,2")
    store.publish("stage", key, folder, {"seconds": 1.0})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
