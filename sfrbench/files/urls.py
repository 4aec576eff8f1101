"""URLs of databases and servers: made of any path, shown without passwords, asked for a sign of life."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

#: Where addresses that may hold a password are read from: arguments of a process are for everybody to see.
TRACKING, STORAGE = "SFRBENCH_TRACKING_URI", "SFRBENCH_STORAGE"
#: Both: what goes to other machines leaves them behind.
ADDRESSES = (TRACKING, STORAGE)
#: Characters of a path that SQLAlchemy, Optuna (braces) or MLflow read as something else.
_MEANT = re.compile(r"[%?#{}]")
_PORTS = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
#: Options of an address that are shown; what another one holds is taken for a secret.
_PLAIN = (
    "application_name|cache|charset|connect_timeout|database|dbname|driver|host|immutable|mode|port|schema|"
    "sslmode|timeout|uri|user"
)
_SECRET = (
    r"[\w.-]*(?:pass(?:word|wd|phrase)|pwd|token|secret|api_?key|access_?key|credential|signature)[\w.-]*"
)
#: An address in a text: its scheme, and what follows without a space.
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*:/+\S*")
#: User and password, to the last '@'. A password may have spaces, slashes and quotes; a number with nothing
#: or a '/' behind it is a port, unless an '@' follows before a space.
_ALL = re.compile(
    r"([A-Za-z][\w+.-]*:/{1,2})(?!/)((?:(?!://)\S)*|[^:/?#\s@]*:(?!\d+(?:[/\s'\"]|$))(?:(?!://).)*?)@"
)


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
    """The file of an SQLite URL without options; None for any other URL."""
    import sqlalchemy

    try:
        match = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return None
    named = match.get_backend_name() == "sqlite" and match.database and not match.query
    return Path(str(match.database)) if named else None


def masked(text: str) -> str:
    """A text without the passwords and tokens of the addresses in it, whatever characters they have.

    What stands before the last '@' of an address counts as user and password (of a web server as a token,
    too), and the value of every option that is not known to be harmless as a secret.
    """
    text = _ALL.sub(_without_user, text)
    text = re.sub(r"(?<![\w/*])([\w.+-]+):[^\s:/@'\"*]+@(?=[\w.-])", r"\1:***@", text)  # without a scheme
    end = r"[^&;#\n]+" if _ADDRESS.match(text) else r"(?:'[^']*'|\"[^\"]*\"|[^&;#\s'\"]+)"  # an address alone
    text = re.sub(rf"([?&;#\s]{_SECRET}=){end}", r"\1***", text, flags=re.IGNORECASE)
    return _ADDRESS.sub(lambda found: _without_values(found[0]), text)


def _without_user(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    if match[1].startswith(("http:", "https:")) or set("@/") & set(user):
        return f"{match[1]}***@"
    return f"{match[1]}{user}{':***' if colon else ''}@"


def _without_values(address: str) -> str:
    """An address whose options have the values that are harmless."""
    begins = re.search(r"[?#;]", address)
    if begins is None:
        return address
    head, rest = address[: begins.start()], address[begins.start() :]
    return head + re.sub(
        rf"([?&;#](?!(?:{_PLAIN})=)[^=?&;#]+=)[^&;#\s'\"]+", r"\1***", rest, flags=re.IGNORECASE
    )


def without_secrets_of(url: str, text: str) -> str:
    """A text, such as a server's answer, without what ``masked`` hides of the address that it is about."""
    known = re.findall(r"[^/:?&;#=@\s]{4,}", url)
    shown = set(re.findall(r"[^/:?&;#=@\s]{4,}", masked(url)))
    for secret in sorted(set(known) - shown, key=len, reverse=True):
        for form in {secret, unquote(secret)}:
            text = text.replace(form, "***")
    return masked(text)


def has_password(url: str) -> bool:
    """Whether something in a URL is not to be shown."""
    return masked(url) != url


def check_answers(url: str, seconds: float = 3.0) -> None:
    """Raises ``OSError`` where nobody listens at the host of a URL; a server behind a proxy is not asked."""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0]
    if "," in parts.netloc.rpartition("@")[2]:  # several, of which one answers
        return
    port = parts.port or _PORTS.get(scheme)
    if not parts.hostname or port is None or urllib.request.getproxies().get(scheme):
        return
    with socket.create_connection((parts.hostname, port), timeout=seconds):
        pass
