"""The command espnet2-tfckd: enhance audio with a trained model, or inspect a model."""

# The function of each sub-command imports what it needs. So help comes at once, and work with an
# ONNX folder alone needs neither torch nor ESPnet.

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from espnet2_tfckd import __version__
from espnet2_tfckd.cli import at_least_one, hertz, not_negative, run_command
from espnet2_tfckd.deploy.pretrained import DEFAULT_MODEL
from espnet2_tfckd.processes import cpu_cores, end_worker_with_parent

_worker = None  # the enhancer of a worker process, or why it could not be loaded


def enhance(args: argparse.Namespace) -> None:
    """Enhance files; files that fail are reported as errors, and the rest is enhanced.

    Raises:
        ValueError: If files fail, or inputs and output do not fit together.
    """
    from tqdm import tqdm

    from espnet2_tfckd.deploy.files import STANDARD_STREAM, plan

    pairs = plan(args.inputs, args.output)
    if args.streaming and pairs == [(STANDARD_STREAM, STANDARD_STREAM)]:
        return _enhance_pipe(args)
    if args.skip_existing:
        pairs = [(source, target) for source, target in pairs if not os.path.exists(target)]
    failed = []
    with tqdm(total=_seconds(pairs), unit="s", unit_scale=True, desc="enhancing") as bar:

        def advance(seconds: float) -> None:
            if bar.total is not None:  # a header may announce a little less than is decoded
                bar.total = max(bar.total, bar.n + seconds)
            bar.update(seconds)

        for outcome, seconds in _outcomes(args, pairs, advance):
            advance(seconds)
            for message in outcome.messages:
                bar.write(f"{outcome.source}: {message}", file=sys.stderr)
            if outcome.error:
                failed.append(outcome.error)
                bar.write(f"error: {outcome.error}", file=sys.stderr)
    if failed:
        raise ValueError(f"{len(failed)} of {len(pairs)} files could not be enhanced, see above")
    if args.output != STANDARD_STREAM:
        print(f"enhanced {len(pairs)} file(s): {args.output}")


def _enhance_pipe(args: argparse.Namespace) -> None:
    from espnet2_tfckd.deploy.enhancer import load_enhancer
    from espnet2_tfckd.deploy.live import enhance_pipe

    enhancer = load_enhancer(*_choice(args))
    clipped = enhance_pipe(enhancer, sys.stdin.buffer, sys.stdout.buffer, args.channel)
    if clipped:
        print(f"{clipped} samples clipped: record with a lower level", file=sys.stderr)


def live(args: argparse.Namespace) -> None:
    """Enhance the microphone, and play the result, until Ctrl-C.

    Raises:
        RuntimeError: If sound devices cannot be used.
    """
    from espnet2_tfckd.deploy.live import enhance_microphone, require_sounddevice

    sounddevice = require_sounddevice()
    if args.list_devices:
        print(sounddevice.query_devices())
        return
    from espnet2_tfckd.deploy.enhancer import load_enhancer

    enhancer = load_enhancer(*_choice(args))
    print("enhancing the microphone, with headphones lest it hear itself; Ctrl-C ends it")
    late = enhance_microphone(enhancer, args.input_device, args.output_device)
    print(f"ended; {late} blocks came too late")


def _seconds(pairs: list[tuple[str, str]]) -> float | None:
    """Duration of all files by their headers; None if a header does not say."""
    from espnet2_tfckd.data.decoding import open_audio
    from espnet2_tfckd.deploy.files import STANDARD_STREAM

    total = 0.0
    for source, _ in pairs:
        if source == STANDARD_STREAM:
            return None
        try:
            with open_audio(source) as audio:
                if audio.frames is None:
                    return None
                total += audio.frames / audio.rate
        except (ValueError, OSError):
            return None  # what cannot be read is reported when its turn comes
    return total


def _outcomes(
    args: argparse.Namespace, pairs: list[tuple[str, str]], advance: Callable[[float], None]
) -> Iterator[tuple]:
    """The outcome of each file with the seconds of audio not yet shown on the progress bar."""
    from espnet2_tfckd.deploy.enhancer import load_enhancer
    from espnet2_tfckd.deploy.files import enhance_file

    jobs = min(args.nj, len(pairs))
    if jobs <= 1:
        enhancer = load_enhancer(*_choice(args))
        for source, target in pairs:
            yield enhance_file(enhancer, source, target, args.channel, advance), 0
        return
    setup = (max(1, cpu_cores() // jobs), *_choice(args))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, _start_worker, setup) as pool:
        tasks = [pool.submit(_work, source, target, args.channel) for source, target in pairs]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "an enhancing process ended unexpectedly (out of memory?): run the command again "
                "with --skip_existing and a smaller --nj"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _choice(args: argparse.Namespace) -> tuple:
    """Which model to load, and how: the arguments of ``load_enhancer``."""
    return args.model, args.device, args.streaming, args.fs


def _start_worker(threads: int, *choice) -> None:
    global _worker
    end_worker_with_parent()
    from espnet2_tfckd.deploy.enhancer import load_enhancer

    try:
        _worker = load_enhancer(*choice)
        _worker.use_threads(threads)
    except (ValueError, OSError, RuntimeError) as error:
        _worker = error  # raised here, it would be a traceback of every worker


def _work(source: str, target: str, channel: int) -> tuple:
    from espnet2_tfckd.deploy.files import enhance_file

    if isinstance(_worker, Exception):
        raise _worker
    seconds = []
    return enhance_file(_worker, source, target, channel, seconds.append), sum(seconds)


def info(args: argparse.Namespace) -> None:
    """Print what a model is: size, cost, causality, latency, scores."""
    from espnet2_tfckd.deploy.description import describe

    for name, value in describe(args.model).items():
        print(f"{name:24} {value}")


def parity(args: argparse.Namespace) -> None:
    """Compare a causal model, run frame by frame, with the same model run at once, on one thread.

    Raises:
        RuntimeError: If they differ by more than rounding, or ESPnet is not installed.
    """
    from espnet2_tfckd.deploy.enhancer import require_espnet
    from espnet2_tfckd.deploy.parity import TOLERANCES, measure_parity, parity_table

    require_espnet(args.model)
    import torch

    torch.set_num_threads(1)
    results = measure_parity(args.model, args.inputs, args.minutes)
    print(parity_table(results))
    if failed := [result.name for result in results if not result.holds]:
        allowed = ", ".join(f"{name}: {TOLERANCES[name]:g}" for name in failed)
        raise RuntimeError(f"{args.model} differs frame by frame by more than rounding ({allowed})")


def samples(args: argparse.Namespace) -> None:
    """Write the recordings that the package brings along."""
    from espnet2_tfckd.deploy.pretrained import write_samples

    written = write_samples(args.folder)
    print(f"{len(written)} noisy recordings: {written[0].parent}")
    print(f"to hear them without noise: espnet2-tfckd enhance {written[0].parent} -o enhanced")


def demo(args: argparse.Namespace) -> None:
    """Serve a page for trying out a model.

    Raises:
        RuntimeError: If gradio is not installed.
    """
    from espnet2_tfckd.deploy.demo import check_gradio, serve
    from espnet2_tfckd.deploy.enhancer import load_enhancer

    check_gradio()
    enhancer = load_enhancer(*_choice(args))
    serve(enhancer, args.model, args.host, args.port, args.channel)


def web(args: argparse.Namespace) -> None:
    """Write a page that enhances in the browser, and serve it if a port is given."""
    from espnet2_tfckd.deploy.web_page import serve, write_page

    page = write_page(args.model, args.runtime, args.output)
    if args.port is None:
        print(f"page: {page}; to see it: espnet2-tfckd web ... --port 8000, or any web server")
    else:
        serve(page.parent, args.host, args.port)


def get_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="espnet2-tfckd", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    model = "experiment directory, ONNX folder, packed .zip, or <user>/<model> on the hub"
    default = {"default": str(DEFAULT_MODEL), "help": f"{model} (default: the one that ships)"}

    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--model", **default)
    running.add_argument("--device", default="cpu", help="cpu or cuda; ONNX runs on the CPU")
    running.add_argument(
        "--fs",
        type=hertz,
        help="the model's sampling rate, as 16k, if info says that it is assumed",
    )
    files = argparse.ArgumentParser(add_help=False, parents=[running])
    files.add_argument("--streaming", action="store_true", help="frame by frame, as live audio")
    files.add_argument(
        "--channel", type=not_negative, default=0, help="channel to take of several, counted from 0"
    )

    command = commands.add_parser("enhance", help="enhance audio files", parents=[files])
    command.add_argument("inputs", nargs="+", help="audio files, folders, or - for standard input")
    command.add_argument(
        "--output", "-o", required=True, help="file, folder, or - for standard output"
    )
    command.add_argument("--nj", type=at_least_one, default=1, help="files at a time")
    command.add_argument(
        "--skip_existing", action="store_true", help="leave out files that have their output"
    )
    command.set_defaults(run=enhance)

    command = commands.add_parser("live", help="enhance the microphone", parents=[running])
    for name, what in (("input", "microphone"), ("output", "loudspeaker or headphones")):
        command.add_argument(
            f"--{name}_device", type=_device, help=f"{what}: its number, or a part of its name"
        )
    command.add_argument("--list_devices", action="store_true", help="show them, and end")
    command.set_defaults(run=live, streaming=True)

    host = {
        "default": "127.0.0.1",
        "help": "address to listen on; from other machines, browsers record over https only",
    }
    command = commands.add_parser("web", help="write a page that enhances in the browser itself")
    command.add_argument(
        "--model", default=str(DEFAULT_MODEL), help="ONNX folder of a causal model"
    )
    command.add_argument(
        "--runtime", default=".", help="folder in which 'npm install onnxruntime-web' was run"
    )
    command.add_argument("--output", "-o", default="web", help="folder to write (default: web)")
    command.add_argument("--host", **host)
    command.add_argument("--port", type=int, help="serve it at this port, until Ctrl-C")
    command.set_defaults(run=web)

    command = commands.add_parser("demo", help="try a model in the browser", parents=[files])
    command.add_argument("--host", **host)
    command.add_argument("--port", type=int, default=7860, help="port to listen on")
    command.set_defaults(run=demo)

    command = commands.add_parser("info", help="describe a model")
    command.add_argument("model", nargs="?", **default)
    command.set_defaults(run=info)

    command = commands.add_parser("samples", help="write six noisy recordings to try it on")
    command.add_argument("folder", nargs="?", default="samples", help="where (default: samples)")
    command.set_defaults(run=samples)

    command = commands.add_parser(
        "parity", help="check that a causal model gives the same frame by frame as at once"
    )
    command.add_argument("model", help="experiment directory, packed .zip, or <user>/<model>")
    command.add_argument("inputs", nargs="+", help="audio files")
    command.add_argument(
        "--minutes", type=_positive, default=10, help="minutes of audio to run frame by frame"
    )
    command.set_defaults(run=parity)
    return parser


def _device(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _positive(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return float(text)


def main() -> None:
    """Run the command line."""
    # Being asked to end leaves no half-written file, and neither does Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    args = get_parser().parse_args()
    run_command(lambda: args.run(args))


if __name__ == "__main__":
    main()
