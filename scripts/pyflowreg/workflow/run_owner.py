"""Which run of the workflow has a session, and what a run that was killed has left.

Snakemake's locks are files that say nothing about who made them: after SIGKILL they keep every
other run out for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pyflowreg.cluster.jobbook import DEFAULT_FOLDER, digest_of
from pyflowreg.errors import PyflowregError
from pyflowreg.processes import born

if TYPE_CHECKING:
    from pyflowreg.workflow.plan import Plan

logger = logging.getLogger(__name__)

BEAT_SECONDS = 20.0
DEAD_SECONDS = 120.0
LOCKS = Path(".snakemake") / "locks"


class RunOwner:
    """The process that runs a session from this folder, noted in a file.

    Parameters
    ----------
    folder : Path
        Where it is noted.
    files : collection of str
        Results and recordings of the session, as Snakemake names them.
    """

    def __init__(self, folder: Path, files: Collection[str]) -> None:
        self.path = folder / "head.json"
        self._folder = folder
        self._files = set(files)

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Return that of a session run from the current folder."""
        key = digest_of([str(plan.paths.output_root.absolute()), str(Path.cwd())])[:10]
        files = {*plan.results, *(str(recording.path) for recording in plan.recordings)}
        return cls((DEFAULT_FOLDER / key).absolute(), files)

    def take_over(self, what_goes_on: str) -> str:
        """Note this process; remove Snakemake's locks of one that died.

        Parameters
        ----------
        what_goes_on : str
            What becomes of the dead run's jobs, for the remark.

        Returns
        -------
        str
            A remark for the user, or nothing.
        """
        remark = ""
        before = self.read()
        me = {"host": platform.node(), "pid": os.getpid(), "born": born(os.getpid())}
        if before is not None and before != me:
            name = f"process {before['pid']} on {before['host']}"
            if self.lives(before):
                return (
                    f"Another snakemake works on this session: {name}. Wait for it to end, or stop "
                    "it; do not unlock."
                )
            if self.remove_locks():
                remark = f"The run of {name} was killed; this one goes on, {what_goes_on}."
        if before != me:
            self._note(me)
        return remark

    def wait_for_jobs(self, plan: Plan) -> None:
        """Wait a little for the jobs of a run that was killed: they do not end with it.

        Raises
        ------
        PyflowregError
            If they go on: Snakemake would remove the files they are making.
        """
        before = self.read()
        if before is None or self.lives(before):
            return
        from pyflowreg.io import file_lock
        from pyflowreg.session.locks import at_work, remove_left_lock

        names = [recording.name for recording in plan.recordings]
        started = time.monotonic()
        while found := at_work(plan.paths, names):
            if time.monotonic() - started > file_lock.WAIT_HERE:
                raise PyflowregError(
                    f"The run of process {before['pid']} on {before['host']} was killed, but its "
                    f"jobs go on: {', '.join(found)}. Wait for them, or stop them (`kill`; they "
                    "save what they have), and run again."
                )
            time.sleep(file_lock.EVERY)
        # If they have finished everything, nobody will take the lock, and give it back.
        remove_left_lock(plan.config)

    def read(self) -> dict[str, Any] | None:
        """Return who is noted: host, pid, born; None if nobody is."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(found, dict) or not {"host", "pid", "born"} <= set(found):
            return None
        return found if isinstance(found["pid"], int) else None

    def lives(self, owner: dict[str, Any]) -> bool:
        """Return whether that process runs; of another machine by its last sign of life."""
        if owner["host"] == platform.node():
            found = born(owner["pid"])
            return found is not None and found == owner["born"]
        # In the time of the disk that both see.
        probe = self._folder / f".{uuid.uuid4().hex}"
        probe.touch()
        silent = probe.stat().st_mtime - self.path.stat().st_mtime
        probe.unlink()
        return silent < DEAD_SECONDS

    def _note(self, me: dict[str, Any]) -> None:
        """Note this process, give signs of life, and take the note away in the end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / f".{uuid.uuid4().hex}"
        new.write_text(json.dumps(me), encoding="utf-8")
        new.replace(self.path)
        threading.Thread(target=self._beat, daemon=True).start()
        atexit.register(self._forget, me)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _forget(self, me: dict[str, Any]) -> None:
        if self.read() == me:
            self.path.unlink(missing_ok=True)

    def remove_locks(self) -> bool:
        """Remove Snakemake's locks on this session's files, as old as a dead owner.

        Returns
        -------
        bool
            Whether there were any.
        """
        last_beat = self.path.stat().st_mtime
        removed = False
        for lock in LOCKS.glob("*.lock"):
            try:
                ours = self._files & set(lock.read_text(encoding="utf-8").splitlines())
                old = lock.stat().st_mtime <= last_beat + BEAT_SECONDS
            except OSError:
                continue
            if old and ours:
                lock.unlink(missing_ok=True)
                removed = True
        return removed
