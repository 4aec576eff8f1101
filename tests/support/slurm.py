"""Whether jobs of a real SLURM can be submitted here, and what its site says; see ``slurm_up.sh``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sfrbench.run.executors.slurm import ask, notes


def _missing() -> str:
    """Why no job can be submitted here; empty where one can."""
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        return "there is no sbatch here"
    try:
        done = subprocess.run(["sinfo", "-h", "-t", "idle,mix,alloc"], capture_output=True, timeout=10)
    except subprocess.TimeoutExpired:
        return "SLURM does not answer"
    return "" if done.returncode == 0 and done.stdout.strip() else "no node of SLURM is up"


MISSING = _missing()
needs_slurm = pytest.mark.skipif(bool(MISSING), reason=MISSING)

SITE = "executors: {slurm: {cpus: 1, memory: 1, hours: 0.1, poll: 1, gres: ''}}\n"


def live(workspace: Path) -> list[str]:
    """The jobs of a workspace that wait or run."""
    start = notes.comment_start(workspace)
    return [
        job
        for job, seen in ask.queue().items()
        if seen.comment.startswith(start) and seen.fate == "live" and seen.state != "COMPLETING"
    ]
