"""Servers at which nothing can be logged: one that refuses, one that answers 500, one that hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

KINDS = ("refuses", "answers 500", "hangs")


class _Sick(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def useless_server(kind: str) -> Iterator[str]:
    """``host:port`` of a server of one of ``KINDS``."""
    if kind == "answers 500":
        with HTTPServer(("127.0.0.1", 0), _Sick) as sick:
            threading.Thread(target=sick.serve_forever, daemon=True).start()
            yield f"127.0.0.1:{sick.server_port}"
            sick.shutdown()
        return
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        if kind == "hangs":
            place.listen()
        yield f"127.0.0.1:{place.getsockname()[1]}"
