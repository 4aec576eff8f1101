"""The MLflow database of a workspace: made whole, found broken, moved with its folder."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sfrbench.files.urls import sqlite_url

log = logging.getLogger(__name__)

#: What a step of MLflow's migrations says of itself, and of the one before it.
_STEP, _BEFORE = (re.compile(rf'^{name} = "(\w+)"', re.M) for name in ("revision", "down_revision"))
#: What says that a file is no whole database; a locked or unreadable one is not broken.
_BROKEN = ("no such table", "no such column", "malformed", "not a database", "file is encrypted")


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database that is there."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=20)) as connection:
        yield connection


def ensure(path: Path, *, replace_broken: bool) -> bool:
    """Make the database where there is none, or set a broken one aside and make it anew.

    It gets its name once it is complete, so that a kill leaves all of it or nothing. Returns whether it was
    made."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        for left in path.parent.glob(f"{path.name}.new-*"):  # of a killed process: nobody else makes one now
            left.unlink(missing_ok=True)
        if path.is_file() and path.stat().st_size:
            if not replace_broken or not _is_broken(path):
                return False
            aside = path.with_name(f"{path.name}.broken-{uuid.uuid4().hex[:6]}")
            os.replace(path, aside)
            log.warning(
                "%s is broken and is set aside as %s; it is made anew from the store", path, aside.name
            )
        temporary = path.with_name(f"{path.name}.new-{uuid.uuid4().hex[:8]}")
        try:
            _make(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return True


def _make(path: Path) -> None:
    """All tables, as MLflow makes them when it first opens a database."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made: Any = SqlAlchemyStore
    made(sqlite_url(path), (path.parent / "mlartifacts").resolve().as_uri()).engine.dispose()


def _is_broken(path: Path) -> bool:
    """Whether a database lacks what MLflow needs. One with runs, of another version of MLflow, does not."""
    try:
        with opened(path) as connection:
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return True
            runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
            version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.DatabaseError as error:
        if any(text in str(error) for text in _BROKEN):
            return True
        raise
    return not version or (not runs and not _is_newest(version))  # a kill may have left an earlier step


def _is_newest(version: list[tuple[str]]) -> bool:
    newest = newest_version()
    return len(version) == 1 and newest in (None, version[0][0])


def newest_version() -> str | None:
    """The last step of the migrations of the installed MLflow, which is not imported: that takes seconds.

    None where it cannot be told.
    """
    package = find_spec("mlflow")
    if package is None or package.origin is None:
        return None
    steps: set[str] = set()
    passed: set[str] = set()
    for path in (Path(package.origin).parent / "store" / "db_migrations" / "versions").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        steps.update(_STEP.findall(text))
        passed.update(_BEFORE.findall(text))
    last = steps - passed
    return last.pop() if len(last) == 1 else None


def fits(path: Path) -> bool:
    """Whether the installed MLflow opens a database: it has a table of runs, and one version, the newest."""
    try:
        with opened(path) as connection:
            connection.execute("SELECT count(*) FROM runs").fetchone()
            return _is_newest(connection.execute("SELECT version_num FROM alembic_version").fetchall())
    except sqlite3.DatabaseError:
        return False


def cells(path: Path, experiment: str) -> set[str]:
    """The cells that have a run in an experiment, by their ids.

    Empty where nothing can be read, or the run that stands over them is gone.
    """
    query = (
        "SELECT t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
        "JOIN experiments e ON e.experiment_id = r.experiment_id WHERE t.key = 'sfrbench.cell' "
        "AND r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' AND e.name = ? "
        "AND EXISTS (SELECT 1 FROM tags u JOIN runs s ON s.run_uuid = u.run_uuid "
        "WHERE u.key = 'sfrbench.role' AND u.value = 'experiment' "
        "AND s.lifecycle_stage = 'active' AND s.experiment_id = r.experiment_id)"
    )
    if not path.is_file():
        return set()
    try:
        with opened(path) as connection:
            return {str(row[0]) for row in connection.execute(query, (experiment,))}
    except sqlite3.DatabaseError:
        return set()


def follow(path: Path) -> None:
    """Make the addresses of artefacts, which MLflow keeps as absolute, those of the folder where the database
    lies now."""
    here = (path.parent / "mlartifacts").resolve().as_uri()
    with opened(path) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments").fetchall()
        old = {
            place[: place.rindex("/mlartifacts/")] + "/mlartifacts"
            for (place,) in found
            if place and place.startswith("file:") and "/mlartifacts/" in place
        }
        for before in old - {here}:
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (here, len(before) + 1, len(before) + 1, f"{before}/"),
                )
        connection.commit()


def is_database(uri: str) -> bool:
    """Whether a tracking URI is of a database, not of a server or a folder."""
    return uri.partition(":")[0].partition("+")[0] in ("sqlite", "postgresql", "postgres", "mysql", "mssql")


def open_once(uri: str) -> None:
    """Raises what keeps a database from being opened, at once: MLflow would try ten times."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()
