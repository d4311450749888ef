"""ESPnet's trainer, made safe against being killed; it also draws the calibration weights."""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass

from espnet2_tfckd.cli import atomic_write
from espnet2_tfckd.distiller.calibration import TFCalibration
from espnet2_tfckd.training.settings import UNFINISHED
from espnet2_tfckd.training.unfinished import UnfinishedEpoch

# What the reporter's state holds besides plain numbers in checkpoints of ESPnet 202511. ESPnet
# 202611 loads nothing but tensors and plain types unless it is named; these run no code.
_OF_REPORTER = [
    timedelta,
    np._core.multiarray.scalar,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]


@dataclass
class Options(TrainerOptions):
    """ESPnet's, and how often an epoch is saved before it ends."""

    save_minutes: float


class ResumableTrainer(Trainer):
    """Saves within epochs too, and keeps a copy of the last whole checkpoint of an epoch.

    ESPnet overwrites its own in place: a run killed while ``checkpoint.pth`` is being written would
    have nothing to resume from.
    """

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Options of the command line, beside ESPnet's."""
        parser.add_argument(
            "--save_minutes",
            type=float,
            default=10.0,
            help="Minutes after which an epoch is saved, before it ends",
        )

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> Options:
        return build_dataclass(Options, args)

    @classmethod
    def run(cls, trainer_options, distributed_option, **kwargs):
        checkpoint = Path(trainer_options.output_dir) / "checkpoint.pth"
        if trainer_options.resume and _is_first_process(distributed_option):
            restore_checkpoint(checkpoint)
        if distributed_option.distributed:
            torch.distributed.barrier()  # nobody may read it before
        with torch.serialization.safe_globals(_OF_REPORTER):
            super().run(
                trainer_options=trainer_options, distributed_option=distributed_option, **kwargs
            )
        if _is_first_process(distributed_option):
            checkpoint.with_name(UNFINISHED).unlink(missing_ok=True)

    @classmethod
    def train_one_epoch(
        cls,
        model,
        iterator,
        optimizers,
        schedulers,
        scaler,
        reporter,
        options,
        distributed_option,
        **kwargs,
    ):
        checkpoint = Path(options.output_dir) / "checkpoint.pth"
        if checkpoint.exists() and _is_first_process(distributed_option):
            with atomic_write(_backup(checkpoint)) as copy:
                shutil.copyfile(checkpoint, copy)
        holders = {"model": model.module if distributed_option.distributed else model}
        for name, several in (("optimizer", optimizers), ("scheduler", schedulers)):
            holders |= {f"{name}{n}": one for n, one in enumerate(several) if one is not None}
        if scaler is not None:
            holders["scaler"] = scaler
        batches = UnfinishedEpoch(
            iterator,
            checkpoint.with_name(UNFINISHED),
            holders,
            reporter,
            seed=options.seed + reporter.get_epoch(),
            accum_grad=options.accum_grad,
            minutes=options.save_minutes,
            resume=options.resume,
            # states of fairscale's optimizers are complete at the end of an epoch only
            writes=_is_first_process(distributed_option) and not options.sharded_ddp,
        )
        return super().train_one_epoch(
            model=model,
            iterator=batches,
            optimizers=optimizers,
            schedulers=schedulers,
            scaler=scaler,
            reporter=reporter,
            options=options,
            distributed_option=distributed_option,
            **kwargs,
        )


class KDTrainer(ResumableTrainer):
    """Draws each epoch's calibration weights into ``images/calibration_weights/``.

    Of an epoch that was interrupted, they are those of the batches since it was continued.
    """

    @classmethod
    def train_one_epoch(cls, model, reporter, options, distributed_option, **kwargs):
        with mean_calibration_weights(model) as means:
            all_steps_are_invalid = super().train_one_epoch(
                model=model,
                reporter=reporter,
                options=options,
                distributed_option=distributed_option,
                **kwargs,
            )
        if means and options.use_matplotlib and _is_first_process(distributed_option):
            epoch = reporter.epoch
            folder = Path(options.output_dir) / "images" / "calibration_weights"
            draw_calibration_weights(means, folder / f"{epoch}ep.png", epoch)
        return all_steps_are_invalid


def restore_checkpoint(checkpoint: Path) -> None:
    """Replace a damaged checkpoint by the copy of an earlier epoch's.

    Args:
        checkpoint: ``checkpoint.pth`` of a training; need not exist.

    Raises:
        ValueError: If it is damaged and no copy can be read either.
    """
    if not checkpoint.exists() or _is_whole(checkpoint):
        return
    backup = _backup(checkpoint)
    if not (backup.exists() and _is_whole(backup)):
        raise ValueError(
            f"{checkpoint} is damaged and there is no copy of an earlier epoch's: delete "
            f"{checkpoint.parent} to train from the start"
        )
    logging.warning(f"{checkpoint} is damaged: going on from the epoch before it")
    with atomic_write(checkpoint) as copy:
        shutil.copyfile(backup, copy)


def _backup(checkpoint: Path) -> Path:
    return checkpoint.with_name("checkpoint.backup.pth")


def _is_whole(checkpoint: Path) -> bool:
    try:
        # The trainer's own file: it holds optimizer and reporter states besides tensors.
        torch.load(checkpoint, map_location="cpu", weights_only=False)
    except Exception:  # torch raises many kinds of errors for a damaged file
        return False
    return True


def _is_first_process(distributed_option) -> bool:
    return not distributed_option.distributed or distributed_option.dist_rank == 0


@contextmanager
def mean_calibration_weights(model: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Average the weights of every calibration in the model over the batches of the block.

    Args:
        model: A module that holds the distiller.

    Yields:
        A dictionary, filled when the block ends: ``<set> <stream>`` to mean weights (Ns, Nt).
    """
    sums: dict[str, torch.Tensor] = {}
    batches: dict[str, int] = {}
    means: dict[str, torch.Tensor] = {}

    def hook_for(name: str):
        def add(module, inputs, outputs):
            for stream, weights in outputs[2].items():
                key = f"{name} {stream}"
                sums[key] = sums.get(key, 0) + weights.detach().mean((0, 1))
                batches[key] = batches.get(key, 0) + 1

        return add

    hooks = [
        module.register_forward_hook(hook_for(name.rsplit(".", 1)[-1]))
        for name, module in model.named_modules()
        if isinstance(module, TFCalibration)
    ]
    try:
        yield means
        means.update({key: total.cpu() / batches[key] for key, total in sums.items()})
    finally:
        for hook in hooks:
            hook.remove()


def draw_calibration_weights(means: dict[str, torch.Tensor], path: Path, epoch: int) -> None:
    """Draw mean calibration weights as heat maps, student layers down and teacher layers across.

    Args:
        means: ``<set> <stream>`` to weights (Ns, Nt), each row summing to 1.
        path: The image to write.
        epoch: For the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(key.split()[0] for key in means))
    streams = list(dict.fromkeys(key.split()[1] for key in means))
    figure = Figure(figsize=(2.6 * len(names), 2.4 * len(streams) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(streams), len(names), squeeze=False)
    for row, stream in zip(axes, streams, strict=True):
        for axis, name in zip(row, names, strict=True):
            weights = means[f"{name} {stream}"].numpy()
            uniform = 1 / weights.shape[1]
            image = axis.imshow(weights, cmap="RdBu_r", vmin=0, vmax=2 * uniform, aspect="auto")
            for (i, j), value in _entries(weights):
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8)
            axis.set_title(f"{name}, {stream}", fontsize=9)
            axis.set_xticks(range(weights.shape[1]))
            axis.set_yticks(range(weights.shape[0]))
            axis.set_xlabel("teacher layer", fontsize=8)
            axis.set_ylabel("student layer", fontsize=8)
            figure.colorbar(image, ax=axis, ticks=[0, uniform, 2 * uniform], format="%.2f")
    figure.suptitle(f"calibration weights, mean over epoch {epoch} (white: uniform)", fontsize=10)
    with atomic_write(path) as file:
        figure.savefig(file, dpi=110)


def _entries(matrix):
    return [((i, j), value) for i, row in enumerate(matrix) for j, value in enumerate(row)]
