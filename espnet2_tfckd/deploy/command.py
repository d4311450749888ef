"""The command espnet2-tfckd: enhance audio with a trained model, or tell what a model is."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from espnet2_tfckd.cli import run_command

_worker = None  # the enhancer of a worker process


def enhance(args: argparse.Namespace) -> None:
    """Enhance files; those that fail are named at the end.

    Raises:
        ValueError: Some files failed.
    """
    from tqdm import tqdm

    from espnet2_tfckd.deploy.files import STANDARD_STREAM, plan

    pairs = plan(args.inputs, args.output)
    if args.skip_existing:
        pairs = [(source, target) for source, target in pairs if not os.path.exists(target)]
    failed = []
    with tqdm(total=_seconds(pairs), unit="s", unit_scale=True, desc="enhancing") as bar:
        for outcome, seconds in _outcomes(args, pairs, bar):
            bar.update(seconds)
            for message in outcome.messages:
                bar.write(f"{outcome.source}: {message}", file=sys.stderr)
            if outcome.error:
                failed.append(outcome.error)
                bar.write(f"error: {outcome.error}", file=sys.stderr)
    if failed:
        raise ValueError(f"{len(failed)} of {len(pairs)} files could not be enhanced, see above")
    if args.output != STANDARD_STREAM:
        print(f"enhanced {len(pairs)} file(s): {args.output}")


def _seconds(pairs: list[tuple[str, str]]) -> float | None:
    import soundfile

    from espnet2_tfckd.deploy.files import STANDARD_STREAM

    if any(source == STANDARD_STREAM for source, _ in pairs):
        return None
    try:
        return sum(soundfile.info(source).duration for source, _ in pairs)
    except (RuntimeError, OSError):
        return None  # what cannot be read is reported when its turn comes


def _outcomes(args, pairs, bar) -> Iterator[tuple]:
    """The outcome of each file with the seconds of audio not yet shown on the progress bar."""
    from espnet2_tfckd.deploy.enhancer import load_enhancer
    from espnet2_tfckd.deploy.files import enhance_file

    jobs = min(args.nj, len(pairs))
    if jobs <= 1:
        enhancer = load_enhancer(args.model, args.device, args.streaming, args.int8)
        for source, target in pairs:
            yield enhance_file(enhancer, source, target, args.channel, bar.update), 0
        return
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    setup = (args.model, args.device, args.streaming, args.int8, threads)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, _start_worker, setup) as pool:
        tasks = [pool.submit(_work, source, target, args.channel) for source, target in pairs]
        for task in as_completed(tasks):
            yield task.result()


def _start_worker(model: str, device: str, streaming: bool, int8: bool, threads: int) -> None:
    global _worker
    import torch

    from espnet2_tfckd.deploy.enhancer import load_enhancer

    torch.set_num_threads(threads)
    _worker = load_enhancer(model, device, streaming, int8)


def _work(source: str, target: str, channel: int) -> tuple:
    from espnet2_tfckd.deploy.files import enhance_file

    seconds = []
    return enhance_file(_worker, source, target, channel, seconds.append), sum(seconds)


def info(args: argparse.Namespace) -> None:
    """Print what a model is: size, cost, causality, latency, scores."""
    from espnet2_tfckd.deploy.description import describe

    for name, value in describe(args.model).items():
        print(f"{name:24} {value}")


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="espnet2-tfckd", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    model = "experiment directory, ONNX folder, packed .zip, or <user>/<model> on the hub"

    command = commands.add_parser("enhance", help="enhance audio files")
    command.add_argument("inputs", nargs="+", help="audio files, folders, or - for standard input")
    command.add_argument("--model", required=True, help=model)
    command.add_argument(
        "--output", "-o", required=True, help="file, folder, or - for standard output"
    )
    command.add_argument("--nj", type=int, default=1, help="files at a time")
    command.add_argument("--device", default="cpu", help="cpu or cuda; ONNX runs on the CPU")
    command.add_argument("--streaming", action="store_true", help="frame by frame, as live audio")
    command.add_argument(
        "--int8", action="store_true", help="weights of 8 bits, of an ONNX folder that has them"
    )
    command.add_argument("--channel", type=int, default=0, help="which of several channels to take")
    command.add_argument(
        "--skip_existing", action="store_true", help="leave out files that have their output"
    )
    command.set_defaults(run=enhance)

    command = commands.add_parser("info", help="tell what a model is")
    command.add_argument("model", help=model)
    command.set_defaults(run=info)
    return parser


def main() -> None:
    """Run the command line."""
    args = get_parser().parse_args()
    run_command(lambda: args.run(args))


if __name__ == "__main__":
    main()
