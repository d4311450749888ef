"""Trainings that are spread over several processes (ranks), on one machine or several."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet2_tfckd.cli import at_least_one, not_negative, run_command
from espnet2_tfckd.data.locking import is_locked
from espnet2_tfckd.processes import end_worker_with_parent
from espnet2_tfckd.training.settings import check_batch_size

#: Names the file that the stage of a training keeps locked.
LOCK_VARIABLE = "TFCKD_LOCK"
# as many threads as srun was asked for: --cpus-per-task
_AS_MANY_THREADS = 'OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} exec "$@"'
_SEEDS_OF_A_RANK = 100_000  # ESPnet adds the epoch to the seed


def launcher(num_nodes: int, slurm: str | None = None) -> list[str]:
    """What starts a training: Slurm's srun, or nothing for a training here.

    Args:
        num_nodes: Nodes, each with one process of srun.
        slurm: Options of a job that srun is to ask for, and to wait for. None: the nodes are those
            of the allocation that this process runs in.

    Raises:
        ValueError: If this is no allocation of as many nodes, or there is no srun.
    """
    if num_nodes == 1 and slurm is None:
        return []
    if not shutil.which("srun"):
        raise ValueError("--num_nodes and --cmd slurm need Slurm, and there is no srun here")
    allocated = int(os.environ.get("SLURM_JOB_NUM_NODES", 0))
    if slurm is None and allocated < num_nodes:
        there = f"this one has {allocated}" if allocated else "this is none"
        raise ValueError(
            f"--num_nodes {num_nodes} needs a Slurm allocation of as many nodes, and {there}: "
            f"./run.sh --cmd slurm --num_nodes {num_nodes} ..., or "
            f"sbatch --nodes {num_nodes} ... ./run.sh --num_nodes {num_nodes} ..."
        )
    options = [f"--nodes={num_nodes}", f"--ntasks={num_nodes}", "--ntasks-per-node=1"]
    # one task a node, which may use all that the job has there
    options += ["--export=ALL", "--cpu-bind=none", "--kill-on-bad-exit=1"]
    if slurm is None:
        return ["srun", *options]
    return ["srun", *options, *shlex.split(slurm), "sh", "-c", _AS_MANY_THREADS, "sh"]


def job_ended_early(log: Path, start: int) -> bool:
    """Whether Slurm ended a job that could go on: at its time limit, or to make room for another.

    Args:
        log: Output of srun.
        start: Byte at which that of the last job begins.
    """
    with open(log, encoding="utf-8", errors="replace") as stream:
        stream.seek(start)
        ended = re.search(r"CANCELLED .*DUE TO (TIME LIMIT|PREEMPTION|NODE FAIL)", stream.read())
    return ended is not None


@contextmanager
def rendezvous(output_dir: Path, num_nodes: int) -> Iterator[list[str]]:
    """ESPnet's option by which the processes of several nodes find each other.

    It is a file. By address, ESPnet would cut the name of the first node at a dash.

    Args:
        output_dir: Directory of the training, which all nodes see.
        num_nodes: Nodes.
    """
    if num_nodes == 1:
        yield []
        return
    file = output_dir.resolve() / f".rendezvous.{uuid.uuid4().hex}"
    try:
        yield ["--dist_init_method", f"file://{file}"]
    finally:
        file.unlink(missing_ok=True)


def prepare_rank(args: argparse.Namespace) -> None:
    """Prepare this process for being one of several that ESPnet's trainer runs in.

    It ends with the process that started it, and draws other random numbers than the others, as
    for the noises of ``--remix_snr``. The networks start alike, since DistributedDataParallel hands
    out those of the first process.

    Args:
        args: ESPnet's options; the seed is changed.

    Raises:
        RuntimeError: If files are not locked across the machines of the training.
    """
    from espnet2.train.distributed_utils import get_rank

    if multiprocessing.parent_process() is not None:
        end_worker_with_parent()
    args.seed += _SEEDS_OF_A_RANK * get_rank(args.dist_rank, args.dist_launcher)
    lock = os.environ.get(LOCK_VARIABLE)
    if lock and not is_locked(Path(lock)):
        raise RuntimeError(
            f"{lock} is locked on another machine, which {os.uname().nodename} does not see: "
            "nothing would keep a second training from writing there. Mount the file system with "
            "locks (flock), or train on one machine"
        )


def check_batches(
    configs: list[tuple[Path, Path | None]],
    ngpu: int,
    num_nodes: int,
    enh_args: str,
    elsewhere: bool = False,
) -> None:
    """Refuse trainings that cannot be spread, before any work is done.

    Args:
        configs: For each training its YAML, and that of a distillation or None.
        ngpu: GPUs of a node; 0: CPU.
        num_nodes: Nodes.
        enh_args: More of ESPnet's options.
        elsewhere: Whether the trainings will run on other machines, as jobs.

    Raises:
        ValueError: If there is no allocation of as many nodes, fewer GPUs, or a batch does not
            divide among the processes.
    """
    launcher(num_nodes, "" if elsewhere else None)
    if ngpu and not elsewhere:
        from torch.cuda import device_count

        if ngpu > device_count():
            raise ValueError(
                f"--ngpu {ngpu}, but torch finds {device_count()} GPUs: give fewer; --ngpu 0 "
                "computes on the CPU, where networks of the paper's size take days"
            )
    for config, distill_config in configs:
        check_batch_size(config, distill_config, enh_args, max(1, ngpu) * num_nodes)


def main() -> None:
    """Check from the command line, for the stage driver."""
    parser = argparse.ArgumentParser(description=check_batches.__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, action="append", default=[])
    parser.add_argument("--distillation", type=Path, nargs=2, metavar=("STUDENT", "DISTILLATION"))
    parser.add_argument("--ngpu", type=not_negative, default=0)
    parser.add_argument("--num_nodes", type=at_least_one, default=1)
    parser.add_argument("--enh_args", default="")
    parser.add_argument("--elsewhere", action="store_true")
    args = parser.parse_args()
    configs = [(config, None) for config in args.config]
    configs += [tuple(args.distillation)] if args.distillation else []
    check_batches(configs, args.ngpu, args.num_nodes, args.enh_args, args.elsewhere)


if __name__ == "__main__":
    run_command(main)
