"""``make bench-peers``: our causal students beside small peers, on one thread, over the same audio.

Every model lives in a process of its own. All are timed in turn, round by round, so that ratios
hold on a machine whose speed drifts; after each round comes one in which every other core is busy.
RNNoise and DeepFilterNet3 come with the weights in their
wheels, in an environment of their own, .venv-peers; they work at 48 kHz, and resampling is not part
of their times. ESPnet's separators and the students have random weights, and no scores, unless
experiments are given.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from espnet2_tfckd.cli import atomic_write, run_command
from espnet2_tfckd.data.datadir import DataDir, read_data_dir
from espnet2_tfckd.models.cost import cpu_name
from espnet2_tfckd.processes import THREAD_VARIABLES, cpu_cores
from espnet2_tfckd.scoring.parallel import System, score_systems
from tests.benchmarks.measuring import ROOT, median_ratio
from tests.benchmarks.peers.cases import Case, Worker, all_cases

DATA_DIR = ROOT / "egs2/mini/enh1/dump/raw/test"
BASELINE = "DeepFilterNet3"
METRICS = ("si_sdr", "pesq_wb")
HEADINGS = (
    "model",
    "run by",
    "trained on",
    "latency ms",
    "frame ms: median, 99 %",
    "beside busy cores",
    "RTF",
    "RTF, spectrum to spectrum",
    f"RTF / {BASELINE}'s",
    "load ms",
    "peak MB (added)",
    "parameters",
    "MMAC/s",
    "SI-SDR",
    "PESQ-WB",
)


class Benchmark:
    """All models, their processes and what is known of them.

    Args:
        cases: The models.
        data: Utterances to enhance; paths must be right from here.
        folder: Where audio, logs and estimates go.
    """

    def __init__(self, cases: list[Case], data: DataDir, folder: Path):
        self.cases, self.data, self.folder = cases, data, folder
        self.rows = {number: new_row(case) for number, case in enumerate(cases)}
        self.workers: dict[int, Worker] = {}
        self.seconds: dict[int, list[float]] = {}
        self.network_seconds: dict[int, list[float | None]] = {}
        self.frame_ms: dict[int, list[float]] = {}
        self.busy_frame_ms: dict[int, list[float]] = {}

    def run(self, seconds: float, rounds: int, jobs: int) -> None:
        """Measure and score everything; what fails is noted in the row of its model."""
        self.folder.mkdir(parents=True, exist_ok=True)
        audio = str(self.folder / "timed.wav")
        duration = write_timed_audio(self.data, seconds, audio)
        try:
            self.each("loading", self.load)
            self.each("warming up", lambda n: self.workers[n].ask("warm_up", audio=audio))
            for number in range(rounds):
                self.each(f"round {number + 1} of {rounds}", lambda n: self.time(n, audio))
                with busy_neighbours():
                    self.each("  beside busy cores", lambda n: self.time_frames(n, audio))
            self.each("counting", lambda n: self.describe(n, duration))
            self.each("enhancing", lambda n: self.enhance(n, audio), self.trained())
        finally:
            for worker in self.workers.values():
                worker.close()
        self.relate()
        self.each("scoring", lambda n: self.score(n, jobs), self.trained())
        copies = [n for n, case in enumerate(self.cases) if case.trained_on and case.scores_of]
        self.each("taking over scores", self.take_scores, copies)

    def trained(self) -> list[int]:
        """Models to be scored."""
        return [n for n, c in enumerate(self.cases) if c.trained_on and not c.scores_of]

    def each(
        self, doing: str, task: Callable[[int], object], numbers: list[int] | None = None
    ) -> None:
        """Do something with each model, or some of them, that has not failed yet."""
        for number in self.rows if numbers is None else numbers:
            if self.rows[number]["error"]:
                continue
            print(f"{doing}: {self.cases[number]}", flush=True)
            try:
                task(number)
            except (RuntimeError, ValueError, OSError) as error:
                self.rows[number]["error"] = f"{doing}: {error}"
                print(f"  failed: {error}", flush=True)

    def load(self, number: int) -> None:
        self.workers[number] = Worker(self.cases[number], self.folder / f"{number}.log")

    def time(self, number: int, audio: str) -> None:
        answer = self.workers[number].ask("time", audio=audio)
        self.seconds.setdefault(number, []).append(answer["seconds"])
        self.network_seconds.setdefault(number, []).append(answer["network_seconds"])
        self.frame_ms.setdefault(number, []).extend(answer["frame_ms"])

    def time_frames(self, number: int, audio: str) -> None:
        answer = self.workers[number].ask("time", audio=audio)
        self.busy_frame_ms.setdefault(number, []).extend(answer["frame_ms"])

    def describe(self, number: int, duration: float) -> None:
        row, worker = self.rows[number], self.workers[number]
        row |= worker.ask("describe")
        row |= worker.ask("costs")
        row["rtf"] = statistics.median(self.seconds[number]) / duration
        if None not in self.network_seconds[number]:
            row["network_rtf"] = statistics.median(self.network_seconds[number]) / duration
        for key, frames in (("frame_ms", self.frame_ms), ("busy_frame_ms", self.busy_frame_ms)):
            if frames[number]:
                median, high = np.percentile(frames[number], (50, 99))
                row[key] = {"median": float(median), "p99": float(high)}

    def estimates(self, number: int) -> Path:
        """Folder of a model's estimates."""
        return self.folder / "estimates" / re.sub(r"\W+", "_", str(self.cases[number])).strip("_")

    def enhance(self, number: int, audio: str) -> None:
        self.rows[number] |= self.workers[number].ask("find_lag", audio=audio)
        folder = self.estimates(number)
        folder.mkdir(parents=True, exist_ok=True)
        mixtures = self.data.mixture
        self.workers[number].ask("enhance_files", mixtures=mixtures, folder=str(folder))
        scp = {utterance: str(folder / f"{utterance}.wav") for utterance in mixtures}
        write_scp(folder / "spk1.scp", scp)

    def score(self, number: int, jobs: int) -> None:
        folder = self.estimates(number)
        system = System(self.cases[number].name, folder / "spk1.scp", folder)
        self.rows[number] |= mean_scores(system, self.data.reference, jobs)

    def take_scores(self, number: int) -> None:
        source = next(n for n, c in enumerate(self.cases) if str(c) == self.cases[number].scores_of)
        if self.rows[source]["error"]:
            raise RuntimeError(f"{self.cases[source]} has no scores")
        self.rows[number] |= {key: self.rows[source][key] for key in METRICS}

    def relate(self) -> None:
        """Set each time beside the baseline's of the same round."""
        baseline = next(n for n, case in enumerate(self.cases) if case.name == BASELINE)
        for number, row in self.rows.items():
            if not (row["error"] or self.rows[baseline]["error"]):
                row["rtf_ratio"] = median_ratio(self.seconds[number], self.seconds[baseline])


@contextmanager
def busy_neighbours() -> Iterator[None]:
    """Keep all cores but one busy with products of matrices, which press on the caches too."""
    work = "import numpy\nx = numpy.random.rand(700, 700)\nwhile True: x @ x"
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    call = [sys.executable, "-c", work]
    neighbours = [subprocess.Popen(call, env=environment) for _ in range(cpu_cores() - 1)]
    try:
        time.sleep(1)  # until they have begun
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def new_row(case: Case) -> dict:
    """Row of a model of which nothing is known yet."""
    unknown = (
        "rtf",
        "network_rtf",
        "rtf_ratio",
        "latency_ms",
        "frame_ms",
        "busy_frame_ms",
        "load_ms",
    )
    unknown += ("peak_mb", "added_mb", "num_params")
    unknown += ("macs_per_second", "sample_rate", "streams", "delay_ms", "lag_ms", *METRICS)
    row = {"model": case.name, "runs_as": case.runs_as, "trained_on": case.trained_on}
    return {**row, **dict.fromkeys(unknown), "error": None}


def mean_scores(system: System, references: dict[str, str], jobs: int) -> dict[str, float]:
    """Means of SI-SDR in dB and wideband PESQ over utterances."""
    records = score_systems([system], references, ["SI_SDR", "PESQ"], jobs)[system.name]
    scores = {key: [record["scores"][key] for record in records] for key in METRICS}
    return {
        key: statistics.fmean(value for value in values if value is not None)
        for key, values in scores.items()
    }


def write_scp(path: Path, entries: dict[str, str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{key} {entry}\n" for key, entry in entries.items()))


def read_data(data_dir: Path, most: int | None) -> DataDir:
    """Read a data directory; its relative paths may start at any folder above it.

    Raises:
        FileNotFoundError: It is not there, or no folder is the right one to start at.
        ValueError: It breaks the contract of data directories.
    """
    data = read_data_dir(data_dir)
    data = data.subset(list(data.mixture)[:most])
    first = next(iter(data.mixture.values()))
    starts = [folder for folder in data_dir.resolve().parents if (folder / first).is_file()]
    if not starts:
        raise FileNotFoundError(f"{first} of {data_dir}/wav.scp is not there")
    for table in (data.mixture, data.reference):
        table.update({key: str(starts[0] / entry) for key, entry in table.items()})
    return data


def write_timed_audio(data: DataDir, seconds: float, path: str) -> float:
    """Write the first mixtures, one after the other; return the duration in seconds."""
    parts, rate, have = [], 0, 0
    for entry in data.mixture.values():
        signal, rate = soundfile.read(entry, dtype="float32")
        parts.append(signal)
        have += len(signal)
        if have >= seconds * rate:
            break
    signal = np.concatenate(parts)[: int(seconds * rate)]
    soundfile.write(path, signal, rate, "FLOAT")
    return len(signal) / rate


def table(rows: list[dict], noisy: dict[str, float]) -> str:
    """The results in Markdown, for README.md in this folder."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "| --- " * len(HEADINGS) + "|"]
    empty = [""] * (len(HEADINGS) - 3)
    scores = [f"{noisy['si_sdr']:.2f}", f"{noisy['pesq_wb']:.2f}"]
    lines.append("| " + " | ".join(["noisy", *empty, *scores]) + " |")
    for row in rows:
        if row["error"]:
            cells = [row["model"], f"failed ({row['error']})", *[""] * (len(HEADINGS) - 2)]
        else:
            cells = _cells(row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(row: dict) -> list[str]:
    ratio = row["rtf_ratio"]
    alone, beside = (
        f"{frame['median']:.2f}, {frame['p99']:.2f}" if frame else ""
        for frame in (row["frame_ms"], row["busy_frame_ms"])
    )
    scores = ["untrained"] * 2
    if row["trained_on"]:
        scores = [f"{row[key]:.2f}" for key in METRICS]
    return [
        row["model"],
        f"{row['runs_as']}, {row['sample_rate'] / 1000:g} kHz",
        row["trained_on"] or "nothing",
        f"{row['latency_ms']:.3g}",
        alone,
        beside,
        f"{row['rtf']:.3f}",
        f"{row['network_rtf']:.3f}" if row["network_rtf"] else "",
        f"{ratio:.2f}" if ratio else "",
        f"{row['load_ms']:.0f}",
        f"{row['peak_mb']} ({row['added_mb']})",
        f"{row['num_params'] / 1e6:.2f} M",
        f"{row['macs_per_second'] / 1e6:.0f}",
        *scores,
    ]


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.causal_peers", description=__doc__
    )
    parser.add_argument("--data_dir", type=Path, default=DATA_DIR, help="test set to score on")
    parser.add_argument(
        "--student_exp", nargs="*", default=[], help="experiments of trained causal students"
    )
    parser.add_argument(
        "--espnet_exp", nargs="*", default=[], help="experiments of trained DCCRN, SkiM or BSRNN"
    )
    parser.add_argument("--max_utterances", type=int, help="score on the first ones only")
    parser.add_argument("--seconds", type=float, default=4, help="of audio that is timed")
    parser.add_argument("--rounds", type=int, default=5, help="how often each model is timed")
    parser.add_argument("--nj", type=int, default=cpu_cores(), help="for scoring")
    parser.add_argument("--folder", type=Path, default=Path("bench_peers"), help="for audio, logs")
    parser.add_argument("--output", type=Path, default=Path("bench_peers.json"), help="results")
    return parser


def main() -> None:
    """Run the benchmark from the command line."""
    args = get_parser().parse_args()
    folder = args.folder.resolve()
    data = read_data(args.data_dir, args.max_utterances)
    benchmark = Benchmark(all_cases(args.student_exp, args.espnet_exp, folder), data, folder)
    benchmark.run(args.seconds, args.rounds, args.nj)
    write_scp(folder / "noisy" / "wav.scp", data.mixture)
    system = System("noisy", folder / "noisy" / "wav.scp", folder / "noisy")
    noisy = mean_scores(system, data.reference, args.nj)
    rows = list(benchmark.rows.values())
    results = {"processor": cpu_name(), "num_utterances": len(data), "noisy": noisy, "models": rows}
    with atomic_write(args.output) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{table(rows, noisy)}\n\nfigures are in {args.output}")
    if failed := [row["model"] for row in rows if row["error"]]:
        raise RuntimeError(f"{len(failed)} of {len(rows)} models failed: {', '.join(failed)}")


if __name__ == "__main__":
    run_command(main)
