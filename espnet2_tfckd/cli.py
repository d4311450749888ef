"""What every command line of the package shares: errors, numbers of jobs, atomic writing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet2_tfckd.compatibility import untried_espnet

SHARED_MEMORY = Path("/dev/shm")  # Linux; other systems have no such folder


def run_command(main: Callable[[], None]) -> None:
    """Run a command line and turn what a user can fix into one line and an exit status.

    Args:
        main: The command; it parses ``sys.argv`` itself.

    Raises:
        SystemExit: Status 1 after a ``ValueError``, ``OSError`` or ``RuntimeError``, whose message
            goes to stderr, and after any error where ESPnet is of a release that was not tried;
            130 after Ctrl-C. Set ``TFCKD_TRACEBACK=1`` to see the traceback too.
    """
    try:
        main()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("TFCKD_TRACEBACK"):
            raise
        print(f"error: {_in_words(error)}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        sentence = untried_espnet()
        if sentence is None or os.environ.get("TFCKD_TRACEBACK"):
            raise
        print(f"error: {type(error).__name__}: {error}. {sentence}", file=sys.stderr)
        raise SystemExit(1) from error


def _in_words(error: Exception) -> str:
    """The message of an error, with what the system leaves out where it names no file."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is not None:
        return str(error)
    if sys.platform == "linux" and not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return (
            f"{error}. Processes that work together need shared memory, and {SHARED_MEMORY} is "
            "missing or not writable: as root, mount it with 'mount -t tmpfs -o mode=1777 tmpfs "
            f"{SHARED_MEMORY}'"
        )
    return f"{error}. The system names no file; to see where it happened, set TFCKD_TRACEBACK=1"


def cpu_cores() -> int:
    """Cores that this process may use; all that there are where no system tells (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def at_least_one(text: str) -> int:
    """A whole number above 0 from an argument; for numbers of jobs, say.

    Examples:
        >>> at_least_one("08")
        8
    """
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """A whole number from 0 on from an argument; for channels, say."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return number


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block succeeds.

    An interrupted or failed block leaves an earlier ``path`` untouched and removes the temporary
    file. The temporary name keeps the suffix, since writers choose the format by it.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "sub" / "note.txt"
        >>> with atomic_write(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_REQUIRED = object()


def read_json(
    path: str | Path, default: object = _REQUIRED, remedy: str = "delete it and run again"
):
    """Read a JSON file, or return the default, if there is one, where the file is not there.

    Args:
        path: The file.
        default: What to return where it is not there.
        remedy: What to do about a damaged file, for the message.

    Raises:
        FileNotFoundError: If the file is not there and there is no default.
        ValueError: If the file is not valid JSON; names it and the remedy.
    """
    path = Path(path)
    if default is not _REQUIRED and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): {remedy}") from error
