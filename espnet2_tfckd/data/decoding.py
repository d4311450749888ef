"""Opening audio: libsndfile decodes it if it can, otherwise FFmpeg (through PyAV) does."""

from __future__ import annotations

import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz; a header beyond them is damaged
BLOCK = 2**16  # samples
_AT_ONCE = 2**28  # samples; a damaged header may announce any number
_UNKNOWN_FRAMES = 2**62  # libsndfile counts more than that where the header does not tell
_UNKNOWN_BYTES = 0x7FFF0000  # what writes to a pipe announces from here to 0xFFFFFFFF
_MISSING_BYTES = 1024  # fewer are a sloppy header's, and last a few milliseconds
_MISSING_FRAMES = 2304  # two frames of MP3, whose headers count the encoder's padding
_MALFORMED = "Supported file format but file is malformed."
_BY_FFMPEG = {".g722", ".opus"}  # G.722 has no header; of Opus, libsndfile keeps another rate
#: Containers that FFmpeg may open: playlists, text and devices are not among them.
_CONTAINERS = (
    "aac,ac3,eac3,adts,aiff,amr,ape,asf,au,avi,caf,flac,g722,gsm,latm,loas,matroska,mov,mp3,mp4,"
    "mpegts,ogg,rm,tta,voc,w64,wav,webm,wv"
)
#: First bytes of what is often named like audio.
_NO_AUDIO = {
    b"\x00\x05\x16\x07": "a file of macOS metadata: remove it",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with git lfs pull",
    b"<": "a web page or XML: fetch the file again",
}
_CUT = re.compile(r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)", re.M)


class AudioFile(ABC):
    """Audio opened for reading; a context manager.

    Attributes:
        rate: Sampling rate in Hz.
        channels: Number of channels.
        frames: Samples per channel that the header announces; None if it does not say.
        subtype: Encoding of the samples as libsndfile names it; ``PCM_16`` if FFmpeg decodes.
        fault: Why audio is missing at the end; known after reading at the latest.
    """

    rate: int
    channels: int
    frames: int | None
    subtype: str = "PCM_16"
    fault: str | None = None

    @abstractmethod
    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """All samples from the beginning on, (up to size, channels), float32, 1 is full scale.

        Raises:
            ValueError: If the file cannot be decoded to its end.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the file."""

    def read(self) -> np.ndarray:
        """All samples, (T, channels), float32."""
        blocks = list(self.blocks(min(self.frames or BLOCK, _AT_ONCE)))
        return np.concatenate(blocks) if blocks else np.zeros((0, self.channels), np.float32)

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def compare_length(self, total: int) -> None:
        """Note a fault if there were far fewer samples than announced."""
        if self.frames and self.frames - total > _MISSING_FRAMES and not self.fault:
            self.fault = f"is cut off: {total} of the {self.frames} samples announced are there"

    def check(self) -> None:
        """Refuse an impossible header.

        Raises:
            ValueError: If the header states an impossible rate, or no channel.
        """
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise ValueError(
                f"its header states {self.rate} Hz, which no recording has "
                f"({LOWEST_RATE} to {HIGHEST_RATE} Hz)"
            )
        if self.channels < 1:
            raise ValueError("its header states no channel")


class _SndFile(AudioFile):
    """Audio that libsndfile decodes."""

    def __init__(self, source: str | io.BytesIO):
        self._file = soundfile.SoundFile(source)
        self.rate, self.channels = self._file.samplerate, self._file.channels
        self.frames, self.subtype = self._file.frames, self._file.subtype
        if match := _CUT.search(self._file.extra_info):
            announced, there = int(match[1]), int(match[2])
            if announced < _UNKNOWN_BYTES and announced - there > _MISSING_BYTES:
                self.fault = f"is cut off: {there} of the {announced} bytes announced are there"

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        total = 0
        while len(block := self._next(size)):
            total += len(block)
            yield block
        self.compare_length(total)

    def _next(self, size: int) -> np.ndarray:
        try:
            return self._file.read(size, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"damaged or cut off ({_plain(error.error_string)})") from error

    def close(self) -> None:
        self._file.close()


class _AvFile(AudioFile):
    """Audio that FFmpeg decodes; of several audio streams in a file, the first."""

    def __init__(self, source: str | io.BytesIO, suffix: str):
        import av

        raw = "g722" if suffix == ".g722" else None
        options = {"format_whitelist": _CONTAINERS}
        self._container = av.open(source, format=raw, options=options)
        if not self._container.streams.audio:
            self._container.close()
            raise ValueError("it holds no audio")
        context = self._container.streams.audio[0].codec_context
        self.rate, self.channels, self.frames = context.sample_rate, context.channels, None

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        import av

        total = 0
        try:
            for frame in self._container.decode(audio=0):
                total += frame.samples
                if (frame.sample_rate, frame.layout.nb_channels) != (self.rate, self.channels):
                    raise ValueError("its rate or channels change on the way")
                yield from _split(_samples(frame), size)
        except av.error.FFmpegError as error:
            raise ValueError(f"FFmpeg: {error.strerror}") from error
        self.compare_length(total)

    def close(self) -> None:
        self._container.close()


def _split(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _samples(frame) -> np.ndarray:
    """Samples of FFmpeg's frame, (T, C), float32."""
    block = frame.to_ndarray()
    if not frame.format.is_planar:  # (1, T * C) -> (C, T)
        block = block.reshape(-1, frame.layout.nb_channels).T
    kind = block.dtype
    if kind == np.uint8:
        block = block.astype(np.float32) - 128
        return block.T / 128
    scale = 2 ** (8 * kind.itemsize - 1) if kind.kind == "i" else 1
    return block.T.astype(np.float32) / scale


def open_audio(source: str | Path | io.BytesIO) -> AudioFile:
    """Open audio: libsndfile decodes it if it can, otherwise FFmpeg does.

    Args:
        source: A file, or the contents of one.

    Raises:
        OSError: If the file is missing or may not be read.
        ValueError: If neither can decode it, or its header is impossible; the message begins with
            the file's name.
    """
    name = "standard input" if isinstance(source, io.BytesIO) else str(source)
    head, suffix = _head(source), Path(name).suffix.lower()
    if not head:
        raise ValueError(f"{name} is empty")
    for magic, what in _NO_AUDIO.items():
        if head.startswith(magic):
            raise ValueError(f"{name} is not readable audio: it is {what}")
    opened, reason = None, ""
    if suffix not in _BY_FFMPEG:
        opened, reason = _by_libsndfile(source)
    # of MP3, libsndfile reads other samples in blocks than at once
    is_known = opened is not None and 0 < opened.frames < _UNKNOWN_FRAMES
    if not is_known or opened.subtype.startswith("MPEG"):
        decoded, by_ffmpeg = _by_ffmpeg(source, suffix)
        if decoded is None and opened is None:
            raise ValueError(f"{name} is not readable audio: {_plain(reason or by_ffmpeg)}")
        if decoded and opened:
            decoded.frames = opened.frames if is_known else None
            opened.close()
        opened = decoded or opened
        if reason == _MALFORMED:
            opened.fault = "is damaged or cut off: libsndfile finds it malformed"
    try:
        opened.check()
    except ValueError as error:
        opened.close()
        raise ValueError(f"{name} is not readable audio: {error}") from error
    return opened


def _head(source: str | Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return source.getvalue()[:64]
    with open(source, "rb") as file:
        return file.read(64)


def _by_libsndfile(source) -> tuple[_SndFile | None, str]:
    try:
        return _SndFile(_rewound(source)), ""
    except soundfile.LibsndfileError as error:
        return None, error.error_string
    except (ValueError, TypeError, RuntimeError) as error:  # .raw, for example
        return None, str(error)


def _by_ffmpeg(source, suffix: str) -> tuple[_AvFile | None, str]:
    import av

    try:
        return _AvFile(_rewound(source), suffix), ""
    except av.error.FFmpegError as error:
        return None, f"FFmpeg: {error.strerror}"
    except ValueError as error:
        return None, str(error)


def _rewound(source: str | Path | io.BytesIO) -> str | io.BytesIO:
    return io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else os.fspath(source)


def _plain(reason: str) -> str:
    """libsndfile's reason in words that a user understands."""
    known = {
        "Format not recognised.": "neither libsndfile nor FFmpeg knows its format",
        "System error.": "the system failed to read it: check the disk and the permissions",
    }
    return known.get(reason, reason.strip().rstrip("."))
