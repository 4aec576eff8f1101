"""Whether a process is there, on this machine or on another one."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

SILENT_S = 90.0  # a process of another machine that was silent for so long may be gone


def since_s(moment: str) -> float:
    """Seconds since an ISO time; very many where there is none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return float("inf")


def is_alive(host: str, pid: int, silent_s: float) -> bool:
    """Asked of this machine; of another one guessed by how long the process has been silent."""
    if host != socket.gethostname():
        return silent_s < SILENT_S
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError, UnicodeDecodeError):
        return False
