"""URLs of databases and servers: made of any path, shown without passwords, asked for a sign of life."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

#: Characters of a path that SQLAlchemy, Optuna (braces) or MLflow read as something else.
_MEANT = re.compile(r"[%?#{}]")
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SECRET = r"(?:password|passwd|pwd|sslpassword|token|secret|access_key)"


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file, whatever its path holds."""
    text = str(path.resolve())
    if not _MEANT.search(text):
        return f"sqlite:///{text}"
    import sqlalchemy

    # from 2.1 on the name of a database is unquoted; before, only SQLite's own form of URL can hold a '?'
    newer = tuple(map(int, re.findall(r"\d+", sqlalchemy.__version__)[:2])) >= (2, 1)
    # with the driver named: MLflow makes a folder of the quoted name otherwise
    form = "sqlite+pysqlite:///{}" if newer else "sqlite+pysqlite:///file:{}?uri=true"
    return form.format(quote(text))


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL without options; none of another URL."""
    import sqlalchemy

    try:
        found = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return None
    named = found.get_backend_name() == "sqlite" and found.database and not found.query
    return Path(str(found.database)) if named else None


def masked(text: str) -> str:
    """A text without the passwords of the URLs in it, those with an '@' or a '/' of their own included."""
    text = re.sub(r"(://[^:/?#\s@]*):[^/\s]*@", r"\1:***@", text)
    text = re.sub(r"(://[^:/?#\s@]*):(?!\d+(?:/|$)|\*\*\*@)[^@\s]*@", r"\1:***@", text)
    return re.sub(rf"([?&]{_SECRET}=)[^&\s'\"]+", r"\1***", text, flags=re.IGNORECASE)


def has_password(url: str) -> bool:
    """Whether something in a URL is not to be shown."""
    return masked(url) != url


def check_answers(url: str, seconds: float = 3.0) -> None:
    """Raises ``OSError`` where nobody listens at the host of a URL; a server behind a proxy is not asked."""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0]
    port = parts.port or _PORTS.get(scheme)
    if not parts.hostname or port is None or urllib.request.getproxies().get(scheme):
        return
    with socket.create_connection((parts.hostname, port), timeout=seconds):
        pass
