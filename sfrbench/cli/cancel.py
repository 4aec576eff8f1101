"""``sfrbench cancel``: ends the jobs of a cluster that a run or a search has submitted."""

from __future__ import annotations

from pathlib import Path

import click

from sfrbench.cli import complete
from sfrbench.cli import data as data_commands
from sfrbench.files.terminal import echo


@click.command()
@click.argument("what", metavar="[WORKSPACE|SPEC]", required=False, shell_complete=complete.specs)
@click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    default=data_commands.workspace,
    show_default=data_commands.WORKSPACE,
)
def cancel(what: str | None, workspace: Path) -> None:
    """End the jobs of a SLURM cluster that work for WORKSPACE, or for SPEC alone.

    What they were training has left a checkpoint; the same 'sfrbench run' or 'search' goes on from there.
    """
    from sfrbench.run.executors.slurm.run import cancel_jobs
    from sfrbench.spec.extends import locate

    experiment = ""
    if what is not None and Path(what).is_dir():
        workspace = Path(what)
    elif what is not None:
        experiment = locate(what).stem
    jobs = cancel_jobs(workspace, experiment)
    echo(f"cancelled: {', '.join(jobs)}" if jobs else f"no jobs are there for {experiment or workspace}")
