"""What the process that submits jobs does before it starts: the head of a run on a cluster."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import platform
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyflowreg.cluster import sge, slurm
from pyflowreg.cluster.hooks import SLURM, Hooks
from pyflowreg.cluster.jobbook import (
    DEFAULT_FOLDER,
    FOLDER_VARIABLE,
    RESULTS_VARIABLE,
    RUN_VARIABLE,
    JobBook,
    digest_of,
)

if TYPE_CHECKING:
    from pyflowreg.workflow.plan import Plan

logger = logging.getLogger(__name__)

BEAT_SECONDS = 20.0
DEAD_SECONDS = 120.0
LOCKS = Path(".snakemake") / "locks"


class Head:
    """One run of a session's workflow on a cluster.

    Parameters
    ----------
    plan : Plan
        The session.
    repository : Path
        Folder of the Snakefile.
    """

    def __init__(self, plan: Plan, repository: Path) -> None:
        self.plan = plan
        self.repository = repository
        self.files = {*plan.results, *(str(recording.path) for recording in plan.recordings)}
        key = digest_of([str(plan.paths.output_root.absolute()), str(Path.cwd())])[:10]
        self.book = JobBook((DEFAULT_FOLDER / key).absolute())
        self.run = f"{int(time.time())}-{uuid.uuid4().hex[:8]}"
        self.hooks = Hooks(self.book, self.run, f"pyflowreg-{key}", self.absolute_command)
        self._owner = self.book.folder / "head.json"

    def prepare(self) -> str:
        """Do everything that has to be done while the Snakefile is read.

        Returns
        -------
        str
            A remark for the user, or nothing.
        """
        os.environ[FOLDER_VARIABLE] = str(self.book.folder)
        os.environ[RUN_VARIABLE] = self.run
        os.environ[RESULTS_VARIABLE] = digest_of(self.plan.results)
        # The programs of this environment come first, for the commands of the profile and for jobs.
        programs = str(Path(sys.executable).parent)
        if programs not in os.environ.get("PATH", "").split(os.pathsep)[:1]:
            os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
        remark = self.take_over()
        self.hooks.install()
        atexit.register(self.cancel_unfinished)
        return remark

    def write_headers(self, infos: Sequence[Any]) -> None:
        """Write the headers of recordings that `inspect_recording` would write one by one.

        Parameters
        ----------
        infos : sequence of RecordingInfo
            As the checks before the run read them.
        """
        from pyflowreg.io.atomic import atomic_write_json

        for recording, info in zip(self.plan.recordings, infos, strict=True):
            path = self.plan.paths.recording(recording.name).header
            try:
                if json.loads(path.read_text(encoding="utf-8")) == info:
                    continue
            except (OSError, ValueError):
                pass
            atomic_write_json(path, info)

    def absolute_command(self, command: str | None) -> str | None:
        """Find the program of a command that a profile names by a relative path.

        Parameters
        ----------
        command : str or None
            Snakemake names it as seen from where it was started, and runs it elsewhere if told
            so (``--directory``).

        Returns
        -------
        str or None
            With the absolute path, if the program is found.
        """
        if not command:
            return command
        program, *rest = command.split(" ", 1)
        if "/" not in program or Path(program).is_absolute():
            return command
        for folder in (Path.cwd(), Path(os.environ.get("PWD", ".")), self.repository):
            found = folder / program
            if found.is_file():
                path = str(found.absolute())
                return " ".join([shlex.quote(path) if rest else path, *rest])
        return command

    def take_over(self) -> str:
        """Note that this process runs the session; remove the locks of one that died.

        Returns
        -------
        str
            A remark for the user, or nothing.
        """
        remark = ""
        owner = self._read_owner()
        if owner is not None and self._lives(owner):
            return (
                f"Another snakemake works on this session: process {owner['pid']} on "
                f"{owner['host']}."
            )
        if owner is not None and self._remove_locks():
            remark = (
                f"The run of process {owner['pid']} on {owner['host']} was killed; this one goes "
                "on, with the jobs that are still waiting or running."
            )
        self._owner.parent.mkdir(parents=True, exist_ok=True)
        me = {"host": platform.node(), "pid": os.getpid(), "born": _born(os.getpid())}
        self._owner.write_text(json.dumps(me), encoding="utf-8")
        threading.Thread(target=self._beat, daemon=True).start()
        atexit.register(self._owner.unlink, missing_ok=True)
        return remark

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with contextlib.suppress(OSError):
                os.utime(self._owner)

    def _read_owner(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._owner.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and {"host", "pid", "born"} <= set(found) else None

    def _lives(self, owner: dict[str, Any]) -> bool:
        if owner["host"] == platform.node():
            born = _born(int(owner["pid"]))
            return born is not None and born == owner["born"]
        # Elsewhere: by its last sign of life, in the time of the disk that both see.
        probe = self.book.folder / f".{uuid.uuid4().hex}"
        probe.touch()
        silent = probe.stat().st_mtime - self._owner.stat().st_mtime
        probe.unlink()
        return silent < DEAD_SECONDS

    def _remove_locks(self) -> bool:
        """Remove Snakemake's locks on this session's files, as old as the dead owner."""
        last_beat = self._owner.stat().st_mtime
        removed = False
        for lock in LOCKS.glob("*.lock"):
            try:
                ours = self.files & set(lock.read_text(encoding="utf-8").splitlines())
                old = lock.stat().st_mtime <= last_beat + BEAT_SECONDS
            except OSError:
                continue
            if old and ours:
                lock.unlink(missing_ok=True)
                removed = True
        return removed

    def cancel_unfinished(self) -> None:
        """Cancel what this run submitted and what has not ended.

        Snakemake does that itself, but not for jobs whose state it is just asking for.
        """
        by_slurm = [key for key, where in self.hooks.unfinished.items() if where == SLURM]
        others = [key for key, where in self.hooks.unfinished.items() if where != SLURM]
        slurm.cancel(by_slurm)
        sge.cancel(others)  # qdel, as for PBS


def _born(pid: int) -> str | None:
    """Return when a process of this machine started, None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return text.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return None
    return ""
