"""What a table of sources holds: packages, speakers, noise recordings and rooms.

A pattern is matched (``fnmatch``) against a file's path inside its package; a pattern
``opensfx.cat:Title`` names one sound inside OpenTTD's sound archive by the start of its title.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

LICENCES = ("*/copyright", "*/readme.txt*", "*/NOTICE", "*.dist-info/*")  # of every package


class Package(NamedTuple):
    """A Debian package (``version`` is None: the newest that apt offers) or a pinned wheel.

    ``renamed`` is the package's name in later releases of Debian and Ubuntu. There, a package of
    the old name may be left that no longer has the files.
    """

    name: str
    version: str | None
    licence: str
    credit: str
    renamed: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names to look for, the preferred one first."""
        return (self.renamed, self.name) if self.renamed else (self.name,)


class Speaker(NamedTuple):
    """A speaker, whose utterances make up ``share`` of the split (any scale)."""

    split: str
    name: str
    package: str
    pattern: str
    share: float


class Recording(NamedTuple):
    """A noise recording of one kind; kind ``babble`` is a group of background talkers."""

    split: str
    kind: str
    name: str
    package: str
    pattern: str


class Room(NamedTuple):
    """A room's impulse response, to be used as :func:`espnet2_tfckd.corpora.mixing.nearer` says."""

    split: str
    name: str
    package: str
    pattern: str
    nearer: float
    seconds: float


@dataclass(frozen=True)
class Sources:
    """All tables of one choice of ``--sources``.

    Attributes:
        folder: Where credits and licences go, below the folder of downloads.
        packages: What to fetch.
        speakers: Whose speech is mixed.
        recordings: The noise that it is mixed with.
        kind_shares: Split -> kind of noise -> how often it is drawn (any scale).
        utterances: Split -> default number of utterances.
        not_speech: Regular expression of files that are not running speech.
        transcribed: The one speaker with transcripts.
        transcripts: Package and pattern of the file that holds them.
        rooms: At most one a split; half of the split's utterances are spoken in it.
        tidied: Splits whose speech is freed of copies of a recording, and of rumble.
    """

    folder: str
    packages: tuple[Package, ...]
    speakers: tuple[Speaker, ...]
    recordings: tuple[Recording, ...]
    kind_shares: Mapping[str, Mapping[str, float]]
    utterances: Mapping[str, int]
    not_speech: str
    transcribed: str
    transcripts: tuple[str, str]
    rooms: tuple[Room, ...] = ()
    tidied: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A digest of the tables, from which all audio follows."""
        rows = [self.packages, self.speakers, self.recordings, self.kind_shares]
        rows += [table for table in (self.rooms, self.tidied) if table]
        return hashlib.sha256(repr(tuple(rows)).encode()).hexdigest()[:32]

    def patterns_of(self, package: str) -> list[str]:
        """File patterns to unpack from one package, its copyright and metadata included."""
        rows = [*self.speakers, *self.recordings, *self.rooms]
        used = {row.pattern.partition(":")[0] for row in rows if row.package == package}
        if package == self.transcripts[0]:
            used.add(self.transcripts[1])
        inside = {f"*/{pattern}" if pattern == "opensfx.cat" else pattern for pattern in used}
        return sorted(inside | set(LICENCES))

    def split_number(self, split: str) -> int:
        """The number of a split, for seeds."""
        return list(self.utterances).index(split)
