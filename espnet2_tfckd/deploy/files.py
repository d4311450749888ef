"""Enhancing audio files of any rate and number of channels, in bounded memory."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet2_tfckd.data.audio import (
    CONTAINERS,
    SUFFIXES,
    audio_files,
    audio_writer,
    container_of,
    kept_subtype,
)
from espnet2_tfckd.data.decoding import AudioFile, open_audio
from espnet2_tfckd.data.paths import refuse_overlap
from espnet2_tfckd.deploy.enhancer import Enhancer
from espnet2_tfckd.deploy.streaming import Blocks, resampled

STANDARD_STREAM = "-"
_LEAST_SECONDS = 0.5  # the mean of a shorter signal says nothing about an offset
_LARGE_OFFSET = 0.05  # of the signal's root mean square without it


@dataclass
class Outcome:
    """The outcome for a file.

    Attributes:
        source: The file.
        target: Path of the estimate; None if enhancing failed.
        messages: What the user should know about it.
        error: Why it failed.
    """

    source: str
    target: str | None = None
    messages: list[str] = field(default_factory=list)
    error: str | None = None


def plan(inputs: list[str], output: str) -> list[tuple[str, str]]:
    """Decide which output each input gets.

    Args:
        inputs: Files, folders (with all audio below them), or ``-`` for standard input.
        output: A file for one input, ``-`` for standard output, otherwise a folder, in which the
            files of an input folder keep their relative paths.

    Returns:
        Pairs of source and target.

    Raises:
        FileNotFoundError: If an input is not there, or a folder holds no audio.
        ValueError: If two outputs would have the same name, several inputs would go into one file,
            the output has no name or an unsupported suffix, or an input would be overwritten.
    """
    if not output.strip():
        raise ValueError("--output is empty: name a file or a folder")
    pairs = [pair for name in inputs for pair in _sources(name)]
    is_one_file = len(pairs) == 1 and not Path(inputs[0]).is_dir()
    if output == STANDARD_STREAM or (is_one_file and not _is_folder(output)):
        if not is_one_file:
            raise ValueError("several files cannot go to one: name a folder with --output")
        planned = [(pairs[0][0], output)]
        if output != STANDARD_STREAM:
            container_of(output)
    else:
        planned = _into_folder(pairs, output)
    # what lies in a folder of inputs would be an input itself the next time
    folders = [name for name in inputs if Path(name).is_dir()]
    sources = [source for source, _ in planned if source != STANDARD_STREAM]
    targets = [target for _, target in planned if target != STANDARD_STREAM]
    refuse_overlap(targets, [*sources, *folders])
    return planned


def _sources(name: str) -> list[tuple[str, Path]]:
    """Files that an input stands for, each with its name in the output folder."""
    path = Path(name)
    if not name.strip():
        raise FileNotFoundError("an empty name is not there: name files or folders")
    if path.is_dir():
        if not (found := audio_files(path)):
            raise FileNotFoundError(f"{name} holds no audio files")
        return [(str(file), file.relative_to(path)) for file in found]
    if name == STANDARD_STREAM:
        return [(name, Path("stdin.wav"))]
    if path.is_file():
        return [(name, Path(path.name))]
    raise FileNotFoundError(f"{name} is not there")


def _is_folder(output: str) -> bool:
    return Path(output).is_dir() or output.endswith("/") or not Path(output).suffix


def _into_folder(pairs: list[tuple[str, Path]], output: str) -> list[tuple[str, str]]:
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {output} is a file, and several files need a folder")
    if not folder.is_dir() and not output.endswith("/") and folder.suffix.lower() in SUFFIXES:
        raise ValueError(
            f"--output {output} names a file, and several files need a folder (end it with / if it "
            "is to be one)"
        )
    targets = [
        str(folder / (name if name.suffix.lower() in CONTAINERS else name.with_suffix(".wav")))
        for _, name in pairs
    ]
    if twice := [target for target, count in Counter(targets).items() if count > 1]:
        raise ValueError(f"several inputs would become {twice[0]}: enhance them apart")
    return [(source, target) for (source, _), target in zip(pairs, targets, strict=True)]


def enhance_file(
    enhancer: Enhancer,
    source: str,
    target: str,
    channel: int = 0,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Outcome:
    """Enhance one file and keep its level. If this fails, an earlier target stays.

    Args:
        enhancer: The model.
        source: Audio file, or ``-``.
        target: File to write, or ``-``; it has the model's rate, one channel, and the bits of the
            source, at least 16.
        channel: Which channel a model for one microphone takes of several.
        progress: Called with the seconds that have been read since the last call.

    Returns:
        The outcome; faults of the file are reported there and not raised.
    """
    outcome = Outcome(source)
    try:
        opened = io.BytesIO(sys.stdin.buffer.read()) if source == STANDARD_STREAM else source
        offset = np.float32(_offset(opened, channel, outcome) if enhancer.microphones == 1 else 0)
        with open_audio(opened) as audio:
            blocks = selected(audio, enhancer, channel, outcome, progress)
            blocks = (block - offset for block in blocks) if offset else blocks
            blocks = resampled(blocks, audio.rate, enhancer.sample_rate, enhancer.microphones)
            estimate = enhancer.enhance(blocks)
            estimate = (block + offset for block in estimate) if offset else estimate
            _write(estimate, enhancer.sample_rate, audio.subtype, target, outcome)
            if audio.fault:
                outcome.messages.append(f"{audio.fault}; what is there has been enhanced")
    except (OSError, ValueError, RuntimeError) as error:
        outcome.error = _named(source, error)
    else:
        outcome.target = target
    return outcome


def _offset(source: str | io.BytesIO, channel: int, outcome: Outcome) -> float:
    """The constant offset of each channel, if it is large enough to do harm.

    A faulty converter adds an offset. Networks that were trained without one lose decibels by it
    (1.6 dB at an offset of 0.1), but none if it is removed first and added again afterwards.
    """
    count, total, energy = 0, 0.0, 0.0
    with open_audio(source) as audio:
        if not 0 <= channel < audio.channels:
            channel = 0
        for block in audio.blocks():
            signal = block[:, channel].astype(np.float64)
            count, total = count + len(signal), total + signal.sum()
            energy += signal @ signal
        if count < _LEAST_SECONDS * audio.rate or not np.isfinite(energy):
            return 0.0
    mean = total / count
    if abs(mean) <= _LARGE_OFFSET * np.sqrt(max(0.0, energy / count - mean**2)):
        return 0.0
    outcome.messages.append(
        f"a constant offset of {mean:.3f} was taken away for the model and put back"
    )
    return mean


def _named(source: str, error: Exception) -> str:
    return str(error) if source in str(error) else f"{source}: {error}"


def read_mixture(source: str, enhancer: Enhancer, channel: int = 0) -> np.ndarray:
    """Read a whole file at the rate of a model, with the channels that it takes.

    Args:
        source: Audio file.
        enhancer: The model.
        channel: Which channel a model for one microphone takes of several.

    Returns:
        The mixture, (samples, microphones).

    Raises:
        ValueError: If the file cannot be read or does not suit the model; the message names it.
    """
    try:
        with open_audio(source) as audio:
            blocks = selected(audio, enhancer, channel)
            rates = audio.rate, enhancer.sample_rate
            return np.concatenate(list(resampled(blocks, *rates, enhancer.microphones)))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(_named(source, error)) from error


def selected(
    audio: AudioFile,
    enhancer: Enhancer,
    channel: int,
    outcome: Outcome | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Blocks:
    """The channels of an open file that a model takes, in blocks (samples, channels).

    Args:
        audio: The file.
        enhancer: The model.
        channel: Which channel a model for one microphone takes, if there are several.
        outcome: Gets what the user should know about it.
        progress: Called with the seconds that have been read since the last call.

    Raises:
        ValueError: If the file lacks them.
    """
    messages = outcome.messages if outcome else []
    if audio.rate != enhancer.sample_rate:
        messages.append(f"{audio.rate} Hz, resampled to the model's {enhancer.rate}")
    if enhancer.microphones > 1:
        if audio.channels != enhancer.microphones:
            raise ValueError(
                f"has {audio.channels} channel(s), the model takes {enhancer.microphones}"
            )
    elif audio.channels > 1:
        if not 0 <= channel < audio.channels:
            raise ValueError(f"has {audio.channels} channel(s), there is no channel {channel}")
        messages.append(f"{audio.channels} channels, of which channel {channel} is taken")
    else:
        channel = 0
    return _read(audio, enhancer.microphones, channel, progress)


def _read(
    audio: AudioFile, microphones: int, channel: int, progress: Callable[[float], None]
) -> Blocks:
    is_empty = True
    for block in audio.blocks():
        if not np.isfinite(block).all():
            raise ValueError("contains samples that are not a number: repair or leave it out")
        is_empty = False
        progress(len(block) / audio.rate)
        yield block if microphones > 1 else block[:, channel : channel + 1]
    if is_empty:
        raise ValueError("is empty")


def _write(blocks: Blocks, rate: int, subtype: str, target: str, outcome: Outcome) -> None:
    written = io.BytesIO() if target == STANDARD_STREAM else target
    container = "WAV" if target == STANDARD_STREAM else container_of(target)
    sources = [] if outcome.source == STANDARD_STREAM else [outcome.source]
    with audio_writer(written, rate, 1, kept_subtype(subtype, container), sources) as writer:
        for block in blocks:
            writer.write(block)
    if target == STANDARD_STREAM:
        sys.stdout.buffer.write(written.getvalue())
    if writer.clipped:
        outcome.messages.append(f"{writer.clipped} samples clipped: give it as 32-bit float wav")
