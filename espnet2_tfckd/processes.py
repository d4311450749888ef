"""Child processes: how many cores they have, and how they end with the command."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading

#: Variables by which numerical libraries learn how many threads to start.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PR_SET_PDEATHSIG = 1  # of Linux' prctl


def cpu_cores() -> int:
    """Cores that this process may use; all cores if the system does not say (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_worker_with_parent() -> None:
    """Make a worker of a pool end when the command is killed, not wait for work forever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_child_with_parent() -> None:
    """Ask the system to kill this child process when its parent ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
