"""Submitting, watching and cancelling one job for Snakemake's executor cluster-generic.

The scripts in profiles/sge and profiles/pbs call these functions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from pyflowreg.cluster import pbs, sge
from pyflowreg.cluster.adoption import SUBMISSION_SECONDS, adopt, find, this_run
from pyflowreg.cluster.commands import TOO_SLOW, ask
from pyflowreg.cluster.jobbook import RESULTS_VARIABLE, JobBook, JobRecord, digest_of, slot_of
from pyflowreg.cluster.jobscripts import SIGTERM_STATUS, read_jobscript, request_of, write_script
from pyflowreg.cluster.queues import known_queue, seconds_of
from pyflowreg.cluster.requests import Request, plain_name
from pyflowreg.errors import PyflowregError

SCHEDULERS: dict[str, ModuleType] = {sge.NAME: sge, pbs.NAME: pbs}

RUNNING, SUCCESS, FAILED = "running", "success", "failed"
# How late a file of a finished job may become visible on a shared disk.
GRACE_SECONDS = 60.0


def submit(scheduler: str, jobscript: Path) -> int:
    """Submit a job, or find that it runs already; its identifier goes to standard output.

    Parameters
    ----------
    scheduler : str
        "sge" or "pbs".
    jobscript : Path
        Made by Snakemake.

    Returns
    -------
    int
        Exit status; the scheduler's own message is on standard error.
    """
    module, book = SCHEDULERS[scheduler], JobBook.of_environment()
    properties, attempt = read_jobscript(jobscript)
    rule = str(properties.get("rule") or properties.get("groupid") or "job")
    slot = slot_of(rule, properties.get("wildcards") or {})
    outputs = digest_of(properties.get("output") or [os.environ.get(RESULTS_VARIABLE, "")])
    try:
        running = adopt(module, book, slot, outputs)
    except PyflowregError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if running is not None:
        _say(running)
        return 0
    book.forget_failure(slot)
    mark = uuid.uuid4().hex[:8]
    token = f"{plain_name(slot)}-{mark}"
    log = book.file("logs", f"{plain_name(slot)}-{attempt}-{mark}.log")
    request = request_of(properties, scheduler, module.job_name(slot, mark), log)
    record = JobRecord(
        slot=slot,
        job_id="",
        outputs=outputs,
        run=this_run(),
        attempt=attempt,
        log=[str(path) for path in properties.get("log") or []],
        scheduler_log=str(log),
        token=token,
        requested=_requested(request),
        submitted=time.time(),
        scheduler=scheduler,
        name=request.name,
        submitter=f"{os.uname().nodename}:{os.getpid()}",
    )
    script = write_script(book, slot, token, jobscript)
    return _hand_over(module, book, record, request, script)


def _requested(request: Request) -> dict[str, int]:
    return {
        "mem_mb": request.mem_mb,
        "runtime": request.minutes,
        "threads": request.threads,
        "gpu": request.gpus,
    }


def _hand_over(
    module: ModuleType, book: JobBook, record: JobRecord, request: Request, script: Path
) -> int:
    """Enter a job in the book, submit it, and enter its identifier; return an exit status.

    It is entered first, so that it is found by its name if this process is killed. The same if
    the answer is lost: a scheduler may have taken a job although its command failed.
    """
    book.write(record)
    flat = [word for option in module.options(request) for word in option]
    command = [module.SUBMIT, *module.submit_flags(), *flat, str(script)]
    answer = ask(command, patience=SUBMISSION_SECONDS)
    identifier = module.job_id(answer.text) if answer.status == 0 else None
    if identifier is None:
        found = find(module, record)
        if not found:
            sys.stderr.write(f"{answer.text}{answer.errors}")
            if found is False and answer.status not in (0, TOO_SLOW):
                book.forget(record)  # refused
            return answer.status or 1
    record.job_id = identifier or record.job_id
    book.write(record)
    _say(record.job_id)
    return 0


def status(scheduler: str, identifier: str) -> int:
    """Tell Snakemake how a job is; the answer goes to standard output.

    Parameters
    ----------
    scheduler : str
        "sge" or "pbs".
    identifier : str
        The job.

    Returns
    -------
    int
        0.
    """
    _say(state_of(scheduler, identifier))
    return 0


def state_of(scheduler: str, identifier: str) -> str:
    """Return how a job is.

    The answer comes at once: while jobs are asked for, Ctrl-C does not reach those that wait for an
    answer.

    Parameters
    ----------
    scheduler : str
        "sge" or "pbs".
    identifier : str
        The job.

    Returns
    -------
    str
        `RUNNING` (or waiting), `SUCCESS` or `FAILED`.
    """
    module, book = SCHEDULERS[scheduler], JobBook.of_environment()
    record = book.by_id(identifier)
    return FAILED if record is None else _status_of(module, book, record)


def scheduler_of(command: str | None) -> str | None:
    """Return the scheduler whose jobs a command asks for.

    Parameters
    ----------
    command : str or None
        Command of a profile for the state of a job.

    Returns
    -------
    str or None
        "sge" or "pbs"; None if it is not the program in profiles/ of this project.
    """
    profiles = Path(__file__).resolve().parents[3] / "profiles"
    program = Path(command or "").resolve()
    found = [name for name in SCHEDULERS if program == profiles / name / "status.py"]
    return found[0] if found else None


def _status_of(module: ModuleType, book: JobBook, record: JobRecord) -> str:
    code = book.exit_status(record.token)
    if code == 0:
        book.forget(record)
        return SUCCESS
    if code is not None:
        return _conclude(module, book, record, code)
    queue = known_queue(module, book)
    if queue is None or queue["asked"] < record.submitted:
        return RUNNING
    state = queue["jobs"].get(record.job_id)
    if state is not None and record.name and this_run() not in ("", record.run):
        # Followed without a look at its name, because the scheduler did not answer.
        ours = find(module, record)
        if ours is None:
            return RUNNING
        if ours:
            record.run = this_run()
            book.write(record)
        else:
            state = None
    if state is not None:
        if not module.is_stuck(state):
            return RUNNING
        record.verdict = module.why_stuck(record.job_id)
        module.cancel([record.job_id])
        book.write(record)
        return FAILED
    if not record.missing_since:
        record.missing_since = time.time()
        book.write(record)
    known, verdict = module.ended(record)
    if known:
        book.forget(record)
        return SUCCESS
    late = time.time() - record.missing_since
    if known is None and late < seconds_of("PYFLOWREG_GRACE_SECONDS", GRACE_SECONDS):
        return RUNNING
    record.verdict = verdict
    book.write(record)
    return FAILED


def _conclude(module: ModuleType, book: JobBook, record: JobRecord, code: int) -> str:
    """Enter how a job ended that left an exit status other than 0."""
    record.verdict = module.ended(record)[1] if code == SIGTERM_STATUS else ""
    book.write(record)
    return FAILED


def cancel(scheduler: str, identifiers: Sequence[str]) -> int:
    """Cancel jobs without waiting for the scheduler: Snakemake gives up after two seconds.

    Parameters
    ----------
    scheduler : str
        "sge" or "pbs".
    identifiers : sequence of str
        The jobs.

    Returns
    -------
    int
        0.
    """
    if identifiers:
        subprocess.Popen(
            ["qdel", *identifiers],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
