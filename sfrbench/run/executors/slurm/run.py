"""``--executor slurm``: a run whose nodes are made by jobs of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sfrbench.machine.needs import Machine
from sfrbench.plan.build import Cell, Plan
from sfrbench.run.boards import Board, hide, running, show, shown
from sfrbench.run.executors.slurm import ask, notes
from sfrbench.run.executors.slurm.drive import Driver
from sfrbench.run.executors.slurm.sbatch import ready
from sfrbench.run.executors.slurm.settings import read_settings
from sfrbench.run.executors.slurm.submit import Submitter
from sfrbench.run.outcomes import Book
from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store


def run_jobs(
    board: Board,
    plan: Plan,
    store: Store,
    machine: Machine,
    book: Book,
    on_cell: Callable[[Cell], None],
    *,
    detach: bool,
) -> None:
    """Run what is missing of a plan; with ``detach`` only submit it. ``board``: the run as others see it.

    Raises ``NotReadyError`` where SLURM or submitit is not here, ``InputError`` where the configuration is
    wrong, and ``Refused`` where SLURM does not take a job; nothing is left submitted then.
    """
    workspace = machine.workspace.resolve()
    data = {name: _whole(place) for name, place in machine.data.items()}
    submitter = Submitter(
        machine=Machine(workspace, data, machine.device),
        store=store.root.resolve(),
        experiment=board.experiment,
        profile=board.profile,
        run=board.run,
        settings=read_settings(),
        wants_gpu=plan.spec.profile.needs_gpu and machine.device == "auto",
    )
    ready()
    for other in running(workspace):
        if other.detached and (other.experiment, other.profile) == (board.experiment, board.profile):
            hide(workspace, other)
    nodes = {(each.stage, each.key): each for each in board.nodes}

    def jobs_changed(jobs: Mapping[Link, str]) -> None:
        for link, job in jobs.items():
            nodes[link].job = job
        show(workspace, board)

    seconds = {link: each.seconds or 0.0 for link, each in nodes.items()}
    driver = Driver(plan, store, submitter, book, seconds, jobs_changed)
    with shown(workspace, board):
        driver.submit()
        board.detached = True  # unless it comes to its end
        if not detach:
            driver.watch(on_cell)
            board.detached = False


def _whole(place: Path) -> Path:
    return Path(place).expanduser().resolve()


def cancel_jobs(workspace: Path, experiment: str = "") -> list[str]:
    """Have the jobs of a workspace end, or those of one experiment in it; returns their ids.

    Also those of which the workspace has lost its note, unless one experiment is asked for. Raises
    ``SlurmError`` where SLURM does not answer.
    """
    known = [each for each in notes.submissions(workspace) if experiment in ("", each.experiment)]
    tokens, start = {each.token for each in known}, notes.comment_start(workspace)
    jobs = [
        job
        for job, seen in ask.queue().items()
        if seen.fate == "live"
        and seen.state != "COMPLETING"  # it is ending
        and seen.comment.startswith(start)
        and (not experiment or seen.comment.removeprefix(start) in tokens)
    ]
    ask.cancel(jobs)
    for submission in known:
        notes.forget(workspace, submission)
    for board in running(workspace):
        if board.detached and board.executor == "slurm" and experiment in ("", board.experiment):
            hide(workspace, board)
    return jobs
