"""Databases on a server: the driver that opens an address, turns, a server that is away for a while."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sfrbench.errors import NotReadyError, SfrbenchError, StoreError, chain
from sfrbench.files.urls import masked

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

log = logging.getLogger(__name__)

_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+(\w+))?(?=:)")
#: Drivers of PostgreSQL, the one of our extra first.
_DRIVERS = ("psycopg2", "psycopg")
_INSTALL = "pip install 'sfrbench[postgres]'"
#: How libpq finds out within about a minute that the other end is gone without a word.
_NOTICE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_TURN_S = 300  # for another process that has its turn


def with_driver(url: str) -> str:
    """The address of a PostgreSQL database with a driver that is here; any other address as it is.

    What SQLAlchemy takes where none is named is psycopg2 before its version 2.1 and psycopg since. Raises
    ``NotReadyError`` where no driver is installed, or not the one that is named.
    """
    scheme = _POSTGRES.match(url)
    if scheme is None:
        return url
    named = scheme[1]
    if named is not None:
        if named in _DRIVERS and find_spec(named) is None:
            what = f"its driver {named} is not installed: leave '+{named}' out, and {_INSTALL}"
            raise NotReadyError(what, where=masked(url))
        return f"postgresql+{named}{url[scheme.end() :]}"
    for driver in _DRIVERS:
        if find_spec(driver) is not None:
            return f"postgresql+{driver}{url[scheme.end() :]}"
    raise NotReadyError(f"no driver of PostgreSQL is installed: {_INSTALL}", where=masked(url))


def engine_options(url: str) -> dict[str, Any]:
    """What SQLAlchemy's ``create_engine`` is told beside an address.

    One connection is kept between questions, so that many workers do not use up those of a server.
    """
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 60}}
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 4}
    scheme = _POSTGRES.match(url)
    if scheme is not None and scheme[1] in _DRIVERS:
        own = set(re.findall(r"[?&](\w+)=", url))
        options["connect_args"] = {name: value for name, value in _NOTICE.items() if name not in own}
    return options


def is_postgres(url: str) -> bool:
    return _POSTGRES.match(url) is not None


class Turn:
    """One process at a time, of all that open a PostgreSQL database, wherever they run.

    A turn ends with ``release``, or with its connection: a process that is killed holds nobody up.
    """

    def __init__(self, engine: Engine, purpose: str) -> None:
        self._engine = engine
        self._key = int.from_bytes(hashlib.sha256(f"sfrbench {purpose}".encode()).digest()[:8], signed=True)
        self._connection: Connection | None = None

    def __enter__(self) -> Turn:
        import sqlalchemy

        self._connection = self._engine.connect()
        try:
            # both are of one transaction, so that they hold behind a pooler of connections, too
            self._connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{_TURN_S}s'"))
            self._connection.execute(
                sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": self._key}
            )
        except BaseException:
            self.release()
            raise
        return self

    def release(self, force: bool = True) -> None:
        """End the turn, where it has not ended. Never raises: a broken connection has ended it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def __exit__(self, *_: object) -> None:
        self.release()


@contextmanager
def one_at_a_time(url: str, purpose: str) -> Iterator[list[str]]:
    """One process at a time makes tables: in PostgreSQL, two that do so at once end in errors.

    Gives the version of the tables that are there, as Optuna (``v3.2.0.a``) or MLflow (``cbc13b556ace``) note
    it, both in the same place; nothing where there is none.
    """
    if not is_postgres(url):
        yield []
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, **engine_options(url))
    try:
        with Turn(engine, purpose), engine.connect() as connection:
            noted = sqlalchemy.inspect(connection).has_table("alembic_version")
            read = sqlalchemy.text("SELECT version_num FROM alembic_version")
            versions = list(connection.execute(read).scalars()) if noted else []
            connection.close()
            yield versions
    finally:
        engine.dispose()


class Waiting:
    """From now on an engine that connects anew waits for a server that went away.

    One that stays away for ``seconds`` is a ``StoreError``, with ``hint``; ``name`` is what messages call it.
    """

    def __init__(self, engine: Engine, name: str, seconds: float, hint: str) -> None:
        from sqlalchemy import event

        self.back = -math.inf  # when the server came back last, by the monotonic clock
        self._gone = False
        self._name, self._seconds, self._hint = name, seconds, hint
        event.listen(engine, "do_connect", self._connect)

    def _connect(self, dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        began, told = time.monotonic(), False
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if self._gone or time.monotonic() - began > self._seconds:
                    self._gone = True  # who asks next does not wait again
                    said = str(error).partition("\n")[0]
                    raise StoreError(f"does not answer: {said}", where=self._name, hint=self._hint) from error
                if not told:
                    log.warning(
                        "%s does not answer; waiting for it, %.0f s at most", self._name, self._seconds
                    )
                told = True
                time.sleep(1)
                continue
            if told or self._gone:
                self.back, self._gone = time.monotonic(), False
                log.warning("%s answers again", self._name)
            return connection


def cut_off(error: BaseException) -> bool:
    """Whether an error comes of a connection that broke in the middle of a question."""
    from sqlalchemy.exc import DBAPIError

    for each in chain(error):
        if isinstance(each, DBAPIError | SfrbenchError):
            return isinstance(each, DBAPIError) and each.connection_invalidated
    return False
