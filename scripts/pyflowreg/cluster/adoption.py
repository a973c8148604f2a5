"""Jobs of Grid Engine and PBS that an earlier run, or an earlier attempt, has submitted.

A number alone does not tell whose a job is: schedulers use numbers again. Every job has a name of
its own, which is in the book before the scheduler gets the job.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from types import ModuleType

from pyflowreg.cluster.jobbook import RUN_VARIABLE, JobBook, JobRecord
from pyflowreg.cluster.queues import known_queue
from pyflowreg.errors import PyflowregError

# How long a scheduler may take to accept a job.
SUBMISSION_SECONDS = 300.0
_PAUSE = 0.5


def adopt(module: ModuleType, book: JobBook, slot: str, outputs: str) -> str | None:
    """Return the job of an earlier run that makes the same files and has not failed.

    A job of that slot which makes other files, because settings were changed, is cancelled: the
    two would write into one folder.

    Parameters
    ----------
    module : module
        Of the scheduler.
    book : JobBook
        Of the session.
    slot : str
        See `slot_of`.
    outputs : str
        Digest of the files.

    Returns
    -------
    str or None
        Its identifier.

    Raises
    ------
    PyflowregError
        If there may be such a job, and the scheduler does not tell.
    """
    record = book.read(slot)
    if record is not None and not record.job_id:
        record = _after_submission(book, record)
    if record is None or record.scheduler != module.NAME or record.verdict:
        return None
    if record.job_id and record.run == this_run():
        return None
    if record.token and book.exit_status(record.token) is not None:
        if record.outputs != outputs or not _finished_meanwhile(book, record):
            return None
        record.run = this_run()
    else:
        alive = _waits_or_runs(module, book, record)
        if alive is None and (record.outputs != outputs or not record.job_id):
            raise _unclear(module, record)
        if alive and record.outputs != outputs:
            module.cancel([record.job_id])
        if alive is False or record.outputs != outputs:
            return None
        if alive:  # otherwise its name is compared when the scheduler answers
            record.run = this_run()
    book.write(record)
    sys.stderr.write(f"{slot}: job {record.job_id}, submitted before, goes on.\n")
    return record.job_id


def _unclear(module: ModuleType, record: JobRecord) -> PyflowregError:
    job = f"job {record.job_id}" if record.job_id else f"a job named {record.name}"
    return PyflowregError(
        f"{record.slot}: {module.TITLE} does not tell whether {job}, submitted before, waits or "
        "runs, and two jobs must not write the same files. Start again when it answers."
    )


def _after_submission(book: JobBook, record: JobRecord) -> JobRecord | None:
    """Return the entry of a job when the process that submits it, if it lives, has done so."""
    host, _, number = record.submitter.rpartition(":")
    while (
        host == os.uname().nodename
        and number != str(os.getpid())
        and Path("/proc", number).is_dir()
        and 0 <= time.time() - record.submitted < SUBMISSION_SECONDS
    ):
        time.sleep(_PAUSE)
        newer = book.read(record.slot)
        if newer is None or newer.job_id:
            return newer
    return record


def _waits_or_runs(module: ModuleType, book: JobBook, record: JobRecord) -> bool | None:
    """Return whether a job is in the queue; None if the scheduler does not tell.

    The identifier is filled in if the scheduler's answer to the submission was lost.
    """
    queue = known_queue(module, book)
    if queue is None:
        return None
    if record.job_id and record.job_id not in queue["jobs"] and queue["asked"] >= record.submitted:
        return False
    return find(module, record)


def find(module: ModuleType, record: JobRecord) -> bool | None:
    """Return whether a job is in the queue, by its name.

    Parameters
    ----------
    module : module
        Of the scheduler.
    record : JobRecord
        The job; its identifier is filled in if it is not known.

    Returns
    -------
    bool or None
        None if the scheduler does not tell.
    """
    found = module.named(record.name)
    if not found:
        return None if found is None else False
    record.job_id = record.job_id or found[0]
    return record.job_id in found


def _finished_meanwhile(book: JobBook, record: JobRecord) -> bool:
    """Return whether a job has succeeded since Snakemake looked for its files."""
    if not record.job_id or book.exit_status(record.token) != 0:
        return False
    return book.exit_file(record.token).stat().st_mtime >= started_of(this_run())


def this_run() -> str:
    """Return the name of this run; empty outside of one."""
    return os.environ.get(RUN_VARIABLE, "")


def started_of(run: str) -> float:
    """Return when a run was started.

    Parameters
    ----------
    run : str
        Its name, which begins with that time.

    Returns
    -------
    float
        Seconds since 1970; infinity if the name does not tell.
    """
    found = re.match(r"(\d+)-", run)
    return float(found[1]) if found else float("inf")
