"""Where the runs of a workspace stand: what runs where, what waits for what, what failed, what has ended.

Read from boards, signs, records, notes of failures and journals, none of which is trusted or changed. Of an
artefact no more is looked at than whether it has a record, but for the newest of a stage, which tell how long
it takes: ten thousand nodes take a second.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from sfrbench.errors import InputError
from sfrbench.files.atomic import read_state, read_states
from sfrbench.plan.graph import Link
from sfrbench.run.alive import since_s
from sfrbench.run.boards import Board, Wanted, running
from sfrbench.run.experiment import Journal
from sfrbench.run.signs import Sign, working
from sfrbench.run.states import LEFT, STATES, Group, State, groups_of, states_of
from sfrbench.run.time_left import Left, Seen, time_left
from sfrbench.store.artefact import RECORD
from sfrbench.store.store import Store

Driver = Literal["alive", "detached", "gone"]


@dataclass(frozen=True)
class Fault:
    """A node that failed; ``log`` is empty where there is none."""

    stage: str
    key: str
    title: str
    reason: str
    log: str


@dataclass(frozen=True)
class Run:
    """One run whose board is there. ``gone``: the last signs of processes that left a node unfinished."""

    board: Board
    driver: Driver
    counts: Mapping[State, int]
    left: Left
    working: Sequence[Sign]
    gone: Sequence[Sign]
    ready: Mapping[str, int]  # by stage
    waiting: Sequence[Group]
    blocked: Sequence[Group]
    failed: Sequence[Fault]
    jobs: Mapping[str, Sequence[str]]  # of a cluster, that have not begun -> titles of their nodes


@dataclass(frozen=True)
class Ended:
    """The last run of an experiment, by its journal."""

    name: str
    started: str
    ended: str
    counts: Mapping[str, int]
    failed: Sequence[Fault]
    tracking_fault: str | None


@dataclass(frozen=True)
class Standing:
    """``others``: processes that work for no run whose board is there."""

    workspace: Path
    runs: Sequence[Run]
    others: Sequence[Sign] = ()
    ended: Sequence[Ended] = field(default_factory=list)


def standing(workspace: Path) -> Standing:
    """Raises ``InputError`` where there is no such workspace."""
    if not workspace.is_dir():
        hint = "name the folder that 'sfrbench run' had as --workspace"
        raise InputError("there is no such workspace", where=str(workspace), hint=hint)
    store, signs = Store(workspace / "store"), working(workspace)
    journals = _journals(workspace)
    boards = [board for board in running(workspace) if not _replaced(board, journals, signs)]
    runs = [_run(board, store, signs) for board in boards]
    known = {node.link for run in runs for node in run.board.nodes}
    others = [sign for sign in signs if sign.stage and sign.link not in known and sign.alive]
    shown = {board.name for board in boards if board.trial is None}
    ended = [_ended(name, journal) for name, journal in journals.items() if name not in shown]
    return Standing(workspace, sorted(runs, key=lambda run: run.board.started), others, ended)


def _replaced(board: Board, journals: Mapping[str, Journal], signs: Iterable[Sign]) -> bool:
    """Whether a run that was killed has been gone on with, and that one has ended."""
    later = journals.get(board.name) if board.trial is None else None
    return (
        later is not None
        and not board.detached
        and since_s(later.ended) < since_s(board.started)
        and not board.driven(signs)
    )


def _run(board: Board, store: Store, signs: Sequence[Sign]) -> Run:
    nodes = {node.link: node for node in board.nodes}
    there = _records(store.root, nodes)
    alive = {sign.link: sign for sign in signs if sign.link in nodes and sign.alive}
    at_work = {link: alive[link] for link in nodes if link in alive and link not in there}
    seen = Seen(nodes, _inputs(board.nodes), there, at_work)
    faults = _faults(store, board, nodes, {*there, *at_work})
    states = states_of(seen.inputs, there, at_work, faults)
    counts = Counter(states.values())
    left = {link: None for link, state in states.items() if state in LEFT}
    titles = {link: node.title for link, node in nodes.items()}
    mine = [sign for sign in signs if sign.run == board.run]
    workers = sum(sign.alive and sign.pid != board.pid for sign in mine)  # that one drives
    return Run(
        board=board,
        driver="alive" if board.driven(signs) else "detached" if board.detached else "gone",
        counts={state: counts[state] for state in STATES if counts[state]},
        left=time_left(seen, left, store, board.profile, max(1, workers)),
        working=list(at_work.values()),
        gone=[sign for sign in mine if states.get(sign.link) in ("ready", "waiting")],
        ready=Counter(link[0] for link, state in states.items() if state == "ready"),
        waiting=groups_of("waiting", states, seen.inputs, titles),
        blocked=groups_of("blocked", states, seen.inputs, titles),
        failed=list(faults.values()),
        jobs=_jobs(nodes, states),
    )


def _inputs(nodes: Iterable[Wanted]) -> dict[Link, tuple[Link, ...]]:
    """The inputs of each node among those before it, as a plan has them."""
    inputs: dict[Link, tuple[Link, ...]] = {}
    for node in nodes:
        inputs[node.link] = tuple({each: None for each in node.inputs if each in inputs})
    return inputs


def _records(root: Path, links: Iterable[Link]) -> dict[Link, float]:
    """The nodes that have a record, with the time at which it was written."""
    wanted: dict[str, set[str]] = {}
    for stage, key in links:
        wanted.setdefault(stage, set()).add(key)
    found = {}
    for stage, keys in wanted.items():
        for key in keys & _names(root / stage):
            try:
                found[stage, key] = os.stat(root / stage / key / RECORD).st_mtime
            except OSError:
                continue
    return found


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _faults(
    store: Store, board: Board, nodes: Mapping[Link, Wanted], others: Iterable[Link]
) -> dict[Link, Fault]:
    """The nodes that failed in this run; what failed before it began is tried again."""
    noted, skipped = _names(store.root / "failed"), set(others)
    faults = {}
    for link, node in nodes.items():
        if f"{link[0]}-{link[1]}" not in noted or link in skipped:
            continue
        folder = store.failure_folder(*link)
        try:
            failed = os.stat(folder / "error.json").st_mtime
        except OSError:
            continue
        if failed < _seconds(board.started):
            continue
        told = read_state(folder / "error.json", dict[str, str]) or {}
        log = folder / "log.txt"
        reason = told.get("reason") or "for a reason that was not noted"
        faults[link] = Fault(*link, node.title, reason, str(log) if log.is_file() else "")
    return faults


def _seconds(moment: str) -> float:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _jobs(nodes: Mapping[Link, Wanted], states: Mapping[Link, State]) -> dict[str, list[str]]:
    """Jobs none of whose nodes runs, with what they are still to make."""
    begun = {node.job for link, node in nodes.items() if states[link] == "running"}
    jobs: dict[str, list[str]] = {}
    for link, node in nodes.items():
        if node.job and node.job not in begun and states[link] in ("ready", "waiting"):
            jobs.setdefault(node.job, []).append(node.title)
    return jobs


def _journals(workspace: Path) -> dict[str, Journal]:
    """By name, the one that ended last at the end."""
    found = read_states(workspace / "journal", Journal)
    return {path.stem: found[path] for path in sorted(found, key=lambda path: _seconds(found[path].ended))}


def _ended(name: str, journal: Journal) -> Ended:
    faults = [
        Fault(entry.stage, entry.key, f"{entry.stage} {entry.key[:8]}", entry.reason, entry.log)
        for entry in journal.nodes
        if entry.status == "failed"
    ]
    counts = Counter(entry.status for entry in journal.nodes)
    return Ended(name, journal.started, journal.ended, counts, faults, journal.tracking_fault)
