"""``sfrbench status``: what runs where, what waits, what failed; this runs nothing."""

from __future__ import annotations

import json
import math
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli.data import workspace as default_workspace
from sfrbench.errors import InputError, shorter
from sfrbench.files.terminal import echo
from sfrbench.files.units import duration, now

if TYPE_CHECKING:
    from sfrbench.run.signs import Sign
    from sfrbench.run.standing import Ended, Fault, Run, Standing
    from sfrbench.run.states import Group, Named

EVERY_S = 3.0  # between two looks of --watch
MOST = 20  # entries of one list
NAMED = 3  # nodes that are waited for and called by their names


@click.command()
@click.argument(
    "workspace", type=click.Path(path_type=Path), default=default_workspace, metavar="[WORKSPACE]"
)
@click.option("--json", "as_json", is_flag=True, help="the same as JSON, whole")
@click.option("--watch", is_flag=True, help="look again every few seconds, until Ctrl-C")
def status(workspace: Path, as_json: bool, watch: bool) -> None:
    """Say what runs in WORKSPACE, where, since when, and what is left; what waits, and what failed.

    Default: $SFRBENCH_WORKSPACE, or runs. Nothing is started or changed.
    """
    from sfrbench.run.standing import standing

    if watch and (as_json or not sys.stdout.isatty()):
        hint = "leave it out, or call the command again and again"
        raise InputError("it draws on a terminal", where="--watch", hint=hint)
    if as_json:
        echo(json.dumps(_plain(standing(workspace)), indent=1, allow_nan=False), fold=False)
        return
    while True:
        lines = list(_lines(standing(workspace)))
        if watch:
            click.clear()
        echo("\n".join(lines))
        if not watch:
            return
        time.sleep(EVERY_S)


def _lines(seen: Standing) -> Iterator[str]:
    for run in seen.runs:
        yield from _run_lines(run)
    if seen.others:
        yield "processes of no run that is known here"
        yield from _many(_working_line(sign) for sign in seen.others)
    if seen.ended:
        yield "ended, with the last run of each"
        for ended in seen.ended:
            yield from _ended_lines(ended)
    if not (seen.runs or seen.others or seen.ended):
        yield f"nothing has run in {seen.workspace} yet; 'sfrbench run SPEC' starts something"


def _run_lines(run: Run) -> Iterator[str]:
    board = run.board
    what = f"{_line(board.experiment)} ({_line(board.profile)})"
    what += f", trial {board.trial} of its search" if board.trial is not None else ""
    yield f"{what}, executor {_line(board.executor)}, since {_moment(board.started)} ({_age(board.started)})"
    yield f"  {_driver(run)}"
    yield f"  of {len(board.nodes)} nodes: {_counts(run.counts)}{_left(run)}"
    yield from _part("running", [_working_line(sign) for sign in run.working])
    yield from _part("gone", [_gone_line(run, sign) for sign in run.gone])
    ready = [f"{count} {_line(stage)}" for stage, count in run.ready.items()]
    yield from _part("ready", [", ".join(ready)] if ready else [])
    yield from _part("waiting", _groups(run.waiting))
    jobs = [f"job {_line(job)} pending: {_few(titles)}" for job, titles in run.jobs.items()]
    yield from _part("jobs", jobs)
    yield from _part("failed", list(map(_fault, run.failed)))
    yield from _part("blocked", _groups(run.blocked))


def _driver(run: Run) -> str:
    board = run.board
    who = f"process {board.pid} on {_line(board.host)}"
    if run.driver == "alive":
        return f"driven by {who}"
    if run.driver == "detached":
        return (
            f"left by {who}: its jobs go on by themselves, and the same '{_command(run)}' comes back to them"
        )
    return f"its driver, {who}, is gone: the same '{_command(run)}' goes on from here"


def _command(run: Run) -> str:
    return "sfrbench run" if run.board.trial is None else "sfrbench search"


def _left(run: Run) -> str:
    if not any(run.counts.get(state) for state in ("running", "ready", "waiting")):
        return ""
    word = "left" if run.driver == "alive" else "of work left"
    if run.left.seconds is None:
        return f"; time {word}: — (nothing of it was ever measured here)"
    if run.left.unmeasured:
        without = ", ".join(map(_line, run.left.unmeasured))
        return f"; more than {duration(run.left.seconds)} {word} (never measured here: {without})"
    return f"; about {duration(run.left.seconds)} {word}"


def _working_line(sign: Sign) -> str:
    from sfrbench.run.alive import SILENT_S

    parts = [_line(sign.title), f"for {_age(sign.since)}"]
    if sign.total:
        parts.append(f"step {sign.done} of {sign.total}")
    parts += [f"{_line(name)} {value:.4g}" for name, value in list(sign.values.items())[:6]]
    if sign.left_s is not None:
        parts.append(f"about {duration(sign.left_s)} left")
    where = [_line(sign.who), *([_line(sign.device)] if sign.device else [])]
    if sign.age_s > SILENT_S:
        where.append(f"silent for {_age(sign.beat)}")
    lines = f"{'  '.join(parts)}\n        {', '.join(where)}"
    return f"{lines}\n        log: {_line(sign.log)}" if sign.log else lines


def _gone_line(run: Run, sign: Sign) -> str:
    step = f", at step {sign.done} of {sign.total}" if sign.total else ""
    here = sign.host == socket.gethostname()
    silent = (
        f"is gone, last heard {_age(sign.beat)} ago" if here else f"has been silent for {_age(sign.beat)}"
    )
    said = f"{_line(sign.title)}{step}: {_line(sign.who)} {silent}"
    if run.driver == "gone":
        said += f"; the same '{_command(run)}' goes on from its checkpoint"
    return f"{said}\n        log: {_line(sign.log)}" if sign.log else said


def _groups(groups: Sequence[Group]) -> list[str]:
    """``for finetune 298af590 lora (running): 12 retrain, 4 predict``."""
    told: dict[str, list[str]] = {}
    for group in groups:
        told.setdefault(_sources(group.sources), []).append(f"{group.count} {_line(group.stage)}")
    return [f"for {sources}: {', '.join(nodes)}" for sources, nodes in told.items()]


def _sources(sources: Sequence[Named]) -> str:
    """The nodes that others wait for, or their stages where there are many."""
    if len(sources) <= NAMED:
        return ", ".join(f"{_line(source.title)} ({source.state})" for source in sources)
    states: dict[str, Counter[str]] = {}
    for source in sources:
        states.setdefault(source.stage, Counter())[source.state] += 1
    return ", ".join(
        f"{counts.total()} {_line(stage)} ({_counts(counts) if len(counts) > 1 else next(iter(counts))})"
        for stage, counts in states.items()
    )


def _fault(fault: Fault) -> str:
    reason = [_line(part) for part in fault.reason.splitlines()[:3]] or [""]
    told = [f"{_line(fault.title)}: {reason[0]}", *reason[1:]]
    return "\n        ".join([*told, *([f"log: {_line(fault.log)}"] if fault.log else [])])


def _ended_lines(ended: Ended) -> Iterator[str]:
    yield f"  {_line(ended.name)}  {_moment(ended.ended)}, {_age(ended.ended)} ago: {_counts(ended.counts)}"
    yield from _many([f"FAILED {_fault(fault)}" for fault in ended.failed])
    if ended.tracking_fault:
        yield f"    MLflow: {_line(ended.tracking_fault)}"


def _part(name: str, entries: Sequence[str]) -> Iterator[str]:
    if entries:
        yield f"  {name}"
        yield from _many(entries)


def _many(entries: Iterable[str]) -> Iterator[str]:
    every = list(entries)
    yield from (f"    {entry}" for entry in every[:MOST])
    if len(every) > MOST:
        yield f"    and {len(every) - MOST} more (all of them: --json)"


def _few(titles: Sequence[str]) -> str:
    told = ", ".join(map(_line, titles[:NAMED]))
    return told if len(titles) <= NAMED else f"{told} and {len(titles) - NAMED} more"


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {_line(what)}" for what, count in counts.items()) or "none"


def _line(text: str) -> str:
    """A text of a file as a part of a line."""
    return shorter(" ".join(text.split()), 300)


def _moment(moment: str) -> str:
    """A time as the clock of this machine shows it."""
    try:
        return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return "an unknown time"


def _age(moment: str) -> str:
    from sfrbench.run.alive import since_s

    age = since_s(moment)
    return duration(max(0.0, age)) if math.isfinite(age) else "an unknown time"


def _plain(seen: Standing) -> dict[str, Any]:
    """All of it as JSON knows values."""
    return {
        "workspace": str(seen.workspace),
        "asked": now(),
        "runs": [_plain_run(run) for run in seen.runs],
        "others": list(map(_plain_sign, seen.others)),
        "ended": [asdict(ended) for ended in seen.ended],
    }


def _plain_run(run: Run) -> dict[str, Any]:
    return {
        **run.board.model_dump(exclude={"nodes"}),
        "nodes": len(run.board.nodes),
        "driver": run.driver,
        "counts": dict(run.counts),
        "seconds_left": _number(run.left.seconds),
        "unmeasured": list(run.left.unmeasured),
        "working": list(map(_plain_sign, run.working)),
        "gone": list(map(_plain_sign, run.gone)),
        "ready": dict(run.ready),
        "waiting": list(map(asdict, run.waiting)),
        "blocked": list(map(asdict, run.blocked)),
        "failed": list(map(asdict, run.failed)),
        "jobs": {job: list(titles) for job, titles in run.jobs.items()},
    }


def _plain_sign(sign: Sign) -> dict[str, Any]:
    values = {name: _number(value) for name, value in sign.values.items()}
    return {**sign.model_dump(), "values": values, "seconds_left": _number(sign.left_s)}


def _number(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
