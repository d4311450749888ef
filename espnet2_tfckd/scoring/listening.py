"""The utterances that gain most and least, as sound and as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from espnet2_tfckd.data.audio import audio_writer
from espnet2_tfckd.data.entries import read_channel
from espnet2_tfckd.scoring.spectrogram import spectrogram_db, spectrogram_png


@dataclass(frozen=True)
class Clip:
    """One signal of an utterance.

    Attributes:
        name: ``mixture``, the name of a system, or ``reference``.
        audio: FLAC of 16 bits as a ``data:`` URI, at the signal's own level.
        spectrogram: PNG as a ``data:`` URI.
        clipped: Samples beyond full scale, which 16 bits cannot hold.
    """

    name: str
    audio: str
    spectrogram: str
    clipped: int


@dataclass
class Listening:
    """All signals of an utterance.

    Attributes:
        utterance: Its id.
        seconds: Its duration.
        max_khz: Upper end of the spectrograms.
        clips: In the order in which they are to be heard.
        problems: Why signals are left out, a sentence each.
    """

    utterance: str
    seconds: float = 0.0
    max_khz: float = 0.0
    clips: list[Clip] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Characters of all ``data:`` URIs."""
        return sum(len(clip.audio) + len(clip.spectrogram) for clip in self.clips)


def extremes(gains: Mapping[str, float], count: int) -> tuple[list[str], list[str]]:
    """The utterances with the largest and with the smallest gains, the most extreme first.

    Args:
        gains: Gain of each utterance.
        count: How many of each. If there are fewer than twice as many utterances, each gets half.

    Examples:
        >>> extremes({"a": 1.0, "b": 5.0, "c": -2.0, "d": 3.0, "e": 0.0}, 2)
        (['b', 'd'], ['c', 'e'])
        >>> extremes({"a": 1.0, "b": 5.0, "c": -2.0}, 2)
        (['b', 'a'], ['c'])
    """
    ranked = sorted(gains, key=lambda utterance: (-gains[utterance], utterance))
    best = ranked[: min(count, (len(ranked) + 1) // 2)]
    worst = ranked[max(len(best), len(ranked) - count) :]
    return best, worst[::-1]


def listen_in_turn(
    best: Sequence[str],
    worst: Sequence[str],
    entries: Mapping[str, Mapping[str, str]],
    ref_channel: int,
    budget: int,
) -> tuple[dict[str, Listening], list[str]]:
    """Prepare utterances, the most extreme ones first, as long as they fit.

    Args:
        best: Utterances that gain most, the best first.
        worst: Utterances that gain least, the worst first.
        entries: For each signal its scp entries.
        ref_channel: Channel of files with several.
        budget: Characters that sounds and pictures may take; the first utterance is always taken.

    Returns:
        The signals of each utterance, and a sentence if some utterances did not fit.
    """
    heard: dict[str, Listening] = {}
    in_turn = [u for pair in zip_longest(best, worst) for u in pair if u is not None]
    for utterance in in_turn:
        listening = listen(
            utterance, {name: of.get(utterance) for name, of in entries.items()}, ref_channel
        )
        budget -= listening.size
        if budget < 0 and heard:
            return heard, [
                f"Only {len(heard)} of {len(in_turn)} utterances are here, to keep this file small."
            ]
        heard[utterance] = listening
    return heard, []


def listen(utterance: str, entries: Mapping[str, str | None], ref_channel: int) -> Listening:
    """Prepare the signals of an utterance, with one colour scale for all spectrograms.

    Args:
        utterance: Its id.
        entries: scp entry of each signal by its name; None if there is no signal.
        ref_channel: Channel of files with several.

    Returns:
        The signals that can be read; ``problems`` names the others.
    """
    listening = Listening(utterance)
    signals: dict[str, tuple[np.ndarray, int]] = {}
    for name, entry in entries.items():
        if entry is None:
            listening.problems.append(f"{name}: no audio of this utterance")
            continue
        try:
            signals[name] = read_channel(entry, ref_channel)
        except (OSError, ValueError) as error:
            listening.problems.append(f"{name}: {error}")
    levels = {name: spectrogram_db(*signal) for name, signal in signals.items()}
    loudest = max((float(level.max()) for level in levels.values()), default=0.0)
    for name, (samples, sample_rate) in signals.items():
        listening.seconds = max(listening.seconds, len(samples) / sample_rate)
        listening.max_khz = max(listening.max_khz, sample_rate / 2000)
        listening.clips.append(
            Clip(
                name,
                data_uri("audio/flac", flac(samples, sample_rate)),
                data_uri("image/png", spectrogram_png(levels[name], loudest)),
                int((np.abs(samples) > 1).sum()),
            )
        )
    return listening


def flac(samples: np.ndarray, sample_rate: int) -> bytes:
    """A FLAC file of 16 bits; samples beyond full scale are clipped.

    Shape:
        samples (N,)
    """
    file = io.BytesIO()
    with audio_writer(file, sample_rate, container="FLAC") as writer:
        writer.write(samples)
    return file.getvalue()


def data_uri(media_type: str, contents: bytes) -> str:
    """Contents as a ``data:`` address, which needs no file.

    Examples:
        >>> data_uri("text/plain", b"hi")
        'data:text/plain;base64,aGk='
    """
    return f"data:{media_type};base64,{base64.b64encode(contents).decode('ascii')}"
