"""What every command line of the package shares: errors, numbers of jobs, atomic writing."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet2_tfckd.compatibility import untried_espnet
from espnet2_tfckd.processes import cpu_cores

SHARED_MEMORY = Path("/dev/shm")  # Linux; other systems have no such folder


def run_command(main: Callable[[], None]) -> None:
    """Run a command line and turn what a user can fix into one line and an exit status.

    Args:
        main: The command; it parses ``sys.argv`` itself.

    Raises:
        SystemExit: Status 1 after a ``ValueError``, ``OSError`` or ``RuntimeError``, whose message
            goes to stderr, and after any error if the installed release of ESPnet was not tried;
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
    """The message of an error, with more detail if the system names no file."""
    if not isinstance(error, OSError) or error.errno is None or error.filename is not None:
        return str(error)
    if sys.platform == "linux" and not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return (
            f"{error}. Processes that work together need shared memory, and {SHARED_MEMORY} is "
            "missing or not writable: as root, mount it with 'mount -t tmpfs -o mode=1777 tmpfs "
            f"{SHARED_MEMORY}'"
        )
    return f"{error}. The system names no file; to see where it happened, set TFCKD_TRACEBACK=1"


def at_least_one(text: str) -> int:
    """Parse a whole number above 0, such as a number of jobs.

    Examples:
        >>> at_least_one("08")
        8
    """
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """Parse a whole number that is not negative, such as a channel."""
    return _whole(text, 0)


def true_or_false(text: str) -> bool:
    """A switch from an argument, as the recipes' options take it."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def hertz(text: str) -> int:
    """Parse a sampling rate in Hz, written as ESPnet takes it.

    Examples:
        >>> hertz("16k"), hertz("44100")
        (16000, 44100)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(k?)", text)
    rate = round(float(match[1]) * (1000 if match[2] else 1)) if match else 0
    if not 1000 <= rate <= 384000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a sampling rate: give 16k or 16000")
    return rate


def name_and_path(text: str) -> tuple[str, Path]:
    """Parse an argument ``name=path``."""
    name, equals, path = text.partition("=")
    if not (equals and path and re.fullmatch(r"[\w.-]+", name)):
        raise argparse.ArgumentTypeError(f"{text!r} is not name=path")
    return name, Path(path)


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return number


def systems_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The command line that all stages which score systems share.

    Args:
        name: Name of the stage's module.
        description: What the stage does.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m espnet2_tfckd.stages.{name}", description=description
    )
    parser.add_argument("--data_dir", required=True, help="data directory with the references")
    parser.add_argument("--dataset", required=True, help="name of the data set in the tables")
    parser.add_argument(
        "--system",
        required=True,
        action="append",
        type=name_and_path,
        metavar="NAME=SCP",
        help="estimates of a system; repeat for further rows, the noisy mixture first",
    )
    parser.add_argument("--results", default="exp", help="directory of RESULTS.md and results.json")
    add_scoring_options(parser)
    return parser


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    """Options of all stages that compute scores."""
    jobs = {"default": cpu_cores(), "help": "number of processes"}
    parser.add_argument("--nj", type=at_least_one, **jobs)
    channel = {"default": 0, "help": "channel of multichannel audio"}
    parser.add_argument("--ref_channel", type=not_negative, **channel)


def parse_systems(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line of :func:`systems_parser`, with ``system`` as a dictionary."""
    args = parser.parse_args()
    if len(dict(args.system)) < len(args.system):
        parser.error("--system: two systems have the same name")
    args.system = dict(args.system)
    return args


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


def write_json(path: str | Path, contents: object) -> None:
    """Write a JSON file for people too, all at once."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def read_json(
    path: str | Path, default: object = _REQUIRED, remedy: str = "delete it and run again"
):
    """Read a JSON file; if it is not there, return the default, if one is given.

    Args:
        path: The file.
        default: What to return if the file is not there.
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
