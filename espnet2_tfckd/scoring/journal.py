"""The journal of a system's scores: a line of JSON for each utterance; the last line counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from espnet2_tfckd.cli import atomic_write

JOURNAL = "utterances.jsonl"


def read_journal(path: Path) -> dict[str, dict]:
    """Read the complete lines of a journal; damaged lines are left out."""
    records = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.keys() >= {"id", "scores"}:
            records[record["id"]] = record
    return records


def write_journal(path: Path, records: Sequence[dict]) -> None:
    """Replace a journal by these records."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records))


def append_to_journal(path: Path, record: dict) -> None:
    """Add the scores of one utterance; they replace its earlier ones."""
    with path.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(record) + "\n")
