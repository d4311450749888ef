"""One process at a time in a directory: a second one is refused and does not wait."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"  # this file in a directory is locked while a process works there


@contextmanager
def only_one(directory: str | Path) -> Iterator[None]:
    """Lock a directory for this process, which is going to write there.

    The system releases the lock when the process ends, however it ends; the lock's file stays.

    Raises:
        RuntimeError: If another process holds the lock, or the file system has no locks.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    no_locks = (
        f"the file system of {directory} does not lock files (flock), so nothing would keep a "
        "second process from writing there: use a directory on another one, or mount it with locks"
    )
    with open(directory / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another process is working on {directory}: wait until it is done, or end it"
            ) from None
        except OSError:
            raise RuntimeError(no_locks) from None
        if not is_locked(directory / LOCK):
            raise RuntimeError(no_locks)
        yield


def is_locked(file: Path) -> bool:
    """Whether anyone, this process included, holds the lock of a file."""
    with open(file, "r+") as lock:  # NFS locks only what is open for writing
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # it has no locks
            return False
    return False
