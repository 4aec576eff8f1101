"""Cases prepared one after the other, or by several processes, each with one case in memory at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal, cast

from sfrbench.errors import DataError, NotReadyError, Problem
from sfrbench.files.children import end_with_parent
from sfrbench.stages.prepare.case import Shelf

#: What a process says of a case: made (with what is wrong with it), not possible here, or a defect of ours.
_Answer = tuple[Literal["made", "not ready", "defect"], tuple[Problem, ...], str]


def prepare_all(shelf: Shelf, cases: Sequence[str]) -> Iterator[tuple[str, tuple[Problem, ...]]]:
    """Each case and what is wrong with it, as cases end; those that are finished already come first.

    Raises what stops every case: ``NotReadyError``, and any defect. The processes end with this one, however
    it ends.
    """
    todo = [case for case in cases if not shelf.has(case)]
    yield from ((case, ()) for case in cases if shelf.has(case))
    workers = min(shelf.dataset.workers, len(todo))
    if workers > 1:
        yield from _in_parallel(shelf, todo, workers)
        return
    for case in todo:
        yield case, _made(shelf, case)


def _made(shelf: Shelf, case: str) -> tuple[Problem, ...]:
    try:
        shelf.make(case)
    except DataError as error:
        return error.problems
    return ()


def _in_parallel(shelf: Shelf, todo: Sequence[str], count: int) -> Iterator[tuple[str, tuple[Problem, ...]]]:
    waiting = list(reversed(todo))
    workers = [_Worker(shelf) for _ in range(count)]
    for worker in workers:
        worker.give(waiting.pop())
    try:
        while busy := {worker.pipe: place for place, worker in enumerate(workers) if worker.case}:
            for pipe in wait(list(busy)):
                place = busy[cast(Connection, pipe)]
                case, problems = workers[place].answer()
                if waiting:
                    if workers[place].ended:
                        workers[place] = _Worker(shelf)
                    workers[place].give(waiting.pop())
                yield case, problems
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.end()


class _Worker:
    """A process that prepares one case after the other, and our end of the pipe to it."""

    def __init__(self, shelf: Shelf) -> None:
        # spawned, not forked: this process may have threads and a GPU
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        given = (theirs, shelf, os.getpid())
        self.process: BaseProcess = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        theirs.close()
        self.case, self.ended = "", False

    def give(self, case: str) -> None:
        self.case = case
        self.pipe.send(case)

    def answer(self) -> tuple[str, tuple[Problem, ...]]:
        """The case that it had and what is wrong with it; that the process was killed counts as that."""
        case, self.case = self.case, ""
        try:
            kind, problems, text = cast(_Answer, self.pipe.recv())
        except EOFError:
            self.end()
            what = f"the process that prepared it ended with status {self.process.exitcode}"
            hint = "was there too little memory? Lower dataset.workers"
            return case, (Problem(f"case {case}", what, hint),)
        if kind == "not ready":
            raise NotReadyError.of(problems)
        if kind == "defect":
            raise RuntimeError(f"case {case}, in a worker process:\n{text}")
        return case, problems

    def end(self) -> None:
        self.ended = True
        self.pipe.close()
        self.process.join()


def _serve(pipe: Connection, shelf: Shelf, parent: int) -> None:
    """Prepare cases until the other end of the pipe is closed."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's to answer
    while True:
        try:
            pipe.send(_answer(shelf, pipe.recv()))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _answer(shelf: Shelf, case: str) -> _Answer:
    try:
        return "made", _made(shelf, case), ""
    except NotReadyError as error:
        return "not ready", error.problems, ""
    except Exception:  # goes to the other process, which raises it
        return "defect", (), traceback.format_exc()
