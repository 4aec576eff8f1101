"""The commands that look ahead: plan and validate."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli import complete
from sfrbench.cli.common import WRONG, common, open_spec, print_missing, print_notes, tell
from sfrbench.files.terminal import echo
from sfrbench.files.units import counted

if TYPE_CHECKING:
    from sfrbench.run.experiment import Experiment


@click.command()
@click.argument("specs", nargs=-1, required=True, shell_complete=complete.specs)
@common
@click.option("--on", default="", metavar="CARD", help="forecast for another GPU, as in 'RTX 4090'")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def plan(specs: Sequence[str], on: str, as_json: bool, **options: Any) -> None:
    """Say what SPECS would run, what they would reuse, and what that costs; of several, also together."""
    import json

    from sfrbench.run.summary import summary, together

    experiments = [open_spec(spec, options) for spec in specs]
    counts = [summary(experiment, on) for experiment in experiments]
    whole = together(experiments, on) if len(specs) > 1 else {}
    if as_json:
        echo(json.dumps({"specs": counts, "together": whole} if whole else counts[0], indent=1), fold=False)
        return
    for experiment, entry in zip(experiments, counts, strict=True):
        print_plan(entry, experiment)
        if whole:
            echo()
    print_missing(experiments)
    print_notes(dict.fromkeys(entry["earlier"] for entry in counts))
    if whole:
        echo(
            f"together {whole['cells']} cells, nodes {whole['nodes']} ({whole['naive_nodes']} were nothing "
            f"shared): {whole['reused']} reused, {whole['to_run']} to run, time {_time(whole)}, "
            f"disk {_disk(whole)}"
        )
        _print_devices(whole)


def print_plan(counts: dict[str, Any], experiment: Experiment) -> None:
    from sfrbench.plan.reasons import changed_code

    echo(f"{counts['experiment']}, profile {counts['profile']}: {counted(counts['cells'], 'cell')}")
    echo(
        f"nodes {counts['nodes']} ({counts['naive_nodes']} were nothing shared): "
        f"{counts['reused']} reused, {counts['to_run']} to run"
    )
    echo(f"{'stage':<12} {'nodes':>6} {'reused':>7} {'to run':>7} {'time':>10} {'disk':>10}  time is")
    for stage, entry in counts["by_stage"].items():
        known = _known(entry["time_known_by"], entry["to_run"])
        row = f"{stage:<12} {entry['nodes']:>6} {entry['reused']:>7} {entry['to_run']:>7} "
        echo(f"{row}{_time(entry):>10} {_disk(entry):>10}  {known}".rstrip())
    _print_totals(counts)
    _print_precision(counts["precision"])
    if counts["patches"]:
        echo(counts["patches"])
    print_changes(experiment)
    for entry in counts["excluded"]:
        echo(f"excluded {entry['cell']}: {entry['reason']}")
    print_warnings(counts["no_ops"])
    print_warnings(changed_code(experiment.plan.nodes.values(), experiment.store))


def _time(entry: Mapping[str, Any]) -> str:
    """A time with a mark of how it is known."""
    from sfrbench.files.units import duration

    return _mark(entry["time_known_by"], entry["seconds"]) + duration(entry["seconds"])


def _disk(entry: Mapping[str, Any]) -> str:
    """A size with a mark of how it is known."""
    from sfrbench.files.units import size

    return _mark(entry["disk_known_by"], entry["bytes"]) + size(entry["bytes"])


def _mark(known: Mapping[str, int], value: float | None) -> str:
    """``≥`` where a part is unknown, ``~`` where one comes of a formula; nothing where all is measured."""
    if value is None:
        return ""
    return "≥" if "unknown" in known else "~" if known.keys() - {"measured"} else ""


def _known(known: Mapping[str, int], nodes: int) -> str:
    """Such as ``measured``, or ``2 measured, 4 estimated`` of six nodes."""
    if len(known) == 1:
        return next(iter(known))
    return ", ".join(f"{count} {how}" for how, count in known.items()) if nodes else ""


def _print_totals(counts: Mapping[str, Any]) -> None:
    """Time and disk of all that is to run, and what the marks mean."""
    from sfrbench.files.units import duration, size

    if not counts["to_run"]:
        return
    several = {name: end for name, end in counts["on_workers"].items() if name != "1"}
    ends = ", ".join(f"{name}: {duration(end)}" for name, end in several.items())
    longest = duration(counts["longest_path"])
    echo(f"time {_time(counts)} on {counts['device']}; longest path {longest}; on several of them {ends}")
    _print_devices(counts)
    free = "" if counts["free_bytes"] is None else f"; {size(counts['free_bytes'])} free"
    echo(f"disk {_disk(counts)}{free}")
    if not counts["device_is_here"]:
        echo(f"     {counts['device']} is not here: --on CARD forecasts for another one")
    print_warnings(_meanings(counts))


def _print_precision(asked: Mapping[str, Sequence[str]]) -> None:
    """What networks compute in; predictions as their network, where the protocol says nothing else."""
    names = {"foundation": "SAM", "backbone": "segmenter", "protocol": "predictions"}
    told = [f"{name} {' and '.join(asked[kind])}" for kind, name in names.items() if kind in asked]
    if told:
        echo(f"precision: {', '.join(told)}")


def _print_devices(counts: Mapping[str, Any]) -> None:
    """Which part of the time is on which device."""
    from sfrbench.files.units import duration

    if len(counts["by_device"]) > 1:
        told = ", ".join(f"{duration(value)} on {name}" for name, value in counts["by_device"].items())
        echo(f"     of it {told}")


def _meanings(counts: Mapping[str, Any]) -> list[str]:
    """What is meant by the words of the table that are used in it."""
    from sfrbench.files.units import size
    from sfrbench.machine.speed import SHARE

    used = set(counts["time_known_by"])
    usual = "a usual core's" if "thread" in counts["device"] else f"{SHARE:.0%} of the card's peak"
    said = {
        "measured": "by records of the same settings on this device",
        "scaled": "by formula, at the speed of this device in records of the same network or stage",
        "estimated": f"by formula, at a usual speed ({usual}): right to a factor of 2 or 3",
        "unknown": "not in the sums: a component or a stage states no cost, and there is no such record",
    }
    for how, text in said.items():
        if how in used:
            echo(f"     {how}: {text}")
    free = counts["free_bytes"]
    if free is not None and (counts["bytes"] or 0) > free:
        return [f"disk {_disk(counts)} are wanted and {size(free)} are free"]
    return []


def print_changes(experiment: Experiment) -> None:
    """What the profile has instead of what the specification says, and ``--data`` that nobody asks for."""
    from sfrbench.plan.overlaid import overlaid

    plan, profile = experiment.plan, experiment.profile
    for line in plan.swaps():
        echo(f"profile {profile} uses {line}")
    for path, own, used in overlaid(plan):
        keep = f"to keep it: profiles: {{{profile}: {{{path}: {_plain(own)}}}}}"
        echo(f"profile {profile} sets {path}: {_plain(used)} in the place of {_plain(own)}; {keep}")
    for name in experiment.machine.unused(plan):
        told = ", ".join(sorted({cell.components["dataset"].card.name for cell in plan.cells}))
        echo(f"warning: --data {name}=… is used by nothing here; the dataset is {told}")


def _plain(value: Any) -> str:
    """A value as it is written in a specification."""
    import json

    return value if isinstance(value, str) else json.dumps(value, default=str)


def print_warnings(lines: Sequence[str]) -> None:
    for line in lines:
        echo(f"warning: {line}")


@click.command()
@click.argument("specs", nargs=-1, required=True, shell_complete=complete.specs)
@common
def validate(specs: Sequence[str], **options: Any) -> None:
    """Check SPECS without running anything; what this machine lacks is listed and does not fail."""
    from sfrbench.errors import InputError

    wrong = False
    for spec in specs:
        try:
            experiment = open_spec(spec, options)
        except InputError as error:
            wrong = True
            tell(error.problems)
            continue
        cells = counted(len(experiment.plan.cells), "cell")
        echo(f"{spec}: sound, {cells} in profile {experiment.profile}")
        if experiment.plan.space:
            echo(f"  and a search over {', '.join(experiment.plan.space)}")
        print_changes(experiment)
        print_warnings(experiment.plan.no_ops())
        print_missing([experiment])
    sys.exit(WRONG if wrong else 0)
