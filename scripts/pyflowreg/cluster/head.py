"""What the process that submits jobs does before it starts: the head of a run on a cluster."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shlex
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyflowreg.cluster import sge, slurm
from pyflowreg.cluster.hooks import SLURM, Hooks
from pyflowreg.cluster.jobbook import (
    FOLDER_VARIABLE,
    RESULTS_VARIABLE,
    RUN_VARIABLE,
    JobBook,
    digest_of,
)
from pyflowreg.workflow.run_owner import RunOwner

if TYPE_CHECKING:
    from pyflowreg.workflow.plan import Plan

logger = logging.getLogger(__name__)


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
        self.owner = RunOwner.of(plan)
        key = self.owner.path.parent.name
        self.book = JobBook(self.owner.path.parent)
        self.run = f"{int(time.time())}-{uuid.uuid4().hex[:8]}"
        self.hooks = Hooks(self.book, self.run, f"pyflowreg-{key}", self.absolute_command)

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
        remark = self.owner.take_over("with the jobs that are still waiting or running")
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

    def cancel_unfinished(self) -> None:
        """Cancel what this run submitted and what has not ended.

        Snakemake does that itself, but not for jobs whose state it is just asking for.
        """
        by_slurm = [key for key, where in self.hooks.unfinished.items() if where == SLURM]
        others = [key for key, where in self.hooks.unfinished.items() if where != SLURM]
        slurm.cancel(by_slurm)
        sge.cancel(others)  # qdel, as for PBS
