"""URLs of databases: of any path, and without passwords where they are shown."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from sfrbench.errors import InputError
from sfrbench.files.urls import (
    check_answers,
    has_password,
    masked,
    sqlite_file,
    sqlite_url,
    without_secrets_of,
)
from sfrbench.report.notebook import check_storage
from sfrbench.search.storage import default_storage, open_storage

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
        ("https://user:pw@host:5000", "https://***@host:5000"),
        ("http://:token@host", "http://***@host"),
        ("mysql://host/x?user=me&password=pw&a=b", "mysql://host/x?user=me&password=***&a=***"),
        ("could not reach 'http://a:pw@b' or http://c:pw@d", "could not reach 'http://***@b' or http://***@d"),
        ("http://host:5000", "http://host:5000"),
        ("http://host:5000/x@y", "http://***@y"),  # may be a password with a slash
        ("sqlite:////data/a@b/x.db", "sqlite:////data/a@b/x.db"),
        ("postgresql://user@host/x", "postgresql://user@host/x"),
    ],
)  # fmt: skip
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert has_password(url) == (url != shown)


ODD_SECRETS = [
    "http://u:12/34S3CRET@h:5000", "http://S3CRETTOKEN@h", "http://h/?access_token=S3CRET",
    "http://h/?api_key=S3CRET", "http://h?x=1;password=S3CRET", "http://h/?sig=S3CRET", "http://h/#token=S3CRET",
    "mssql+pyodbc:///?odbc_connect=Driver%3DX%3BUID%3Du%3BPWD%3DS3CRET", "http://h/?token='S3CRET'",
    "postgresql://h/db?user=u&passfile=x&PASSWORD=S3 CRET", "mysql://u:p@S3:CRET@h/db", "http://u:S3%20CRET@h",
    "http://u:S3 CRET@h", "http://:S3CRET@h", "http://u:@S3CRET@h", "postgresql://u:12345/S3CRET@h/db",
    "http:/u:S3CRET@h", "u:S3CRET@h", "http://u\\:S3CRET@h", "s3://KEY:S3CRET@b/p", 'http://u:S3"CRET@h',
    "http://S3CRET:x-oauth-basic@h", "http://u:S3CRET@h/?token=S3CRET", "databricks://p:S3CRET@w", "http://h/?k=S3CRET",
]  # fmt: skip


@pytest.mark.parametrize("url", ODD_SECRETS)
def test_secrets_of_every_form_are_masked(url: str) -> None:
    assert "CRET" not in masked(url)
    assert masked(masked(url)) == masked(url)
    if " " not in url:
        assert "CRET" not in masked(f"could not reach '{url}' (refused), nor http://other:80")
        assert "(refused), nor http://other:80" in masked(
            f"could not reach {url} (refused), nor http://other:80"
        )


def test_a_server_does_not_say_the_password_either() -> None:
    url = "http://me:pass%20word@h:5000/?access_token=abcdef&timeout=5000"
    said = "401 for me: 'pass word' and pass%20word, abcdef, on h:5000 after 5000 s"
    assert without_secrets_of(url, said) == "401 for me: '***' and ***, ***, on h:5000 after 5000 s"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////data/a@b/x.db", "sqlite+pysqlite:///file:/x%3F?uri=true", "http://host:5000",
        "http://host:5000 is down, ask me@home.org", "postgresql://user@host/x?sslmode=require",
        "see a/b.yaml:3:4", "tau 0.9; b = 3",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert masked(text) == text


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
