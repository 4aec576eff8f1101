"""``sfrbench clean``: what a workspace holds that no experiment needs any more, and what takes how much."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli import data as data_commands
from sfrbench.cli.common import FAILED, storage_option
from sfrbench.errors import InputError
from sfrbench.files.terminal import echo
from sfrbench.files.units import size

if TYPE_CHECKING:
    from sfrbench.run.leftovers import Leftover, Survey
    from sfrbench.run.sizes import Row, Sizes
    from sfrbench.run.wanted import Studies, User
    from sfrbench.store.removal import Removed

_HOW = "nothing was removed: there is no terminal to ask on; --yes removes without asking"


@click.command()
@click.argument("workspace", type=click.Path(path_type=Path), required=False)
@click.option("--dry-run", is_flag=True, help="name everything that would be removed, and stop")
@click.option("--yes", is_flag=True, help="do not ask (for scripts)")
@click.option("--sizes", "only_sizes", is_flag=True, help="say what takes how much, and remove nothing")
@storage_option
@click.option("--json", "as_json", is_flag=True, help="for programs; removes nothing without --yes")
def clean(
    workspace: Path | None, dry_run: bool, yes: bool, only_sizes: bool, storage: str | None, as_json: bool
) -> None:
    """Remove what no experiment recorded in WORKSPACE needs any more; it asks first.

    Needed is what the last run of each experiment, runs that have not ended, reports in the workspace and
    trials of searches stand on. WORKSPACE: by default $SFRBENCH_WORKSPACE, or runs.
    """
    from sfrbench.run.leftovers import clean as remove
    from sfrbench.run.leftovers import survey
    from sfrbench.run.sizes import Sizes
    from sfrbench.search.trial_nodes import users_in

    if yes and (dry_run or only_sizes):
        raise InputError("--yes removes, and --dry-run and --sizes do not", hint="leave one of them out")
    place = workspace or data_commands.workspace()

    def studies(each: Path) -> Sequence[User]:
        return users_in(each, storage)

    sizes = Sizes()
    if only_sizes:
        _print_sizes(place, studies, sizes, as_json)
        return
    found = survey(place, studies)
    leftovers = found.leftovers
    told = _told(place, leftovers, sizes)
    ask = sys.stdin.isatty() and not as_json
    if not as_json:
        _print_leftovers(found, leftovers, sizes, each=dry_run)
    if not leftovers or dry_run or not (yes or ask):
        if as_json:
            echo(json.dumps(told, indent=1, ensure_ascii=False), fold=False)
        elif leftovers and not dry_run:
            echo(_HOW)
        return
    if not yes and not click.confirm("remove them?", default=False):
        echo("nothing was removed")
        return
    removed = remove(place, studies, leftovers)
    if as_json:
        echo(json.dumps({**told, **_removed(removed, sizes)}, indent=1, ensure_ascii=False), fold=False)
    else:
        _print_removed(removed, sizes)
    sys.exit(FAILED if removed.faults else 0)


def _told(workspace: Path, leftovers: Sequence[Leftover], sizes: Sizes) -> dict[str, Any]:
    """What can go, for programs."""
    return {
        "workspace": str(workspace),
        "frees": sizes.of(each.item for each in leftovers).freed,
        "not_needed": [
            {
                "kind": each.item.kind,
                "stage": each.item.stage,
                "key": each.item.key,
                "path": str(each.item.path),
                "reason": each.reason,
                "bytes": sizes.of([each.item]).bytes,
                "frees": sizes.of([each.item]).freed,
            }
            for each in leftovers
        ],
    }


def _print_leftovers(found: Survey, leftovers: Sequence[Leftover], sizes: Sizes, *, each: bool) -> None:
    """What can go, in groups or one by one, and what that gives back."""
    for path in sorted({item.path.parent for item in found.contents.items if item.linked}):
        echo(f"note: {path} is a link, and what it leads to may be others' as well: nothing of it is removed")
    for name in sorted({user.name for user in found.users if user.what == "begun"}):
        places = ", ".join(user.source for user in found.users if (user.name, user.what) == (name, "begun"))
        echo(f"note: a run of {name} has not ended: what it wants is kept ({places})")
    if not leftovers:
        echo("everything here is needed")
        return
    if each:
        for one in leftovers:
            echo(f"{one.item.path}  {size(sizes.of([one.item]).freed)}  {one.reason}")
    groups: dict[tuple[str, str], list[Leftover]] = {}
    for one in leftovers:
        name = one.item.stage if one.item.kind == "artefact" else _KINDS[one.item.kind]
        groups.setdefault((name, one.reason), []).append(one)
    echo(f"{'not needed':<14} {'count':>6} {'frees':>10}")
    for (name, reason), members in groups.items():
        echo(f"{name:<14} {len(members):>6} {size(sizes.of(m.item for m in members).freed):>10}  {reason}")
    whole = sizes.of(one.item for one in leftovers).freed
    echo(f"{'together':<14} {len(leftovers):>6} {size(whole):>10}")


_KINDS = {
    "checkpoint": "checkpoints",
    "failure": "failures",
    "damaged": "damaged",
    "temporary": "unfinished",
    "work": "equal work",
    "lock": "locks",
}


def _print_removed(removed: Removed, sizes: Sizes) -> None:
    echo(f"removed {len(removed.items)}, which frees {size(sizes.of(removed.items).freed)}")
    for item in removed.busy:
        echo(f"left: {item.path}: another process works on it")
    for fault in removed.faults:
        echo(f"left: {fault}", err=True)


def _removed(removed: Removed, sizes: Sizes) -> dict[str, Any]:
    return {
        "removed": [str(item.path) for item in removed.items],
        "freed": sizes.of(removed.items).freed,
        "busy": [str(item.path) for item in removed.busy],
        "faults": removed.faults,
    }


def _print_sizes(workspace: Path, studies: Studies, sizes: Sizes, as_json: bool) -> None:
    """Stages can be told whatever the journals say; experiments cannot."""
    from sfrbench.errors import SfrbenchError
    from sfrbench.run import sizes as rows_of
    from sfrbench.run.leftovers import contents_of, survey

    _, contents = contents_of(workspace)
    tables = {"stages": rows_of.by_stage(contents, sizes), "beside": rows_of.beside(workspace)}
    fault: SfrbenchError | None = None
    try:
        tables["experiments"] = rows_of.by_experiment(survey(workspace, studies), sizes)
    except SfrbenchError as error:
        fault = error
    if as_json:
        whole = {name: {row.name: _fields(row) for row in rows} for name, rows in tables.items()}
        echo(json.dumps({"workspace": str(workspace), **whole}, indent=1, ensure_ascii=False), fold=False)
    else:
        _table("stage", "artefacts", tables["stages"])
        _table("beside the store", "", tables["beside"])
        _table("experiment", "artefacts", tables.get("experiments", []), own="its own")
    if fault is not None:
        raise fault


def _fields(row: Row) -> dict[str, int]:
    return {"count": row.count, "bytes": row.bytes, "own": row.own}


def _table(head: str, count: str, rows: Sequence[Row], own: str = "") -> None:
    if not rows:
        return
    width = max(len(head), *(len(row.name) for row in rows))
    echo(f"{head:<{width}} {count:>9} {'on disk':>10} {own:>10}".rstrip())
    for row in rows:
        number, alone = row.count if count else "", size(row.own) if own else ""
        echo(f"{row.name:<{width}} {number:>9} {size(row.bytes):>10} {alone:>10}".rstrip())
