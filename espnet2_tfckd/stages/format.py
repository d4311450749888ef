"""Stage 3: bring a data directory's audio to one rate and one format, and check all of it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet2_tfckd.cli import at_least_one, atomic_write, hertz, run_command
from espnet2_tfckd.data.audio import FINE_SUBTYPES, refuse_unwritable, write_audio
from espnet2_tfckd.data.datadir import (
    DataDir,
    raise_problems,
    read_data_dir,
    source_files,
    write_data_dir,
)
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.data.paths import refuse_overlap
from espnet2_tfckd.data.shards import headroom_gain, process_in_shards, read_pair

AUDIO_FORMATS = ("wav", "flac", "wav.ark", "flac.ark")
PLAIN_SUBTYPES = ("PCM_U8", "PCM_S8", "PCM_16", *FINE_SUBTYPES)
RESAMPLING = "HQ"  # soxr's 20-bit quality: its error is below the 16 bits of the files
Pair = tuple[np.ndarray | None, np.ndarray]  # mixture (None where it is the reference), reference


def format_data_dir(
    in_dir: str | Path,
    out_dir: str | Path,
    fs: int = 16000,
    audio_format: str = "wav",
    nj: int = 1,
    ref_channel: int = 0,
    repeat_until: float = 0.0,
    mono: bool = False,
) -> None:
    """Write a data directory whose audio has rate ``fs`` and format ``audio_format``.

    Mixtures keep all their channels; a reference with several is reduced to ``ref_channel``. Audio
    that needs no change stays where it is. ESPnet reads the result as type ``sound``, or
    ``kaldi_ark`` for the ark formats.

    Args:
        in_dir: Data directory to read.
        out_dir: Data directory to write; converted audio goes to its sub-folder ``audio``.
        fs: Sampling rate in Hz; other rates are resampled by soxr at quality ``RESAMPLING``.
        audio_format: ``wav``, ``flac``, ``wav.ark`` or ``flac.ark``, 16 bit.
        nj: Number of threads.
        ref_channel: Channel of a multi-channel reference, from 0.
        repeat_until: Utterances shorter than this, in seconds, are repeated until they last as
            long: for training sets, since ESPnet drops what is not longer than a chunk.
        mono: Reduce mixtures to ``ref_channel`` as well.

    Raises:
        FileNotFoundError: If ``in_dir`` is not a data directory, or audio is missing.
        ValueError: If utterances cannot be used: unreadable, empty, silent or not finite audio,
            pairs that differ in length or rate, mixtures that differ in channels. All are listed.
            Or audio of ``in_dir`` lies where this writes.
        RuntimeError: If another process is working on ``out_dir``.
    """
    if audio_format not in AUDIO_FORMATS:
        raise ValueError(f"audio_format must be one of {', '.join(AUDIO_FORMATS)}: {audio_format}")
    source, out_dir = read_data_dir(in_dir), Path(out_dir)
    folder, shortest = out_dir / "audio", round(repeat_until * fs)
    refuse_overlap([folder], source_files(source))

    def work(number: int, utterances: Sequence[str], problems: list[str]) -> dict[str, dict]:
        pairs, results = {}, {}
        for utterance in utterances:
            try:
                mixture, reference, rate = read_pair(source, utterance)
                is_mono = reference.shape[1] == 1 and not (mono and mixture.shape[1] > 1)
                reference = _one_channel(reference, ref_channel)
                mixture = _one_channel(mixture, ref_channel) if mono else mixture
            except (ValueError, OSError) as error:
                problems.append(f"{utterance}: {error}")
                continue
            result = {"channels": mixture.shape[1], "rate": rate, "gain": 1.0}
            if rate != fs:
                mixture, reference = (
                    soxr.resample(s, rate, fs, RESAMPLING) for s in (mixture, reference)
                )
            entries = [source.mixture[utterance], source.reference[utterance]]
            if not len(mixture):
                problems.append(f"{utterance}: lasts less than a sample at {fs} Hz")
                continue
            result["repeated"] = len(mixture) < shortest
            if result["repeated"]:
                mixture, reference = (_repeat(s, shortest) for s in (mixture, reference))
            is_kept = rate == fs and is_mono and not result["repeated"]
            length = len(mixture)
            if is_kept and all(_is_right(entry, audio_format, length) for entry in entries):
                result["entries"] = entries
            else:
                result["gain"] = headroom_gain(mixture, reference)
                is_twice = entries[0] == entries[1] and mixture.shape == reference.shape
                first = None if is_twice else mixture * result["gain"]
                pairs[utterance] = (first, reference * result["gain"])
            results[utterance] = result
        write = _write_arks if audio_format.endswith(".ark") else _write_files
        for utterance, entries in write(pairs, folder, number, fs, audio_format).items():
            results[utterance]["entries"] = entries
        return results

    options = {"fs": fs, "audio_format": audio_format, "ref_channel": ref_channel}
    options |= {"resampling": RESAMPLING, "repeat_until": repeat_until}
    options |= {"mono": True} if mono else {}
    with only_one(out_dir):
        results = process_in_shards(source, work, folder, options, nj, f"formatting {in_dir}")
        _refuse_mixed_channels(in_dir, results)
        _report(results, fs)
        entries = {utterance: result["entries"] for utterance, result in results.items()}
        mixture, reference = ({u: pair[side] for u, pair in entries.items()} for side in (0, 1))
        formatted = DataDir(mixture, reference, source.speaker, source.text, source.metadata)
        write_data_dir(out_dir, formatted)


def _one_channel(reference: np.ndarray, channel: int) -> np.ndarray:
    """(T, M) -> (T, 1)."""
    if reference.shape[1] == 1:
        return reference
    if not 0 <= channel < reference.shape[1]:
        raise ValueError(
            f"the reference has {reference.shape[1]} channels, ref_channel {channel} does not exist"
        )
    return reference[:, channel : channel + 1]


def _repeat(signal: np.ndarray, length: int) -> np.ndarray:
    """(T, M) -> (length, M)."""
    return np.tile(signal, (-(-length // len(signal)), 1))[:length]


def _is_right(entry: str, audio_format: str, length: int) -> bool:
    """Whether an entry is a plain file that ESPnet reads unchanged, judged by contents, not name.

    It has the format that is asked for (WAVEX counts as wav). Its samples are not compressed in a
    way that prevents seeking, and its header states the length that was read.
    """
    if not Path(entry).is_file():
        return False
    try:
        info = soundfile.info(entry)
    except soundfile.LibsndfileError:  # FFmpeg has decoded it
        return False
    is_plain = info.subtype in PLAIN_SUBTYPES and info.frames == length
    return is_plain and info.format.lower().startswith(audio_format)


def _write_files(
    pairs: dict[str, Pair], folder: Path, _number: int, fs: int, audio_format: str
) -> dict[str, list[str]]:
    entries = {}
    for utterance, pair in pairs.items():
        paths = [folder / k / f"{utterance}.{audio_format}" for k in ("mixture", "reference")]
        for path, signal in zip(paths, pair, strict=True):
            if signal is not None:
                write_audio(path, signal, fs)
        entries[utterance] = [
            str(path) for path in (paths if pair[0] is not None else paths[1:] * 2)
        ]
    return entries


def _write_arks(
    pairs: dict[str, Pair], folder: Path, number: int, fs: int, audio_format: str
) -> dict[str, list[str]]:
    import kaldiio

    entries: dict[str, list[str]] = {utterance: [] for utterance in pairs}
    settings = {"format": audio_format.removesuffix(".ark"), "subtype": "PCM_16"}
    for side, kind in enumerate(("mixture", "reference")):
        path = folder / f"{kind}.{number}.ark"
        with atomic_write(path) as temporary, open(temporary, "wb") as ark:
            for utterance, pair in pairs.items():
                if pair[side] is None:
                    continue
                offset = ark.tell() + len(f"{utterance} ".encode())
                refuse_unwritable(pair[side], f"{path}, {utterance}")
                audio = {utterance: (fs, pair[side])}
                kaldiio.save_ark(ark, audio, write_function="soundfile", write_kwargs=settings)
                entries[utterance].append(f"{path}:{offset}")
    return {utterance: (2 * places)[:2] for utterance, places in entries.items()}


def _refuse_mixed_channels(in_dir: str | Path, results: dict[str, dict]) -> None:
    counts = Counter(result["channels"] for result in results.values())
    usual = counts.most_common(1)[0][0]
    raise_problems(
        str(in_dir),
        [
            f"{utterance}: the mixture has {result['channels']} channels, most have {usual}"
            for utterance, result in results.items()
            if result["channels"] != usual
        ],
    )


def _report(results: dict[str, dict], fs: int) -> None:
    rates = Counter(result["rate"] for result in results.values() if result["rate"] != fs)
    for rate, count in sorted(rates.items()):
        print(f"resampled {count} of {len(results)} utterances from {rate} to {fs} Hz")
    repeated = sum(result["repeated"] for result in results.values())
    if repeated:
        print(f"repeated {repeated} of {len(results)} utterances, which were too short")
    reduced = sum(result["gain"] < 1 for result in results.values())
    if reduced:
        print(f"turned {reduced} of {len(results)} utterances down to prevent clipping")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`format_data_dir`."""
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("in_dir", help="data directory to read")
    parser.add_argument("out_dir", help="data directory to write")
    parser.add_argument("--fs", type=hertz, required=True, help="sampling rate, e.g. 16k")
    parser.add_argument("--audio_format", choices=AUDIO_FORMATS)
    parser.add_argument("--ref_channel", type=int, help="of references with several")
    parser.add_argument("--repeat_until", type=float, help="repeat shorter utterances (seconds)")
    parser.add_argument("--mono", action="store_true", help="reduce mixtures to one channel too")
    parser.add_argument("--nj", type=at_least_one, help="number of threads")
    options = parser.parse_args(arguments)
    format_data_dir(**vars(options))
    print(f"formatted data directory: {options.out_dir}")


if __name__ == "__main__":
    run_command(main)
