"""Grid Engine (Sun, Son of, Univa, Altair): options of qsub, and what its commands are asked."""

from __future__ import annotations

import math
import re

from pyflowreg.cluster.commands import KILLED, ask, qdel, user
from pyflowreg.cluster.jobbook import JobRecord
from pyflowreg.cluster.requests import Request, plain_name

NAME = "sge"
TITLE = "Grid Engine"
SUBMIT = "qsub"
DIRECTIVE = "#$"
TASK = "SGE_TASK_ID"
FOLDER = "SGE_O_WORKDIR"
ARRAY_LOG = "$JOB_ID.$TASK_ID"
SITE_KEYS = ("queue", "project", "account", "pe", "memory", "time", "disk", "gpu", "extra")
ACCOUNTING_SECONDS = 10.0
# "failed" of the accounting record: the job was killed at one of its limits.
_AT_LIMIT = 37
# Letters of a name that qstat shows.
_SHOWN = 10

cancel = qdel


def options(request: Request) -> list[list[str]]:
    """Return the options of qsub, one list per option.

    Parameters
    ----------
    request : Request
        The job. Memory is divided by the number of slots, because Grid Engine multiplies it.

    Returns
    -------
    list of list of str
        For the command line, or for lines that begin with #$.
    """
    result = [["-N", plain_name(request.name)], ["-S", "/bin/bash"], ["-cwd"], ["-V"]]
    result += [["-j", "y"], ["-o", str(request.log)], ["-r", "n"]]
    if request.threads > 1:
        result.append(["-pe", request.option("pe", "smp"), str(request.threads)])
    limits = _limits(request)
    if limits:
        result.append(["-l", ",".join(limits)])
    if request.option("queue"):
        result.append(["-q", request.option("queue")])
    if request.option("project"):
        result.append(["-P", request.option("project")])
    if request.option("account"):
        result.append(["-A", request.option("account")])
    if request.array:
        result.append(["-t", f"1-{request.array}"])
        if request.at_once:
            result.append(["-tc", str(request.at_once)])
    return result + ([request.extra] if request.extra else [])


def dependency(request: Request, identifier: str) -> list[str]:
    """Return the options that let a job wait for the end of another, whether it succeeded or not.

    Parameters
    ----------
    request : Request
        The job that waits.
    identifier : str
        The job it waits for.

    Returns
    -------
    list of str
        For the command line.
    """
    return ["-hold_jid", identifier]


def _limits(request: Request) -> list[str]:
    limits = []
    if request.minutes:
        limits.append(f"{request.option('time', 'h_rt')}={request.minutes * 60}")
    if request.mem_mb:
        each = math.ceil(request.mem_mb / request.threads)
        names = request.option("memory", "mem_free").split("+")
        limits += [f"{name}={each}M" for name in names if name != "none"]
    if request.disk_mb and request.option("disk"):
        limits.append(f"{request.option('disk')}={math.ceil(request.disk_mb / request.threads)}M")
    if request.gpus:
        limits.append(f"{request.option('gpu', 'gpu')}={request.gpus}")
    return limits


def job_id(answer: str) -> str | None:
    """Return the identifier in what ``qsub -terse`` printed.

    Parameters
    ----------
    answer : str
        Standard output; for an array ``17.1-5:1``.

    Returns
    -------
    str or None
        None if there is none.
    """
    found = re.search(r"^\s*(\d+)(?:\.\d+-\d+:\d+)?\s*$", answer, re.MULTILINE)
    return found[1] if found else None


def submit_flags() -> list[str]:
    """Return options that make the command print the identifier and nothing else."""
    return ["-terse"]


def active(name: str = "") -> dict[str, str] | None:
    """Return the jobs of this user that wait or run.

    Parameters
    ----------
    name : str
        Not used: qstat shows the first ten letters of names only.

    Returns
    -------
    dict or None
        State by identifier; None if Grid Engine does not answer.
    """
    rows = _rows()
    return None if rows is None else {row[0]: row[4] for row in rows}


def _rows() -> list[list[str]] | None:
    """Return identifier, priority, name, user and state of each job, and more."""
    answer = ask(["qstat", "-u", user()])
    if answer.status != 0:
        return None
    rows = (line.split() for line in answer.text.splitlines())
    return [row for row in rows if len(row) > 4 and row[0].isdigit()]


def job_name(slot: str, mark: str) -> str:
    """Return the name of a job, which begins with what no other job has.

    Parameters
    ----------
    slot : str
        Rule and wildcards.
    mark : str
        Eight letters and digits.

    Returns
    -------
    str
        The first ten letters are all that qstat shows.
    """
    return plain_name(f"p{mark}_{slot}")


def named(name: str) -> list[str] | None:
    """Return the jobs of this user that wait or run under a name.

    Parameters
    ----------
    name : str
        See `job_name`.

    Returns
    -------
    list of str or None
        Identifiers; None if Grid Engine does not answer.
    """
    rows = _rows()
    if rows is None:
        return None
    return [row[0] for row in rows if row[2][:_SHOWN] == name[:_SHOWN]]


def is_stuck(state: str) -> bool:
    """Return whether a job waits for ever: it could not be started.

    Parameters
    ----------
    state : str
        As in the answer of `active`.

    Returns
    -------
    bool
        True for Eqw and the like.
    """
    return "E" in state


def why_stuck(identifier: str) -> str:
    """Return why a job could not be started.

    Parameters
    ----------
    identifier : str
        The job.

    Returns
    -------
    str
        Grid Engine's words.
    """
    answer = ask(["qstat", "-j", identifier])
    found = re.search(r"^error reason\s*\d*\s*:\s*(.*)$", answer.text, re.MULTILINE)
    return f"could not be started: {found[1].strip() if found else 'state Eqw'}"


def ended(record: JobRecord) -> tuple[bool | None, str]:
    """Return how a job ended that left no exit status.

    Parameters
    ----------
    record : JobRecord
        What was submitted.

    Returns
    -------
    tuple
        Whether it succeeded, None if that is not known, and how it ended, in words.
    """
    answer = ask(["qacct", "-j", record.job_id], ACCOUNTING_SECONDS)
    if answer.status != 0:
        return None, KILLED
    entry = dict(re.findall(r"^(\w+)\s+(.*?)\s*$", answer.text, re.MULTILINE))
    if record.name and entry.get("jobname", record.name)[:_SHOWN] != record.name[:_SHOWN]:
        return None, "lost; its number is another job's by now"
    failed = _leading(entry.get("failed", "0"))
    if failed == 0 and _leading(entry.get("exit_status", "0")) == 0:
        return True, ""
    minutes, mem_mb = record.requested.get("runtime", 0), record.requested.get("mem_mb", 0)
    used = _leading(entry.get("ru_wallclock", "0"))
    if failed == _AT_LIMIT or (minutes and used >= minutes * 60):
        return False, f"ended at its time limit of {minutes} min"
    if mem_mb and _megabytes(entry.get("maxvmem", "0")) >= 0.98 * mem_mb:
        return False, f"killed, probably because it needed more than the {mem_mb} MB it reserved"
    return False, KILLED


def _leading(text: str) -> float:
    found = re.match(r"[0-9.]+", text)
    return float(found[0]) if found else 0.0


def _megabytes(text: str) -> float:
    unit = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
    return _leading(text) * unit.get(text.strip()[-1:].upper(), 1 / 1024**2)
