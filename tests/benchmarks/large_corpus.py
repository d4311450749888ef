"""What the data stages cost at hundreds of hours, on lists that repeat real recordings.

A few recordings are linked (not copied) under as many names as the hours need, in the shape of the
DNS Challenge; the recipe's stages then run on them. Reading is faster than from a real corpus'
disk, since the recordings stay in memory: add the time that your disk takes to deliver them.

    python -m tests.benchmarks.large_corpus --speech_dir DIR --noise_dir DIR --hours 500
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from espnet2_tfckd.cli import run_command
from espnet2_tfckd.data.audio import audio_files, read_audio

READERS = 2000
RATE = 16000
SECONDS = 31.0  # of a recording of read_speech


def make_tree(root: Path, speech_dir: Path, noise_dir: Path, hours: float) -> None:
    """Links below ``<root>/datasets`` to recordings made of others."""
    kept, datasets = root / "kept", root / "datasets"
    shutil.rmtree(datasets, ignore_errors=True)
    for folder in (kept, datasets / "clean" / "read_speech", datasets / "noise"):
        folder.mkdir(parents=True, exist_ok=True)
    signals = (read_audio(path)[0][:, 0] for path in itertools.cycle(audio_files(speech_dir)))
    recordings = []
    for number in range(40):
        parts = []
        while sum(map(len, parts)) < SECONDS * RATE:
            parts.append(next(signals))
        recordings.append(kept / f"{number}.wav")
        soundfile.write(recordings[-1], np.concatenate(parts)[: round(SECONDS * RATE)], RATE)
    count = round(hours * 3600 / SECONDS)
    for number in range(count):
        name = f"book_{number:05d}_chp_0001_reader_{number % READERS:05d}_0.wav"
        os.link(recordings[number % len(recordings)], datasets / "clean" / "read_speech" / name)
    for number, path in enumerate(audio_files(noise_dir)):
        shutil.copy(path, datasets / "noise" / f"{number}{path.suffix}")


def measured(name: str, *arguments: str) -> None:
    """Run a module and print a row with its wall and CPU time and its memory."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", *arguments], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime"))
    print(f"| {name} | {wall:.0f} | {cpu:.0f} | {after.ru_maxrss / 1024:.0f} |", flush=True)


def iterator_rate(root: Path, updates: int) -> None:
    """Batches of 8 chunks of 2.5 s that ESPnet's iterator mixes in a second of CPU time."""
    logging.disable(logging.WARNING)
    from espnet2.train.distributed_utils import DistributedOption

    from espnet2_tfckd.training.task import EnhancementTask

    train, shapes = root / "dump" / "train", root / "stats" / "train"
    options = ["--output_dir", str(root / "none"), "--iterator_type", "chunk", "--num_workers", "0"]
    options += ["--chunk_length", "40000", "--chunk_shift_ratio", "1.0", "--batch_size", "8"]
    options += ["--preprocessor", "enh", "--noise_scp", str(train / "noise.scp")]
    options += ["--noise_db_range=-5_20", "--sample_rate", str(RATE)]
    for scp, name in (("wav.scp", "speech_mix"), ("spk1.scp", "speech_ref1")):
        for split in ("train", "valid"):
            data = f"{root / 'dump' / split / scp},{name},sound"
            options += [f"--{split}_data_path_and_name_and_type", data]
        options += ["--train_shape_file", str(shapes / f"{name}_shape")]
    args = EnhancementTask.get_parser().parse_args(options)
    began = time.process_time()
    factory = EnhancementTask.build_iter_factory(args, DistributedOption(), "train")
    built, began = time.process_time() - began, time.process_time()
    for _ in itertools.islice(factory.build_iter(1), updates):
        pass
    rate = updates / (time.process_time() - began)
    print(f"\niterator: built in {built:.1f} s; {rate:.1f} batches of 8 x 2.5 s a CPU second")


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech_dir", type=Path, required=True, help="recordings of speech")
    parser.add_argument("--noise_dir", type=Path, required=True, help="recordings of noise")
    parser.add_argument("--hours", type=float, default=500)
    parser.add_argument("--folder", type=Path, default=Path("build/large_corpus"))
    parser.add_argument("--nj", default="2")
    parser.add_argument("--updates", type=int, default=500, help="batches of the iterator")
    args = parser.parse_args()
    root = args.folder.resolve()
    make_tree(root, args.speech_dir, args.noise_dir, args.hours)
    for name in ("data", "dump", "stats"):
        shutil.rmtree(root / name, ignore_errors=True)
    stages = "espnet2_tfckd.stages"
    data, dump = root / "data", root / "dump"
    jobs = ("--nj", args.nj)
    print("| stage | seconds | CPU seconds | most memory so far (MiB) |\n| --- | --- | --- | --- |")
    listing = ("espnet2_tfckd.corpora.dns", "--dns_dir", str(root), "--data_dir", str(data), *jobs)
    measured("1, list, check and divide", *listing)
    measured("1, again", *listing)
    durations = ("--min_wav_duration", "0.1", "--max_wav_duration", "120")
    for name in ("train_noise", "train", "valid"):
        formatting = (f"{stages}.format", str(data / name), str(dump / "org" / name), "--fs", "16k")
        measured(f"3, format, {name}", *formatting, "--mono", *jobs)
    measured("3, train, again", *formatting[:1], str(data / "train"), str(dump / "org" / "train"),
             "--fs", "16k", "--mono", *jobs)  # fmt: skip
    for name in ("train", "valid"):
        source, target = str(dump / "org" / name), str(dump / name)
        measured(f"4, filter, {name}", f"{stages}.filter", source, target, *durations)
    shutil.copy(dump / "org" / "train_noise" / "spk1.scp", dump / "train" / "noise.scp")
    sets = ("--train_dir", str(dump / "train"), "--valid_dir", str(dump / "valid"))
    statistics = (f"{stages}.collect_stats", *sets, "--stats_dir", str(root / "stats"), *jobs)
    measured("5, lengths", *statistics)
    measured("5, again", *statistics)
    files = sum(1 for folder in (data, dump) for path in folder.rglob("*") if path.is_file())
    print(f"\n{files} files were written, {len(list((dump / 'org' / 'train').rglob('*')))} of them "
          "by the stage of the training set")  # fmt: skip
    iterator_rate(root, args.updates)


if __name__ == "__main__":
    run_command(main)
