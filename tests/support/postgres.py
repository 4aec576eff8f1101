"""A PostgreSQL server for as long as somebody needs it: on a free port of this machine, its data in a
temporary folder, gone with the process that started it.

    python -m tests.support.postgres      prints addresses for --storage and --tracking-uri, until Ctrl-C

Needs Debian's package ``postgresql`` and ``setpriv``. PostgreSQL does not run as root: started by root, it
runs as the user that the package makes.
"""

from __future__ import annotations

import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

USER = "studies"
#: Quick rather than safe: what is lost when the machine loses power is of no use to anybody.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "listen_addresses": "127.0.0.1",
}


def program(name: str) -> str | None:
    """A program of PostgreSQL. Debian keeps them out of PATH, a folder for each version."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[-2]))
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders[::-1]]))


def lacking() -> str | None:
    """Why there can be no server here; None where there can."""
    for name in ("initdb", "postgres"):
        if program(name) is None:
            return f"no PostgreSQL here: {name} is not found; Debian's package is postgresql"
    if shutil.which("setpriv") is None:
        return "no setpriv here, which ends a server with the process that started it"
    if find_spec("psycopg2") is None:
        return "no driver here: pip install 'sfrbench[postgres]'"
    return None


@dataclass
class Server:
    """A server in a folder, stopped and started at will."""

    folder: Path
    password: str = field(default_factory=lambda: secrets.token_hex(12))
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    databases: int = 0

    def make(self) -> None:
        """The files of a server that has one user, who may do everything, with a password."""
        self.folder.chmod(0o755)
        secret = self.folder / "password"
        secret.write_text(self.password)
        for name in ("data", "socket"):
            (self.folder / name).mkdir()
        if os.geteuid() == 0:
            for path in (secret, self.folder / "data", self.folder / "socket"):
                shutil.chown(path, _user())
        initdb = [program("initdb") or "", "--no-sync", "--encoding=UTF8", "--locale=C"]
        initdb += [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={secret}"]
        command = [*_as_user(), *initdb, str(self.folder / "data")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = {**_SETTINGS, "port": self.port, "unix_socket_directories": self.folder / "socket"}
        command = [*_as_user(), program("postgres") or "", "-D", str(self.folder / "data")]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        note = self.folder / "data" / "postmaster.pid"
        deadline = time.monotonic() + 60
        while not (note.is_file() and note.read_text().rstrip().endswith("ready")):
            said = (self.folder / "log.txt").read_text()
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: at once, with SIGINT; as in a crash, with SIGQUIT."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=60)

    def database(self) -> str:
        """The address of a new, empty database."""
        self.databases += 1
        name = f"db{self.databases}"
        self.say(f"CREATE DATABASE {name}", "postgres")
        return self.url(name)

    def url(self, database: str, password: str | None = None, *, local: bool = False) -> str:
        """An address, by the port of this machine or by the socket in the folder."""
        secret = quote(self.password if password is None else password)
        if local:
            folder = quote(str(self.folder / "socket"), safe="")
            return f"postgresql://{USER}:{secret}@/{database}?host={folder}&port={self.port}"
        return f"postgresql://{USER}:{secret}@127.0.0.1:{self.port}/{database}"

    def say(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """Have the server do something; the rows that it answers."""
        import psycopg2

        connection = psycopg2.connect(self.url(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def _user() -> str:
    """Who runs the server where root starts it."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _as_user() -> list[str]:
    """Words before a command: another user than root, and an end with whoever started it."""
    switch = []
    if os.geteuid() == 0:
        entry = pwd.getpwnam(_user())
        switch = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]
    return ["setpriv", *switch, "--pdeathsig=INT"]


@contextmanager
def running() -> Iterator[Server]:
    """A server that answers; its folder is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sfrbench-pg-", dir="/tmp"))  # the path of a socket must be short
    server = Server(folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    fault = lacking()
    if fault is not None:
        raise SystemExit(fault)
    with running() as server:
        for option in ("--storage", "--tracking-uri"):
            print(option, server.database(), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
