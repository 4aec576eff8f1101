"""The command that says what stands behind a number of a report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from sfrbench.cli import complete
from sfrbench.files.terminal import echo


@click.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.option(
    "--row",
    default=None,
    help="its label or its arm; without it all rows are listed",
    shell_complete=complete.rows,
)
@click.option("--col", default=None, help="a column of the table's CSV: dice, difference, or an organ")
@click.option("--table", default=None, help="needed where several tables have the row")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def trace(report: Path, row: str | None, col: str | None, table: str | None, as_json: bool) -> None:
    """Say what stands behind a number of REPORT (its folder): runs, nodes, code, specification."""
    from sfrbench.compare.trace import described, find, open_report

    opened = open_report(report)
    if row is None:
        for name, rows in opened.shown.items():
            if table in (None, name):
                echo(f"{name}: {'; '.join(str(entry['row']) for entry in rows)}")
        return
    told = described(opened, find(opened, row, col, table))
    if as_json:
        echo(json.dumps(told, indent=1, ensure_ascii=False), fold=False)
        return
    echo("\n".join(_lines(told)))


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    from sfrbench.report.render.style import scaled

    yield f"{told['table']}, row {told['row']}"
    for line in told["numbers"]:
        yield "  " + "  ".join(f"{head} {text}" for head, text in line.items() if text)
    if told["reason"]:
        yield f"  no run: {told['reason']}"
    protocol = dict(told["protocol"])
    said = {name: value for name, value in protocol.items() if name != "name" and value is not None}
    rules = ", ".join(f"{name} {value}" for name, value in said.items())
    note = " (scaled down)" if scaled(told["profile"]) else ""
    yield f"experiment  {told['experiment']}, profile {told['profile']}{note}"
    yield f"protocol    {protocol.get('name')}: {rules}"
    spec = told["spec"]
    yield f"spec        {spec['path']} ({spec['now']}), sha256 {spec['sha256']}"
    if spec["set"]:
        yield f"            not as specified: {', '.join(f'--set {each}' for each in spec['set'])}"
    yield f"code        {_code(told)}"
    yield f"report      {told['report']}"
    for run in told["runs"]:
        seed = f", seed {run['seed']}" if run["seed"] else ""
        yield f"run {run['cell']}: {run['arm']}{seed}"
        width = max((len(node["role"]) for node in run["nodes"]), default=0)
        for node in run["nodes"]:
            mark = "→" if node["gave_the_number"] else " "
            yield f"  {mark} {node['role']:<{width}} {_node(node)}"
        for place in run["mlflow"]:
            yield f"    MLflow: {place['uri']}, experiment {place['experiment']}, {place['filter']}"
    for what, reason in told["missing"].items():
        yield f"missing {what}: {reason}"


def _node(node: Mapping[str, Any]) -> str:
    there = node["folder"] if node["there"] else f"{node['folder']} (gone)"
    return f"{there}  {_made_by(node)}, {node['started']}, {node['seconds']:.0f} s on {node['device']}"


def _made_by(node: Mapping[str, Any]) -> str:
    """The state of the code: a commit, or the version of an installed package."""
    git = node["git"]
    if not git:
        return f"sfrbench {node['version'] or 'of an unknown version'}, installed"
    return f"commit {git['commit'][:10]}{' with changes' if git['dirty'] else ''}"


def _code(told: Mapping[str, Any]) -> str:
    """Every state of the code that made one of the nodes."""
    nodes = [node for run in told["runs"] for node in run["nodes"]]
    return "; ".join(dict.fromkeys(_made_by(node) for node in nodes)) or "—"
