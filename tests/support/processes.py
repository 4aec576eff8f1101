"""What Linux knows of processes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path


def children(process: int) -> list[int]:
    """The processes that a process has started, of those that have not ended."""
    found = []
    for folder in [path for path in Path("/proc").iterdir() if path.name.isdigit()]:
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        if parent == process:
            found.append(int(folder.name))
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for by its new parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(processes: Iterable[int], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left := [pid for pid in left if not gone(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
