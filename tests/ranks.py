"""Processes that train together (gloo), for tests: one import, then forked."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed

WORLD = 2


def on_ranks(folder: Path, function: Callable, *arguments, join: bool = True) -> list:
    """Results of a function on every rank.

    Args:
        folder: For what the processes say to each other.
        function: Importable by name; called with the arguments.
        join: Whether the ranks are to be joined here; if not, the function does it, by ``RANK`` and
            ``WORLD_SIZE`` of the environment, as ESPnet's trainer does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "espnet2_tfckd.training.task", __name__])
    processes = [
        context.Process(target=_run, args=(rank, join, folder, function, arguments))
        for rank in range(WORLD)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    errors = [path.read_text() for path in sorted(folder.glob("*.error"))]
    assert not errors, "\n".join(errors)
    assert [process.exitcode for process in processes] == [0] * WORLD
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


def _run(rank: int, join: bool, folder: Path, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD)}
    try:
        if join:
            distributed.init_process_group(
                "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD
            )
        torch.save(function(*arguments), folder / f"{rank}.pt")
        if distributed.is_initialized():
            distributed.destroy_process_group()
    except BaseException:
        (folder / f"{rank}.error").write_text(traceback.format_exc())
        raise
