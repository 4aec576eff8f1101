"""URLs of databases: of any path, and without passwords where they are shown."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from sfrbench.errors import InputError
from sfrbench.files.urls import check_answers, has_password, masked, sqlite_file, sqlite_url
from sfrbench.report.notebook import check_storage
from sfrbench.search.studies import default_storage, open_storage

ODD = ["plain", "w?s", "w%s", "w%3Fs", "w#s", "w{s}", "w s", "wü", "w@:s", "w&uri=true", "w;s"]


@pytest.mark.parametrize("name", ODD)
def test_a_database_lies_where_its_path_says(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    engine = sqlalchemy.create_engine(sqlite_url(folder / "x.db"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table here (a int)"))
    engine.dispose()
    with sqlite3.connect(folder / "x.db") as read:
        assert read.execute("select name from sqlite_master").fetchall() == [("here",)]
    assert sqlite_file(sqlite_url(folder / "x.db")) == (folder / "x.db").resolve()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["w?s", "w{s}", "w%s"])
def test_studies_lie_in_their_workspace(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    open_storage(default_storage(tmp_path / name))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")] == [Path(name) / "studies.db"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:pw@host/studies", "postgresql://user:***@host/studies"),
        ("postgresql+psycopg2://user:p@w@host:5432/x", "postgresql+psycopg2://user:***@host:5432/x"),
        ("mysql://user:p/w@host/x", "mysql://user:***@host/x"),
        ("https://user:pw@host:5000", "https://user:***@host:5000"),
        ("http://:token@host", "http://:***@host"),
        ("mysql://host/x?user=me&password=pw&a=b", "mysql://host/x?user=me&password=***&a=b"),
        ("could not reach 'http://a:pw@b' or http://c:pw@d", "could not reach 'http://a:***@b' or http://c:***@d"),
        ("http://host:5000", "http://host:5000"),
        ("http://host:5000/x@y", "http://host:5000/x@y"),
        ("sqlite:////data/a@b/x.db", "sqlite:////data/a@b/x.db"),
        ("postgresql://user@host/x", "postgresql://user@host/x"),
    ],
)  # fmt: skip
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert has_password(url) == (url != shown)


def test_who_listens_is_known_at_once() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        with pytest.raises(OSError, match="refused"):
            check_answers(f"http://127.0.0.1:{port}")
        server.listen()
        check_answers(f"http://u:p@127.0.0.1:{port}/mlflow")
    check_answers("sqlite:////nowhere/x.db")
    check_answers("databricks")


def test_a_notebook_does_not_hold_a_password() -> None:
    check_storage(None)
    check_storage("postgresql://user@host/studies")
    with pytest.raises(InputError, match=r"user:\*\*\*@host") as caught:
        check_storage("postgresql://user:secret@host/studies")
    assert "secret" not in str(caught.value)
