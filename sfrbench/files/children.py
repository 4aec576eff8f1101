"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PARENT = "SFRBENCH_PARENT"  # tells a process which one started it
_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Have this process sent a signal when ``parent``, the process that started it, is gone.

    By the kernel on Linux; elsewhere, and where the kernel refuses, a thread looks every second.
    """
    told = False
    if sys.platform == "linux":
        told = ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, int(number), 0, 0, 0) == 0
    if os.getppid() != parent:  # it went before we asked
        os.kill(os.getpid(), number)
    if not told:
        threading.Thread(target=_watch, args=(parent, number), daemon=True).start()


def _watch(parent: int, number: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), number)
