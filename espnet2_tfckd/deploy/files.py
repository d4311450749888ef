"""Enhancing audio files: whatever rate and channels they have, in bounded memory."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.deploy.enhancer import Enhancer
from espnet2_tfckd.deploy.signals import Blocks, resampled

STANDARD_STREAM = "-"
_BLOCK = 2**16  # samples read at a time
_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} | {".opus", ".aif"}
_WRITABLE = {".wav", ".flac"}


@dataclass
class Outcome:
    """What became of a file.

    Attributes:
        source: The file.
        target: Where the estimate is; None if it failed.
        messages: What the user should know of it.
        error: Why it failed.
    """

    source: str
    target: str | None = None
    messages: list[str] = field(default_factory=list)
    error: str | None = None


def plan(inputs: list[str], output: str) -> list[tuple[str, str]]:
    """Which file becomes which.

    Args:
        inputs: Files, folders (with all audio below them), or ``-`` for standard input.
        output: A file for one file, ``-`` for standard output, else a folder, in which the files
            of a folder keep their places.

    Returns:
        Pairs of source and target.

    Raises:
        FileNotFoundError: An input is not there, or a folder holds no audio.
        ValueError: Two files would get the same name, or several are to go into one.
    """
    pairs = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
            if not found:
                raise FileNotFoundError(f"{name} holds no audio files")
            pairs += [(str(p), p.relative_to(path)) for p in found]
        elif name == STANDARD_STREAM or path.is_file():
            pairs.append((name, Path(path.name if name != STANDARD_STREAM else "stdin.wav")))
        else:
            raise FileNotFoundError(f"{name} is not there")
    is_one_file = len(pairs) == 1 and not Path(inputs[0]).is_dir()
    if output == STANDARD_STREAM or (is_one_file and not _is_folder(output)):
        if not is_one_file:
            raise ValueError("several files cannot go to one: name a folder with --output")
        return [(pairs[0][0], output)]
    targets = [
        str(Path(output) / (name if name.suffix.lower() in _WRITABLE else name.with_suffix(".wav")))
        for _, name in pairs
    ]
    if twice := {target for target in targets if targets.count(target) > 1}:
        raise ValueError(f"several inputs would become {sorted(twice)[0]}: enhance them apart")
    return [(source, target) for (source, _), target in zip(pairs, targets, strict=True)]


def _is_folder(output: str) -> bool:
    return Path(output).is_dir() or output.endswith("/") or not Path(output).suffix


def enhance_file(
    enhancer: Enhancer,
    source: str,
    target: str,
    channel: int = 0,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Outcome:
    """Enhance one file. Its level is kept; an earlier target stays where this fails.

    Args:
        enhancer: The model.
        source: Audio file, or ``-``.
        target: File to write, or ``-``; at the model's rate, one channel.
        channel: Which channel a model for one microphone takes of several.
        progress: Called with the seconds that have been read since the last call.

    Returns:
        What became of it; nothing is raised for what is wrong with the file.
    """
    outcome = Outcome(source)
    try:
        opened = io.BytesIO(sys.stdin.buffer.read()) if source == STANDARD_STREAM else source
        with soundfile.SoundFile(opened) as audio:
            _adapt(audio, enhancer, channel, outcome)
            blocks = _read(audio, enhancer.microphones, channel, progress)
            blocks = resampled(blocks, audio.samplerate, enhancer.sample_rate, enhancer.microphones)
            _write(enhancer.enhance(blocks), enhancer.sample_rate, audio.subtype, target, outcome)
    except (OSError, ValueError, RuntimeError) as error:
        outcome.error = f"{source}: {error}"
    else:
        outcome.target = target
    return outcome


def read_mixture(source: str, enhancer: Enhancer, channel: int = 0) -> np.ndarray:
    """Read a whole file in the rate and channels that a model takes.

    Args:
        source: Audio file.
        enhancer: The model.
        channel: Which channel a model for one microphone takes of several.

    Returns:
        The mixture, (samples, microphones).

    Raises:
        ValueError: The file cannot be read or does not suit the model; names it.
    """
    try:
        with soundfile.SoundFile(source) as audio:
            _adapt(audio, enhancer, channel, Outcome(source))
            blocks = _read(audio, enhancer.microphones, channel, lambda seconds: None)
            rates = audio.samplerate, enhancer.sample_rate
            return np.concatenate(list(resampled(blocks, *rates, enhancer.microphones)))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: {error}") from error


def _adapt(audio, enhancer: Enhancer, channel: int, outcome: Outcome) -> None:
    if audio.frames == 0:
        raise ValueError("is empty")
    if audio.samplerate != enhancer.sample_rate:
        outcome.messages.append(
            f"{audio.samplerate} Hz, resampled to the model's {enhancer.sample_rate} Hz"
        )
    if enhancer.microphones > 1:
        if audio.channels != enhancer.microphones:
            raise ValueError(
                f"has {audio.channels} channel(s), the model takes {enhancer.microphones}"
            )
    elif audio.channels > 1:
        if channel >= audio.channels:
            raise ValueError(f"has {audio.channels} channel(s), there is no channel {channel}")
        outcome.messages.append(f"{audio.channels} channels, of which channel {channel} is taken")


def _read(audio, microphones: int, channel: int, progress: Callable[[float], None]) -> Blocks:
    for block in audio.blocks(_BLOCK, dtype="float32", always_2d=True):
        if not np.isfinite(block).all():
            raise ValueError("contains samples that are not a number: repair or leave it out")
        progress(len(block) / audio.samplerate)
        yield block if microphones > 1 else block[:, channel : channel + 1]


def _write(blocks: Blocks, rate: int, subtype: str, target: str, outcome: Outcome) -> None:
    kind = "flac" if Path(target).suffix.lower() == ".flac" else "wav"
    if subtype not in soundfile.available_subtypes(kind):
        subtype = "PCM_16"
    clips = not subtype.startswith(("FLOAT", "DOUBLE"))
    clipped = 0

    def write_to(file) -> None:
        nonlocal clipped
        with soundfile.SoundFile(file, "w", rate, 1, subtype, format=kind) as audio:
            for block in blocks:
                clipped += int((np.abs(block) > 1).sum()) if clips else 0
                audio.write(block)

    if target == STANDARD_STREAM:
        written = io.BytesIO()
        write_to(written)
        sys.stdout.buffer.write(written.getvalue())
    else:
        with atomic_write(target) as temporary:
            write_to(str(temporary))
    if clipped:
        outcome.messages.append(f"{clipped} samples clipped: give it as 32-bit float wav")
