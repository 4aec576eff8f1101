"""A conversation with a tracker in a process of its own: whatever a server does, it ends.

A server may ask to be tried again in an hour, answer a byte a second, or never end an answer. What MLflow
does about that cannot be stopped from within its process.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Mapping
from typing import Any, Literal

from sfrbench.files.children import end_with_parent

Word = Literal["starts", "waits", "works"]
Say = Callable[[Word], None]

#: Seconds until the next word: of a process that starts, that waits for another one's turn, that logs a cell.
PATIENCE_S: dict[Word, float] = {"starts": 120.0, "waits": 320.0, "works": 60.0}
MEMORY = 2 * 1024**3  # bytes for MLflow and the answers that it reads


class Conversation:
    """``make(say, *arguments)`` gives the functions that can be asked for by name, there and not here."""

    def __init__(self, make: Callable[..., Mapping[str, Callable[..., Any]]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        call = (theirs, os.getpid(), make, arguments)
        self._process = context.Process(target=_serve, args=call, daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, name: str, *arguments: Any) -> Any:
        """What the function of this name returns. Raises ``OSError`` where nothing comes back in time."""
        word: Word | None = "starts"
        try:
            self._pipe.send((name, arguments))
            while word is not None:
                if not self._pipe.poll(PATIENCE_S[word]):
                    raise TimeoutError(f"no sign of life for {PATIENCE_S[word]:.0f} s")
                word, answer = self._pipe.recv()
        except (OSError, EOFError) as error:
            self.end()
            if isinstance(error, TimeoutError):
                raise
            raise ConnectionError("the process that talks to it ended") from error
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Any, parent: int, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Answers until there is nobody to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    end_with_parent(parent)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if most < 0 else min(MEMORY, most), most))
    functions = make(lambda word: pipe.send((word, None)), *arguments)
    while True:
        try:
            name, given = pipe.recv()
        except EOFError:
            return
        pipe.send((None, functions[name](*given)))
