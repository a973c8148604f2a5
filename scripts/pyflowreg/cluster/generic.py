"""Submitting, watching and cancelling one job for Snakemake's executor cluster-generic.

The scripts in profiles/sge and profiles/pbs call these functions.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pyflowreg.cluster import pbs, sge
from pyflowreg.cluster.commands import ask
from pyflowreg.cluster.jobbook import (
    RESULTS_VARIABLE,
    RUN_VARIABLE,
    JobBook,
    JobRecord,
    digest_of,
    slot_of,
)
from pyflowreg.cluster.requests import Request, plain_name

SCHEDULERS: dict[str, ModuleType] = {sge.NAME: sge, pbs.NAME: pbs}

RUNNING, SUCCESS, FAILED = "running", "success", "failed"
PROPERTIES = "# properties = "
# One question to the scheduler serves all jobs for so long.
QUEUE_SECONDS = 10.0
# How late a file of a finished job may become visible on a shared disk.
GRACE_SECONDS = 60.0
SIGTERM_STATUS = 143

# Not a trap on EXIT: a bash that dies of SIGTERM runs it with the status of the last command, 0,
# and a job that was cancelled would count as finished.
SCRIPT = """\
#!/bin/bash
# {slot}
finish() {{
  echo "$1" > {exit}.new
  mv {exit}.new {exit}
  exit "$1"
}}
trap 'finish {terminated}' TERM
/bin/bash {jobscript}
finish $?
"""


def _seconds(variable: str, default: float) -> float:
    try:
        return float(os.environ.get(variable, default))
    except ValueError:
        return default


def read_jobscript(jobscript: Path) -> tuple[dict[str, Any], int]:
    """Return what Snakemake wrote about a job into its script.

    Parameters
    ----------
    jobscript : Path
        Made by Snakemake.

    Returns
    -------
    tuple
        Its properties, and the number of this attempt.

    Raises
    ------
    ValueError
        If it is no jobscript of Snakemake.
    """
    text = jobscript.read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith(PROPERTIES):
            attempt = re.search(r"--attempt '?(\d+)", text)
            return json.loads(line[len(PROPERTIES) :]), int(attempt[1]) if attempt else 1
    raise ValueError(f"{jobscript} has no line that begins with {PROPERTIES!r}")


def request_of(properties: Mapping[str, Any], scheduler: str, slot: str, log: Path) -> Request:
    """Return what a job asks for.

    Parameters
    ----------
    properties : mapping
        Of the jobscript.
    scheduler : str
        Resources that begin with its name are those of the site: ``sge_queue`` and the like.
    slot : str
        See `slot_of`.
    log : Path
        Gets what the job writes.

    Returns
    -------
    Request
    """
    resources: Mapping[str, Any] = properties.get("resources") or {}
    prefix = f"{scheduler}_"
    site = {key[len(prefix) :]: str(v) for key, v in resources.items() if key.startswith(prefix)}
    return Request(
        name=slot,
        log=log,
        threads=max(1, int(properties.get("threads") or 1)),
        mem_mb=_whole(resources.get("mem_mb")),
        minutes=_whole(resources.get("runtime")),
        gpus=_whole(resources.get("gpu")),
        disk_mb=_whole(resources.get("disk_mb")),
        site=site,
    )


def _whole(value: Any) -> int:
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError):
        return 0


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
    running = adopt(module, book, slot, outputs)
    if running is not None:
        _say(running)
        return 0
    book.forget_failure(slot)
    token = f"{plain_name(slot)}-{uuid.uuid4().hex[:8]}"
    log = book.file("logs", f"{plain_name(slot)}-{attempt}-{token[-8:]}.log")
    request = request_of(properties, scheduler, slot, log)
    script = _write_script(book, slot, token, jobscript)
    flat = [word for option in module.options(request) for word in option]
    answer = ask([module.SUBMIT, *module.submit_flags(), *flat, str(script)], patience=300)
    identifier = module.job_id(answer.text) if answer.status == 0 else None
    if identifier is None:
        sys.stderr.write(f"{answer.text}{answer.errors}")
        return answer.status or 1
    book.write(
        JobRecord(
            slot=slot,
            job_id=identifier,
            outputs=outputs,
            run=this_run(),
            attempt=attempt,
            log=[str(path) for path in properties.get("log") or []],
            scheduler_log=str(log),
            token=token,
            requested={
                "mem_mb": request.mem_mb,
                "runtime": request.minutes,
                "threads": request.threads,
                "gpu": request.gpus,
            },
            submitted=time.time(),
        )
    )
    _say(identifier)
    return 0


def _write_script(book: JobBook, slot: str, token: str, jobscript: Path) -> Path:
    """Write a script that runs another one and leaves its exit status."""
    script = book.file("scripts", f"{token}.sh")
    text = SCRIPT.format(
        slot=" ".join(slot.split()),
        exit=shlex.quote(str(book.exit_file(token))),
        jobscript=shlex.quote(str(jobscript.absolute())),
        terminated=SIGTERM_STATUS,
    )
    script.write_text(text, encoding="utf-8")
    return script


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
    """
    record = book.read(slot)
    if record is None or record.run == this_run():
        return None
    queue = _queue(module, book)
    alive = queue is None or record.job_id in queue["jobs"]
    if record.outputs != outputs:
        if alive:
            module.cancel([record.job_id])
        return None
    if not alive and not _finished_meanwhile(book, record):
        return None
    record.run = this_run()
    book.write(record)
    sys.stderr.write(f"{slot}: job {record.job_id} of an earlier run goes on.\n")
    return record.job_id


def _finished_meanwhile(book: JobBook, record: JobRecord) -> bool:
    """Return whether a job has succeeded since Snakemake looked for its files."""
    if not record.token or book.exit_status(record.token) != 0:
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
    queue = _queue(module, book)
    if queue is None or queue["time"] < record.submitted:
        return RUNNING
    state = queue["jobs"].get(record.job_id)
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
    if known is None and late < _seconds("PYFLOWREG_GRACE_SECONDS", GRACE_SECONDS):
        return RUNNING
    record.verdict = verdict
    book.write(record)
    return FAILED


def _conclude(module: ModuleType, book: JobBook, record: JobRecord, code: int) -> str:
    """Enter how a job ended that left an exit status other than 0."""
    verdict = ""
    if code == SIGTERM_STATUS:
        verdict = module.ended(record)[1]
    record.verdict = verdict
    book.write(record)
    return FAILED


def _queue(module: ModuleType, book: JobBook) -> dict[str, Any] | None:
    """Return the jobs in the queue, asking the scheduler at most once in `QUEUE_SECONDS`."""
    path = book.file("queue", f"{module.NAME}.json")
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - kept["time"]
        if 0 <= age < _seconds("PYFLOWREG_QUEUE_SECONDS", QUEUE_SECONDS):
            return kept
    except (OSError, ValueError, KeyError):
        pass
    asked = time.time()
    jobs = module.active()
    if jobs is None:
        return None
    fresh = {"time": asked, "jobs": jobs}
    beside = path.with_name(f".{uuid.uuid4().hex}")
    beside.write_text(json.dumps(fresh), encoding="utf-8")
    beside.replace(path)
    return fresh


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
