"""Audio files as people have them: encoded by libsndfile and FFmpeg, or spoilt."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 16000
SAMPLES = 16000


def tone(samples: int = SAMPLES) -> np.ndarray:
    """A tone that all codecs keep, (samples,), float32."""
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / RATE)).astype(np.float32)


def by_ffmpeg(path: Path, codec: str, container: str | None = None, rate: int = RATE) -> Path:
    """Encode a second of the tone."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(tone()[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        kind = stream.codec_context.codec.audio_formats[0].name
        resampler = av.AudioResampler(format=kind, layout="mono", rate=rate)
        fifo = av.AudioFifo()
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            part.pts = None
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while (part := fifo.read(size, partial=True)) is not None:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path


def by_libsndfile(path: Path, subtype: str | None = None, container: str | None = None) -> Path:
    """The same."""
    soundfile.write(path, tone(), RATE, subtype, format=container)
    return path


def _patched(path: Path, at: int, fmt: str, value: int) -> Path:
    contents = bytearray(path.read_bytes())
    struct.pack_into(fmt, contents, at, value)
    path.write_bytes(contents)
    return path


def piped(path: Path, size: int) -> Path:
    """A wav file as written to a pipe, which cannot announce its length."""
    by_libsndfile(path)
    _patched(path, 4, "<I", size)
    return _patched(path, path.read_bytes().index(b"data") + 4, "<I", size)


def of_rate(path: Path, rate: int) -> Path:
    """A wav file whose header states a rate."""
    return _patched(by_libsndfile(path), 24, "<I", rate)


def endless_flac(path: Path) -> Path:
    """A FLAC file written to a pipe: STREAMINFO states 0 samples."""
    contents = bytearray(by_libsndfile(path).read_bytes())
    contents[21] &= 0xF0
    contents[22:26] = bytes(4)
    path.write_bytes(contents)
    return path


def halved(path: Path) -> Path:
    """The first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def filled(path: Path, contents: bytes) -> Path:
    """A file of any bytes."""
    path.write_bytes(contents)
    return path


#: How to make a file, by its name; all hold the tone.
READABLE = {
    "plain.wav": by_libsndfile,
    "LOUD.WAV": by_libsndfile,
    "eight.wav": lambda p: by_libsndfile(p, "PCM_U8"),
    "mulaw.wav": lambda p: by_libsndfile(p, "ULAW"),
    "adpcm.wav": lambda p: by_libsndfile(p, "IMA_ADPCM"),
    "gsm.wav": lambda p: by_libsndfile(p, "GSM610"),
    "g721.wav": lambda p: by_libsndfile(p, "G721_32"),
    "nms.wav": lambda p: by_libsndfile(p, "NMS_ADPCM_32"),
    "float.wav": lambda p: by_libsndfile(p, "FLOAT"),
    "mp3.mp3": by_libsndfile,
    "mp3_named.wav": lambda p: by_libsndfile(p, "MPEG_LAYER_III", "MP3"),
    "mp3_inside.wav": lambda p: by_ffmpeg(p, "libmp3lame", "wav"),
    "vorbis.ogg": by_libsndfile,
    "vorbis.oga": lambda p: by_libsndfile(p, "VORBIS", "OGG"),
    "flac.oga": lambda p: by_ffmpeg(p, "flac", "ogg"),
    "opus.opus": lambda p: by_libsndfile(p, "OPUS", "OGG"),
    "opus.webm": lambda p: by_ffmpeg(p, "libopus", rate=48000),
    "aac.m4a": lambda p: by_ffmpeg(p, "aac"),
    "aac.aac": lambda p: by_ffmpeg(p, "aac"),
    "alac.m4a": lambda p: by_ffmpeg(p, "alac"),
    "g722.g722": lambda p: by_ffmpeg(p, "g722"),
    "flac.flac": by_libsndfile,
    "endless.flac": endless_flac,
    "flac.mka": lambda p: by_ffmpeg(p, "flac"),
    "piped_ffmpeg.wav": lambda p: piped(p, 0xFFFFFFFF),
    "piped_sox.wav": lambda p: piped(p, 0x7FFFF000),
    "piped_zero.wav": lambda p: piped(p, 0),
    "aiff.aif": lambda p: by_libsndfile(p, None, "AIFF"),
    "sun.au": by_libsndfile,
    "wave64.w64": by_libsndfile,
    "apple.caf": by_libsndfile,
}

#: How to make what must be refused, and what must be said of it.
REFUSED = {
    "half.wav": (lambda p: halved(by_libsndfile(p)), "is cut off"),
    "half_adpcm.wav": (lambda p: halved(by_libsndfile(p, "IMA_ADPCM")), "is cut off"),
    "half.aiff": (lambda p: halved(by_libsndfile(p)), "is cut off"),
    "half.au": (lambda p: halved(by_libsndfile(p)), "is cut off"),
    "half.w64": (lambda p: halved(by_libsndfile(p)), "is cut off"),
    "half.caf": (lambda p: halved(by_libsndfile(p)), "cut off"),
    "half.mp3": (lambda p: halved(by_libsndfile(p)), "is cut off"),
    "half.flac": (lambda p: halved(by_libsndfile(p)), "cut off"),
    "half.ogg": (lambda p: halved(by_libsndfile(p)), "not readable audio"),
    "half.m4a": (lambda p: halved(by_ffmpeg(p, "aac")), "not readable audio"),
    "slow.wav": (lambda p: of_rate(p, 1), "header states 1 Hz"),
    "fast.wav": (lambda p: of_rate(p, 10_000_000), "header states 10000000 Hz"),
    "text.wav": (lambda p: filled(p, b"once upon a time\n" * 50), "knows its format"),
    "page.wav": (lambda p: filled(p, b"<!DOCTYPE html><html>not found</html>"), "a web page"),
    "pointer.wav": (
        lambda p: filled(p, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "git lfs pull",
    ),
    "apple.wav": (lambda p: filled(p, b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(99)), "macOS metadata"),
    "playlist.wav": (
        lambda p: filled(p, b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nplain.wav\n"),
        "not readable audio",
    ),
    "nothing.wav": (lambda p: filled(p, b""), "is empty"),
    "zeros.wav": (lambda p: filled(p, bytes(5000)), "not readable audio"),
    "noise.mp3": (
        lambda p: filled(p, np.random.default_rng(0).bytes(5000)),
        "not readable audio",
    ),
}
