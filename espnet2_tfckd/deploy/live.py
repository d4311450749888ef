"""Enhancing while audio is being recorded: from a pipe to a pipe, or from the microphone."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO

import numpy as np

from espnet2_tfckd.data.decoding import AudioFile
from espnet2_tfckd.deploy.enhancer import Enhancer
from espnet2_tfckd.deploy.files import selected
from espnet2_tfckd.deploy.streaming import resampled

_UNKNOWN_SIZE = 0xFFFFFFFF  # of a wav file whose end is not known yet
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # formats; the last one says its format further on


class WavStream(AudioFile):
    """Wav of 16, 24 or 32 bits that is still being recorded; it need not be seekable.

    Args:
        source: The stream.
        size: Samples of a block, which is there as soon as its last sample is.

    Raises:
        ValueError: If it is something else.
    """

    def __init__(self, source: BinaryIO, size: int):
        try:
            form, self.channels, self.rate, bits, self._left = _read_header(source)
        except (struct.error, ValueError) as error:
            raise ValueError(
                f"standard input is not wav ({error or 'it ends early'}): frame by frame, nothing "
                "else can be read before its end. Convert it on the way, for example with "
                "ffmpeg -i ... -f wav -"
            ) from error
        if (form, bits) not in ((_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32)):
            raise ValueError(
                f"standard input has samples of {bits} bits in the format {form}: record 16, 24 or "
                "32 bits without compression"
            )
        self._source, self._is_float = source, form == _FLOAT
        self.frames, self._size, self._bytes = None, size, bits // 8
        self.check()

    def blocks(self, size: int = 0) -> Iterator[np.ndarray]:
        width = self._bytes * self.channels
        while data := self._source.read(min((size or self._size) * width, self._left)):
            self._left -= len(data)
            whole = data[: len(data) - len(data) % width]  # it may be cut off
            if self._is_float:
                samples = np.frombuffer(whole, "<f4")
            else:
                parts = np.frombuffer(whole, np.uint8).reshape(-1, self._bytes)
                parts = np.pad(parts, ((0, 0), (4 - self._bytes, 0))).view("<i4")
                samples = (parts / 2**31).astype(np.float32)
            yield samples.reshape(-1, self.channels)

    def close(self) -> None:
        """Leaves the stream to who opened it."""


def _read_header(source: BinaryIO) -> tuple[int, int, int, int, int]:
    """Format, channels, rate in Hz, bits of a sample, and bytes of all samples, of a wav stream.

    Not by the module wave, which reads the headers of 24 bits from Python 3.12 on only.
    """
    riff, _, kind = struct.unpack("<4sI4s", source.read(12))
    if (riff, kind) != (b"RIFF", b"WAVE"):
        raise ValueError("it does not begin as wav does")
    form = None
    while True:
        name, size = struct.unpack("<4sI", source.read(8))
        if name == b"data":
            break
        chunk = source.read(size + size % 2)
        if name == b"fmt ":
            form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
            if form == _EXTENSIBLE:
                (form,) = struct.unpack_from("<H", chunk, 24)
    if form is None:
        raise ValueError("its header states no format")
    return form, channels, rate, bits, size or _UNKNOWN_SIZE


def enhance_pipe(enhancer: Enhancer, source: BinaryIO, target: BinaryIO, channel: int = 0) -> int:
    """Enhance a stream of audio; the estimate leaves as soon as it is known.

    Args:
        enhancer: A causal model.
        source: Wav, see :class:`WavStream`.
        target: Gets 16-bit wav at the model's rate, whose header states no length.
        channel: Which channel a model for one microphone takes of several.

    Returns:
        Samples that were clipped.

    Raises:
        ValueError: If the source is not wav, or does not suit the model.
    """
    with WavStream(source, enhancer.hop_length) as audio:
        blocks = selected(audio, enhancer, channel)
        blocks = resampled(blocks, audio.rate, enhancer.sample_rate, enhancer.microphones)
        target.write(_header(enhancer.sample_rate))
        clipped = 0
        for block in enhancer.enhance(blocks):
            clipped += int((np.abs(block) > 1).sum())
            scaled = np.clip(np.rint(block * 32768), -32768, 32767)
            target.write(scaled.astype("<i2").tobytes())
            target.flush()
    return clipped


def _header(rate: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", _UNKNOWN_SIZE, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16),
        *(b"data", _UNKNOWN_SIZE),
    )


def enhance_microphone(
    enhancer: Enhancer,
    input_device: int | str | None = None,
    output_device: int | str | None = None,
) -> int:
    """Enhance the microphone until the user interrupts it.

    Args:
        enhancer: A causal model.
        input_device: Number of a sound device, or a part of its name; the system's default if None.
        output_device: The same for where the estimate is played.

    Returns:
        How often a block came too late.

    Raises:
        RuntimeError: If sound devices cannot be used; the message says what to do.
    """
    sounddevice = require_sounddevice()
    late = 0

    def recorded(stream) -> Iterator[np.ndarray]:
        nonlocal late
        while True:
            block, overflowed = stream.read(enhancer.hop_length)
            late += overflowed
            yield block

    try:
        with (
            sounddevice.Stream(
                samplerate=enhancer.sample_rate,
                blocksize=enhancer.hop_length,
                device=(input_device, output_device),
                channels=(enhancer.microphones, 1),
                dtype="float32",
                latency="low",
            ) as stream,
            closing(enhancer.enhance(recorded(stream))) as estimates,
        ):
            for estimate in estimates:
                late += stream.write(np.ascontiguousarray(estimate[:, None], np.float32))
    except KeyboardInterrupt:
        return late
    except (sounddevice.PortAudioError, ValueError) as error:
        raise RuntimeError(
            f"the sound devices cannot be used: {error}. List them with --list_devices, and name "
            "others"
        ) from error
    return late


def require_sounddevice():
    """The library of sound devices.

    Raises:
        RuntimeError: If it is not installed.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: without PortAudio
        raise RuntimeError(
            f"sound devices need sounddevice and PortAudio ({error}): pip install sounddevice, and "
            "on Debian and Ubuntu apt install libportaudio2"
        ) from error
    return sounddevice
