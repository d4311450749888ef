"""Audio files: finding them in a folder, reading them, and the one way to write them.

A file that is written is whole, finite and not clipped. It has 16 bits or more, is in the container
that its name says, and never replaces a file that it was made from.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.data.decoding import open_audio
from espnet2_tfckd.data.paths import refuse_overlap

#: Names of audio files end so, in any case; whether they hold audio shows when they are opened.
SUFFIXES = frozenset(
    ".3gp .aac .ac3 .aif .aifc .aiff .amr .ape .au .caf .flac .g722 .gsm .m4a .m4b .mka .mov .mp2 "
    ".mp3 .mp4 .nist .oga .ogg .opus .rf64 .snd .sph .tta .voc .w64 .wav .webm .wma .wv".split()
)
CONTAINERS = {".wav": "WAV", ".flac": "FLAC"}  # lossless, and read by everything
FINE_SUBTYPES = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # more than 16 bits
_FLOATING = ("FLOAT", "DOUBLE")


def audio_files(
    folder: str | Path, deep: bool = True, suffixes: Iterable[str] = SUFFIXES
) -> list[Path]:
    """Audio files of a folder, sorted.

    Hidden files and folders are skipped: ``._x.wav`` of macOS, and ``.x.1.partial.wav``, which a
    killed run leaves. So is ``__MACOSX``, which zips made on macOS contain. Links to folders are
    followed, into each folder once.

    Args:
        folder: Where to look.
        deep: Look in its sub-folders too.
        suffixes: Suffixes to look for, in lower case; those of files match in any case.

    Raises:
        OSError: If a folder is not there or may not be read.
    """
    wanted, found, visited = set(suffixes), [], set()

    def fail(error: OSError) -> None:
        raise error

    for path, inner, names in os.walk(folder, followlinks=True, onerror=fail):
        if (real := os.path.realpath(path)) in visited:
            inner.clear()
            continue
        visited.add(real)
        inner[:] = sorted(n for n in inner if n[0] != "." and n != "__MACOSX") if deep else []
        shown = (Path(path, name) for name in names if name[0] != ".")
        found += [file for file in shown if file.suffix.lower() in wanted and file.is_file()]
    return sorted(found)


def wav_files(folder: Path) -> list[Path]:
    """The wav files directly in a folder, with the suffix in any case; empty if it is missing."""
    return audio_files(folder, deep=False, suffixes=[".wav"]) if folder.is_dir() else []


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a whole file.

    Returns:
        Samples as float32, 1 being full scale, and the sampling rate in Hz.

    Shape:
        (T, M), M microphones.

    Raises:
        OSError: If the file is missing or must not be read.
        ValueError: If it is not readable audio, or is cut off; the message begins with its name.
    """
    with open_audio(path) as audio:
        try:
            samples = audio.read()
        except ValueError as error:
            raise ValueError(f"{path} is not readable audio: {error}") from error
        if audio.fault:
            raise ValueError(f"{path} {audio.fault}: get the file again, or leave it out")
        return samples, audio.rate


def audio_shape(path: str | Path) -> tuple[int, int, int]:
    """Samples, channels and rate in Hz; the file is decoded only if its header does not say.

    Raises:
        As :func:`read_audio`.
    """
    with open_audio(path) as audio:
        if audio.frames is not None and not audio.fault:
            return audio.frames, audio.channels, audio.rate
    samples, rate = read_audio(path)
    return *samples.shape, rate


def holds_floats(path: str | Path) -> bool:
    """Whether a file stores floating-point samples, which may exceed full scale without harm."""
    try:
        return soundfile.info(path).subtype in _FLOATING
    except soundfile.LibsndfileError:
        return False


def container_of(path: str | Path) -> str:
    """libsndfile's name of the container that a file name asks for.

    Raises:
        ValueError: If audio is not written in that container.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise ValueError(
            f"{path}: audio is not written as {suffix or 'a file without suffix'}: name it "
            f"{' or '.join(CONTAINERS)}"
        )
    return CONTAINERS[suffix]


def kept_subtype(subtype: str, container: str) -> str:
    """An encoding of 16 bits or more that keeps all of audio in ``subtype``.

    Examples:
        >>> kept_subtype("ULAW", "WAV"), kept_subtype("FLOAT", "WAV"), kept_subtype("FLOAT", "FLAC")
        ('PCM_16', 'FLOAT', 'PCM_24')
    """
    if subtype not in FINE_SUBTYPES:
        return "PCM_16"
    return subtype if subtype in soundfile.available_subtypes(container) else "PCM_24"


class AudioWriter:
    """Writes blocks of samples to an open file.

    Attributes:
        clipped: Samples beyond full scale so far that the encoding cannot hold.
    """

    def __init__(self, file: soundfile.SoundFile, name: str):
        self._file, self._name, self.frames, self.clipped = file, name, 0, 0
        self._clips = file.subtype not in _FLOATING

    def write(self, block: np.ndarray) -> None:
        """Append samples, (T,) or (T, M).

        Raises:
            ValueError: If samples are not finite.
            OSError: If they cannot be written to the disk.
        """
        if wrong := int((~np.isfinite(block)).sum()):
            raise ValueError(
                f"{self._name} is not written: {wrong} of {block.size} samples would be NaN or "
                "infinite"
            )
        self.clipped += int((np.abs(block) > 1).sum()) if self._clips else 0
        try:
            self._file.write(block)
        except (soundfile.LibsndfileError, AssertionError) as error:  # it wrote less than asked to
            raise _not_written(self._name) from error
        self.frames += len(block)


@contextmanager
def audio_writer(
    path: str | Path | io.BytesIO,
    rate: int,
    channels: int = 1,
    subtype: str = "PCM_16",
    inputs: Iterable[str | Path] = (),
    container: str = "WAV",
) -> Iterator[AudioWriter]:
    """Write a file block by block; it gets its name once all of it is written.

    Args:
        path: The file, or a buffer.
        rate: In Hz.
        channels: Number of channels.
        subtype: Encoding, as libsndfile names it.
        inputs: Files that must not be overwritten.
        container: Container of a buffer, as libsndfile names it; for a file, its name decides.

    Raises:
        ValueError: If the name asks for another container than wav or flac, the target is an input,
            or samples are not finite. An earlier file of that name stays.
        OSError: If not all of it can be written; an earlier file of that name stays.
    """
    if isinstance(path, io.BytesIO):
        with soundfile.SoundFile(path, "w", rate, channels, subtype, format=container) as file:
            yield AudioWriter(file, "the output")
        return
    container = container_of(path)
    refuse_overlap([path], inputs)
    with atomic_write(path) as temporary:
        try:
            file = soundfile.SoundFile(temporary, "w", rate, channels, subtype, format=container)
        except soundfile.LibsndfileError as error:
            raise OSError(f"{path} cannot be written: {error.error_string}") from error
        with file:
            writer = AudioWriter(file, str(path))
            yield writer
        if _frames_of(temporary) != writer.frames:
            raise _not_written(str(path))


def write_audio(
    path: str | Path,
    samples: np.ndarray,
    rate: int,
    subtype: str = "PCM_16",
    inputs: Iterable[str | Path] = (),
) -> None:
    """Write a whole file; all audio in this project is written here or by :func:`audio_writer`.

    Args:
        path: A name that ends with ``.wav`` or ``.flac``.
        samples: (T,) or (T, M), full scale is 1.
        rate: In Hz.
        subtype: Encoding, as libsndfile names it.
        inputs: Files that the target must not be.

    Raises:
        ValueError: As :func:`audio_writer`, or if samples beyond full scale would be clipped.
        OSError: As :func:`audio_writer`.
    """
    refuse_unwritable(samples, str(path), subtype)
    channels = samples.shape[1] if samples.ndim > 1 else 1
    with audio_writer(path, rate, channels, subtype, inputs) as writer:
        writer.write(samples)


def refuse_unwritable(samples: np.ndarray, name: str, subtype: str = "PCM_16") -> None:
    """Refuse samples that an encoding cannot hold.

    Raises:
        ValueError: If samples are not finite, or would be clipped.
    """
    if wrong := int((~np.isfinite(samples)).sum()):
        raise ValueError(
            f"{name} is not written: {wrong} of {samples.size} samples would be NaN or infinite"
        )
    peak = float(np.abs(samples).max(initial=0))
    if subtype not in _FLOATING and peak > 1:
        raise ValueError(
            f"{name} is not written: it would clip in {subtype}, its peak is {peak:.2f} times full "
            "scale"
        )


def _frames_of(path: Path) -> int:
    try:
        return soundfile.info(path).frames
    except soundfile.LibsndfileError:
        return -1


def _not_written(name: str) -> OSError:
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(name))).free
    return OSError(
        f"{name} cannot be written to its end ({free / 1e6:.1f} MB are free): make room on the "
        "disk, or check its quota"
    )
