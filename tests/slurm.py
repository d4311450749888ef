"""A real Slurm with two pretended nodes on this machine, for tests."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NODES = 2
PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "sbatch")
INSTALL = "sudo apt-get install -y --no-install-recommends slurm-wlm slurmctld slurmd munge"
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=5
OverTimeLimit=0
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdParameters=config_overrides
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool_%n
NodeName=n-[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] \
CPUs=4 RealMemory=6000 State=UNKNOWN
PartitionName=cpu Nodes=n-[1-{nodes}] Default=YES MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=n-[1-{nodes}] PriorityTier=2 MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why there can be no Slurm here."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        return f"no {', '.join(missing)}: {INSTALL}"
    return None if os.geteuid() == 0 else "Slurm's daemons are started as root"


@contextmanager
def running_slurm(folder: Path) -> Iterator[None]:
    """Slurm, found by every process that is started meanwhile."""
    host = os.uname().nodename.partition(".")[0]
    port = 17000 + os.getpid() % 1000 * (NODES + 1)
    for name in ("state", *(f"spool_n-{number + 1}" for number in range(NODES))):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(
        CONFIGURATION.format(
            host=host, folder=folder, port=port, nodes=NODES, first=port + 1, last=port + NODES
        )
    )
    os.environ["SLURM_CONF"] = str(conf)
    # a munged of its own: another's socket may be a leftover that nobody answers
    (folder / "munge.key").touch(mode=0o600)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munged += [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "log", "pid", "seed")]
    slurmds = [["slurmd", "-D", "-f", str(conf), "-N", f"n-{n + 1}"] for n in range(NODES)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = []
    try:
        processes.append(subprocess.Popen(munged, **quiet))
        wait_for((folder / "munge.socket").is_socket, log=folder / "munge.log")
        for daemon in (["slurmctld", "-D", "-f", str(conf)], *slurmds):
            processes.append(subprocess.Popen(daemon, **quiet))
        wait_for(lambda: idle_nodes() == NODES, log=folder / "slurmctld.log")
        yield
    finally:
        subprocess.run(["scancel", "--user", "root"], **quiet)
        for process in reversed(processes):
            process.terminate()
            process.wait()
        del os.environ["SLURM_CONF"]


def wait_for(condition: Callable[[], bool], seconds: float = 240, log: Path | None = None) -> None:
    """Wait; an error that shows the log if it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log and log.exists() and log.read_text()
        time.sleep(0.2)


def idle_nodes() -> int:
    """Nodes that no job uses."""
    done = subprocess.run(
        ["sinfo", "--noheader", "--states=idle", "--format=%D"], capture_output=True, text=True
    )
    return sum(map(int, done.stdout.split()))
