"""Run a model on many inputs, in several processes or on several GPUs."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from espnet2_tfckd.processes import cpu_cores, end_worker_with_parent

if TYPE_CHECKING:
    from espnet2.bin.enh_inference import SeparateSpeech

Item = TypeVar("Item")
# Forking after the model is loaded shares its memory and ESPnet's, and is safe as long as torch has
# run on one thread only, and not on a GPU. It is not on macOS, whose own libraries start threads.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
_model: SeparateSpeech | None = None  # of a worker


def list_devices(num_jobs: int, num_gpus: int, num_tasks: int) -> list[str]:
    """One device for each worker: processes on the CPU, or one process on each GPU.

    Raises:
        ValueError: If there are fewer GPUs than asked for.
    """
    import torch

    if num_gpus == 0:
        return ["cpu"] * min(num_jobs, num_tasks, cpu_cores())
    if num_gpus > torch.cuda.device_count():
        raise ValueError(f"--ngpu {num_gpus}, but torch finds {torch.cuda.device_count()} GPUs")
    return [f"cuda:{index}" for index in range(num_gpus)]


def run_on_all(
    separate_speech: SeparateSpeech,
    run: Callable[[SeparateSpeech, Item], None],
    tasks: Sequence[Item],
    devices: Sequence[str],
) -> Iterator[Exception | None]:
    """Run a model on all tasks, with a worker on each device, and yield how each task went.

    Args:
        separate_speech: The model, on the CPU.
        run: What to do with the model and a task; must be picklable, as must be the tasks.
        tasks: Its inputs.
        devices: Where to run, from :func:`list_devices`.

    Yields:
        For each task as it ends, None or its ValueError, OSError or RuntimeError.

    Raises:
        RuntimeError: If a worker ends unexpectedly.
    """
    cores = cpu_cores()
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores // len(devices)))
    if len(devices) == 1:
        _occupy(separate_speech, devices[0], threads)
        for task in tasks:
            try:
                yield run(separate_speech, task)
            except (ValueError, OSError, RuntimeError) as error:
                yield error
        return
    context = multiprocessing.get_context(START_METHOD)
    queue = context.Queue()
    for device in devices:
        queue.put(device)
    setup = (separate_speech, threads, queue)
    pool = ProcessPoolExecutor(len(devices), context, _start_worker, setup)
    try:
        for future in as_completed([pool.submit(_work, run, task) for task in tasks]):
            try:
                yield future.result()
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "an enhancing process ended unexpectedly (out of memory?); "
                    "run the same command again, with fewer jobs, to continue"
                ) from error
            except (ValueError, OSError, RuntimeError) as error:
                yield error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(
    separate_speech: SeparateSpeech, threads: int, devices: multiprocessing.Queue
) -> None:
    global _model
    end_worker_with_parent()
    _model = separate_speech
    _occupy(_model, devices.get(), threads)


def _occupy(separate_speech: SeparateSpeech, device: str, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    separate_speech.enh_model.to(device)
    separate_speech.device = device


def _work(run: Callable[[SeparateSpeech, Item], None], task: Item) -> None:
    run(_model, task)
