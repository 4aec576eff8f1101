"""Where the runs of a workspace stand: what runs where, what waits for what, what failed, what has ended.

Read from boards, signs, records, notes of failures and journals, none of which is trusted or changed. Of an
artefact no more is looked at than whether it has a record: ten thousand nodes take a second.
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
from sfrbench.files.atomic import read_state
from sfrbench.plan.graph import Link
from sfrbench.run.experiment import Journal
from sfrbench.run.signs import Board, Sign, Wanted, running, since_s, working
from sfrbench.run.time_left import Left, Seen, forecast
from sfrbench.store.artefact import RECORD
from sfrbench.store.store import Store

State = Literal["done", "running", "ready", "waiting", "failed", "blocked"]
STATES: tuple[State, ...] = ("done", "running", "ready", "waiting", "failed", "blocked")
APART = 3  # groups of one stage that are told from one another
Driver = Literal["alive", "detached", "gone"]


@dataclass(frozen=True)
class Named:
    """A node, and how it stands."""

    stage: str
    key: str
    title: str
    state: State


@dataclass(frozen=True)
class Group:
    """Nodes of one stage, and the nodes that all of them wait for in the end, or that failed for them."""

    stage: str
    count: int
    sources: Sequence[Named]


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
    states = _states(seen.inputs, there, at_work, faults)
    counts = Counter(states.values())
    left = {link: None for link, state in states.items() if state in _LEFT}
    mine = [sign for sign in signs if sign.run == board.run]
    workers = sum(sign.alive and sign.pid != board.pid for sign in mine)  # that one drives
    return Run(
        board=board,
        driver="alive" if board.driven(signs) else "detached" if board.detached else "gone",
        counts={state: counts[state] for state in STATES if counts[state]},
        left=forecast(seen, left, store, board.profile, max(1, workers)),
        working=list(at_work.values()),
        gone=[sign for sign in mine if states.get(sign.link) in ("ready", "waiting")],
        ready=Counter(link[0] for link, state in states.items() if state == "ready"),
        waiting=_groups(seen, states, "waiting"),
        blocked=_groups(seen, states, "blocked"),
        failed=list(faults.values()),
        jobs=_jobs(nodes, states),
    )


_LEFT: tuple[State, ...] = ("running", "ready", "waiting")


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


def _states(
    inputs: Mapping[Link, Iterable[Link]],
    there: Mapping[Link, object],
    working: Mapping[Link, object],
    faults: Mapping[Link, object],
) -> dict[Link, State]:
    states: dict[Link, State] = {}
    for link, sources in inputs.items():
        missing = {states[source] for source in sources} - {"done"}
        if link in there:
            states[link] = "done"
        elif link in working:
            states[link] = "running"
        elif link in faults:
            states[link] = "failed"
        elif missing & {"failed", "blocked"}:
            states[link] = "blocked"
        else:
            states[link] = "waiting" if missing else "ready"
    return states


def _groups(seen: Seen, states: Mapping[Link, State], state: Literal["waiting", "blocked"]) -> list[Group]:
    """The nodes that wait (or are blocked), by their stage and by what they wait for in the end; by the
    stages of that alone, where there is much of it."""
    ends: tuple[State, ...] = ("failed",) if state == "blocked" else ("running", "ready")
    roots: dict[Link, frozenset[Link]] = {}
    kinds: dict[tuple[str, frozenset[str]], Counter[frozenset[Link]]] = {}
    for link, sources in seen.inputs.items():
        if states[link] != state:
            continue
        direct = frozenset(source for source in sources if states[source] in ends)
        roots[link] = direct.union(*(roots[source] for source in sources if source in roots))
        kind = (link[0], frozenset(stage for stage, _ in roots[link]))
        kinds.setdefault(kind, Counter())[roots[link]] += 1
    order = {link: at for at, link in enumerate(seen.nodes)}
    found = []
    for (stage, _), counts in kinds.items():
        if len(counts) > APART:
            counts = Counter({frozenset().union(*counts): counts.total()})
        for links, count in counts.items():
            named = [
                Named(*link, seen.nodes[link].title, states[link])
                for link in sorted(links, key=order.__getitem__)
            ]
            found.append(Group(stage, count, named))
    return found


def _jobs(nodes: Mapping[Link, Wanted], states: Mapping[Link, State]) -> dict[str, list[str]]:
    """Jobs none of whose nodes runs, with what they are still to make."""
    begun = {node.job for link, node in nodes.items() if states[link] == "running"}
    jobs: dict[str, list[str]] = {}
    for link, node in nodes.items():
        if node.job and node.job not in begun and states[link] in ("ready", "waiting"):
            jobs.setdefault(node.job, []).append(node.title)
    return jobs


def _journals(workspace: Path) -> dict[str, Journal]:
    folder = workspace / "journal"
    found = {}
    for name in sorted(_names(folder)):
        path = folder / name
        if path.suffix == ".json" and (journal := read_state(path, Journal)) is not None:
            found[path.stem] = journal
    return dict(sorted(found.items(), key=lambda pair: _seconds(pair[1].ended)))


def _ended(name: str, journal: Journal) -> Ended:
    faults = [
        Fault(entry.stage, entry.key, f"{entry.stage} {entry.key[:8]}", entry.reason, entry.log)
        for entry in journal.nodes
        if entry.status == "failed"
    ]
    counts = Counter(entry.status for entry in journal.nodes)
    return Ended(name, journal.started, journal.ended, counts, faults, journal.tracking_fault)
