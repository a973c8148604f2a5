"""SLURM on this machine: munged, slurmctld and slurmd, without systemd, cgroups and a database."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from .processes import CannotStartError, command, running, stop, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
DAEMONS = ("slurmd", "slurmctld", "munged")
# The one place where the executor plugin's inner srun looks: SLURM_CONF does not reach it.
CONFIGURATION = Path("/etc/slurm")
FILES = ("slurm.conf", "cgroup.conf", "gres.conf")
# Where SLURM looks that was not built by the distribution.
OTHERS = ("/etc/slurm-llnl", "/usr/local/etc", "/usr/local/etc/slurm", "/usr/local/slurm/etc",
          "/opt/slurm/etc")  # fmt: skip
DISTRIBUTION = ("/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/")
MARK = "# Written by the tests of this repository; removed when they end."
CPUS = 4

TEMPLATE = """\
{mark}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
# No cgroups; limits of memory are enforced by sampling every second.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=defer_batch,bf_interval=1,sched_interval=1
# Finished jobs stay in squeue.
MinJobAge=3600
KillWait=3
InactiveLimit=0
BatchStartTimeout=10
# The accounting records that need no database.
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
AccountingStorageType=accounting_storage/none
GresTypes=gpu
MaxArraySize=1001
DefMemPerCPU=200
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=short Nodes={host} Default=YES MaxTime=01:00:00 State=UP
PartitionName=long Nodes={host} Default=NO MaxTime=UNLIMITED State=UP
"""


def memory_mb() -> int:
    """Nine tenths of this machine's memory."""
    total = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    return int(total.split()[1]) // 1024 * 9 // 10


class Slurm:
    """One-node cluster.

    Parameters
    ----------
    folder : Path
        For everything but the configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.started = False

    @staticmethod
    def check() -> None:
        """Raise `CannotStartError` where packages are missing or a real SLURM is configured."""
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing:
            raise CannotStartError(
                f"SLURM is not installed ({missing[0]}): apt-get install slurmctld slurmd "
                "slurm-client munge slurm-wlm-basic-plugins"
            )
        if os.getuid() != 0:
            raise CannotStartError("SLURM's daemons are started as root only")
        foreign = [
            name for name in PROGRAMS if not (shutil.which(name) or "").startswith(DISTRIBUTION)
        ]
        if foreign:
            raise CannotStartError(f"{foreign[0]} is not that of the distribution: not touched")
        theirs = [Path(folder) / "slurm.conf" for folder in OTHERS]
        ours = [CONFIGURATION / name for name in FILES]
        real = [path for path in theirs if path.exists()]
        real += [path for path in ours if path.exists() and MARK not in path.read_text()]
        if "SLURM_CONF" in os.environ or real:
            named = real[0] if real else os.environ["SLURM_CONF"]
            raise CannotStartError(
                f"this machine belongs to a SLURM cluster ({named}): not touched"
            )
        active = running({"slurmctld", "slurmd"})
        if active:
            raise CannotStartError(f"{active[0]} is running on this machine: not touched")

    def start(self) -> None:
        self.check()
        self.started = True
        for name in ("state", "spool", "log", "run", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, *self.folder.iterdir()):
            folder.chmod(0o755)
        key = self.folder / "munge" / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        run, log = self.folder / "run", self.folder / "log"
        # --force: as root, below a temporary folder.
        command(
            "munged",
            "--force",
            "--origin=127.0.0.1",
            f"--key-file={key}",
            f"--socket={run}/munge.socket",
            f"--pid-file={run}/munged.pid",
            f"--log-file={log}/munged.log",
            f"--seed-file={self.folder}/munge/seed",
        )
        CONFIGURATION.mkdir(exist_ok=True)
        text = TEMPLATE.format(
            mark=MARK, host=self.host, folder=self.folder, cpus=CPUS, memory=memory_mb()
        )
        (CONFIGURATION / "slurm.conf").write_text(text)
        (CONFIGURATION / "cgroup.conf").write_text(f"{MARK}\nCgroupAutomount=no\n")
        # A GPU that is none: the scheduler counts it.
        gres = f"{MARK}\nNodeName={self.host} Name=gpu File=/dev/null\n"
        (CONFIGURATION / "gres.conf").write_text(gres)
        read = ["-f", str(CONFIGURATION / "slurm.conf")]
        for daemon in (["slurmctld", "-c", "-i", *read], ["slurmd", "-c", *read]):
            with (log / f"{daemon[0]}.out").open("w") as out:
                subprocess.run(daemon, stdout=out, stderr=out, timeout=60, check=True)
        if not wait_until(self._ready, 40, 0.3):
            raise CannotStartError((log / "slurmctld.log").read_text()[-2000:])

    @staticmethod
    def _ready() -> bool:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True, check=False
        )
        return done.returncode == 0 and "idle" in done.stdout

    def stop(self) -> None:
        """Stop the daemons and remove the configuration.

        With it, every start of Snakemake would wait ten seconds for a slurmctld that is not there.
        """
        if not self.started:
            return
        for daemon in DAEMONS:
            stop(self.folder / "run" / f"{daemon}.pid", daemon)
        for name in FILES:
            path = CONFIGURATION / name
            if path.exists() and MARK in path.read_text():
                path.unlink()

    def accounting(self) -> list[dict[str, str]]:
        """Return the record of every finished job."""
        path = self.folder / "log" / "jobcomp.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
