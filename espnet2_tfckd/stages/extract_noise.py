"""Stage 4 with --remix_snr: write the noise of every training mixture, to be mixed anew."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet2_tfckd.cli import at_least_one, atomic_write, run_command
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import read_data_dir, source_files
from espnet2_tfckd.data.entries import signal_fault
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.data.paths import refuse_overlap
from espnet2_tfckd.data.shards import process_in_shards, read_pair


def extract_noise(data_dir: str | Path, nj: int = 1) -> tuple[int, int]:
    """Write ``<data_dir>/noise.scp``: mixture minus reference, by utterance.

    ESPnet's preprocessor ``enh`` takes it as ``noise_scp``. Each time it visits a reference, it
    adds the noise of any utterance at a random SNR. That is right if mixtures are sums of reference
    and noise. After reverberation, the difference is not noise alone.

    Args:
        data_dir: Data directory of single-channel mixtures; audio goes to its sub-folder ``noise``.
        nj: Number of threads.

    Returns:
        Number of noises, and of utterances without noise, whose mixture equals the reference.

    Raises:
        FileNotFoundError: If ``data_dir`` is not a data directory, or audio is missing.
        ValueError: If utterances cannot be used (the message lists all): bad audio, pairs that
            differ in length or rate, several channels. Or no mixture has noise.
        RuntimeError: If another process is working on ``data_dir``.
    """
    data, folder = read_data_dir(data_dir), Path(data_dir) / "noise"
    refuse_overlap([folder], source_files(data))

    def work(_number: int, utterances: Sequence[str], problems: list[str]) -> dict[str, str]:
        entries = {}
        for utterance in utterances:
            try:
                mixture, reference, rate = read_pair(data, utterance)
                if mixture.shape[1] > 1:
                    raise ValueError(
                        f"the mixture has {mixture.shape[1]} channels, mixing anew takes one: "
                        "leave --remix_snr out"
                    )
            except (ValueError, OSError) as error:
                problems.append(f"{utterance}: {error}")
                continue
            noise = mixture - reference
            entries[utterance] = ""
            if signal_fault(noise) is None:
                path = folder / f"{utterance}.wav"
                # ESPnet chooses its level, so let it use all of the 16 bits.
                write_audio(path, 0.999 / np.abs(noise).max() * noise, rate)
                entries[utterance] = str(path)
        return entries

    with only_one(data_dir):
        entries = process_in_shards(data, work, folder, {}, nj, f"noise of {data_dir}")
        noises = {utterance: path for utterance, path in entries.items() if path}
        if not noises:
            raise ValueError(
                f"{data_dir}: every mixture equals its reference, there is no noise to mix anew: "
                "leave --remix_snr out, or give noisy mixtures"
            )
        with atomic_write(Path(data_dir) / "noise.scp") as temporary:
            lines = [f"{utterance} {path}\n" for utterance, path in noises.items()]
            temporary.write_text("".join(lines), encoding="utf-8", newline="")
    return len(noises), len(entries) - len(noises)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`extract_noise`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", help="data directory of the training set")
    parser.add_argument("--nj", type=at_least_one, default=1, help="number of threads")
    options = parser.parse_args(arguments)
    written, without = extract_noise(options.data_dir, options.nj)
    print(f"{written} noises, {without} mixtures without any: {options.data_dir}/noise.scp")


if __name__ == "__main__":
    run_command(main)
