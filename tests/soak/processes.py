"""Runs of the command and of Snakemake in processes of their own, and what can be done to them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOORS = ("command", "snakemake")
EVERY = 0.02


def members(session: int) -> list[int]:
    """Processes of a session, as the system calls what `start_new_session` begins."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        state, _, _, own, *_ = text.rpartition(")")[2].split()
        if int(own) == session and state != "Z":
            found.append(int(folder.name))
    return sorted(found)


def send(pids: list[int], how: int) -> None:
    """Send a signal to those processes that there still are."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


@dataclass
class Order:
    """What is run.

    Parameters
    ----------
    door : str
        The command, or Snakemake.
    cores : int
        Cores for Snakemake.
    largest : int
        Bytes a file may have; 0 for any number.
    more : tuple of str
        Further arguments.
    """

    door: str
    cores: int = 2
    largest: int = 0
    more: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """The whole command line."""
        if self.door == "command":
            start = ["-m", "pyflowreg.session.cli", "run", "--config", "settings.yaml"]
        else:
            snakefile = str(REPOSITORY / "Snakefile")
            start = ["-m", "snakemake", "--snakefile", snakefile, "--cores", str(self.cores)]
            start += ["--configfile", "settings.yaml", "--quiet", "rules"]
        return [sys.executable, *start, *self.more]

    def limit(self) -> None:
        """In the new process: heed Ctrl-C, which shells let background jobs ignore."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.largest:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest, self.largest))


@dataclass
class Run:
    """A run that was started."""

    order: Order
    folder: Path
    log: Path
    was_hit: bool = False
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        path = str(REPOSITORY / "scripts")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.order.arguments(),
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self.order.limit,
            )

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    @property
    def pids(self) -> list[int]:
        """All its processes, also when the first has ended."""
        return members(self.process.pid)

    @property
    def jobs(self) -> list[int]:
        """Its processes but the first."""
        return [pid for pid in self.pids if pid != self.process.pid]

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False if it goes on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return not self.lives

    def wait_for_jobs(self, seconds: float) -> bool:
        """Wait until none of its processes is left."""
        until = time.monotonic() + seconds
        while self.pids:
            if time.monotonic() > until:
                return False
            time.sleep(EVERY)
        return True

    def end(self) -> None:
        """Kill what is left of it."""
        send(self.pids, signal.SIGKILL)
        self.process.wait()
