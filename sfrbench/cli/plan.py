"""The commands that look ahead: plan and validate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sfrbench.cli.common import WRONG, common, open_spec, print_missing, print_notes, tell
from sfrbench.files.terminal import echo

if TYPE_CHECKING:
    from sfrbench.run.experiment import Experiment


@click.command()
@click.argument("specs", nargs=-1, required=True)
@common
@click.option("--json", "as_json", is_flag=True, help="for programs")
def plan(specs: Sequence[str], as_json: bool, **options: Any) -> None:
    """Say what SPECS would run, what they would reuse, and what that costs; of several, also together."""
    import json

    from sfrbench.run.experiment import summary, together

    experiments = [open_spec(spec, options) for spec in specs]
    counts = [summary(experiment) for experiment in experiments]
    if as_json:
        whole = counts[0] if len(specs) == 1 else {"specs": counts, "together": together(experiments)}
        echo(json.dumps(whole, indent=1))
        return
    for experiment, entry in zip(experiments, counts, strict=True):
        print_plan(entry, experiment)
        if len(specs) > 1:
            echo()
    print_notes(dict.fromkeys(entry["earlier"] for entry in counts))
    if len(specs) > 1:
        entry = together(experiments)
        echo(
            f"together {entry['cells']} cells, nodes {entry['nodes']} ({entry['naive_nodes']} were nothing "
            f"shared): {entry['reused']} reused, {entry['to_run']} to run"
        )


def print_plan(counts: dict[str, Any], experiment: Experiment) -> None:
    from sfrbench.cli.text import duration, size
    from sfrbench.plan.reasons import changed_code

    echo(f"{counts['experiment']}, profile {counts['profile']}: {counts['cells']} cells")
    echo(
        f"nodes {counts['nodes']} ({counts['naive_nodes']} were nothing shared): "
        f"{counts['reused']} reused, {counts['to_run']} to run"
    )
    echo(f"{'stage':<12} {'nodes':>6} {'reused':>7} {'to run':>7} {'time':>10} {'disk':>10}")
    for stage, entry in counts["by_stage"].items():
        echo(
            f"{stage:<12} {entry['nodes']:>6} {entry['reused']:>7} {entry['to_run']:>7} "
            f"{duration(entry['seconds']):>10} {size(entry['bytes']):>10}"
        )
    echo(f"time {duration(counts['seconds'])}, disk {size(counts['bytes'])}")
    print_changes(experiment)
    for entry in counts["excluded"]:
        echo(f"excluded {entry['cell']}: {entry['reason']}")
    print_warnings(counts["no_ops"])
    print_warnings(changed_code(experiment.plan.nodes.values(), experiment.store))
    print_missing(experiment)


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
@click.argument("specs", nargs=-1, required=True)
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
        cells = len(experiment.plan.cells)
        echo(f"{spec}: sound, {cells} cells in profile {experiment.profile}")
        if experiment.plan.space:
            echo(f"  and a search over {', '.join(experiment.plan.space)}")
        print_changes(experiment)
        print_warnings(experiment.plan.no_ops())
        print_missing(experiment)
    sys.exit(WRONG if wrong else 0)
