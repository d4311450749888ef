"""Remembering what data directories were made from, so that a second run need not do it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.datadir import read_data_dir

SETS = ("train", "valid", "test")


def listing_digest(files: Iterable[Path]) -> str:
    """Short text that changes when a file does, by its path or size."""
    listing = [(str(path), path.stat().st_size) for path in files]
    return hashlib.sha256(repr(listing).encode()).hexdigest()[:16]


def is_up_to_date(record: Path, options: dict, data_dir: Path) -> bool:
    """True if the record holds the same options and the three data directories are whole."""
    if not record.exists() or json.loads(record.read_text()) != options:
        return False
    try:
        contents = [read_data_dir(data_dir / name) for name in SETS]
    except (ValueError, FileNotFoundError):
        return False
    entries = [p for data in contents for t in (data.mixture, data.reference) for p in t.values()]
    return all(Path(entry).is_file() for entry in entries)


def write_record(record: Path, options: dict) -> None:
    """Remember the options, as the last step of making the data directories."""
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps(options, indent=1) + "\n")
