"""PBS Pro and OpenPBS: options of qsub, and what its commands are asked."""

from __future__ import annotations

import re
from pathlib import Path

from pyflowreg.cluster.commands import KILLED, ask, qdel
from pyflowreg.cluster.commands import user as user_name
from pyflowreg.cluster.jobbook import JobRecord
from pyflowreg.cluster.requests import Request, clock, plain_name

NAME = "pbs"
TITLE = "PBS"
SUBMIT = "qsub"
DIRECTIVE = "#PBS"
TASK = "PBS_ARRAY_INDEX"
FOLDER = "PBS_O_WORKDIR"
ARRAY_LOG = "^array_index^"
SITE_KEYS = ("queue", "account", "project", "chunk", "disk", "gpu", "umask", "extra")
LONGEST_NAME = 15  # of older versions
# Jobs start with umask 077 otherwise, and the group could not read the results.
UMASK = "022"

cancel = qdel


def options(request: Request) -> list[list[str]]:
    """Return the options of qsub, one list per option.

    Parameters
    ----------
    request : Request
        The job.

    Returns
    -------
    list of list of str
        For the command line, or for lines that begin with #PBS.
    """
    name = plain_name(request.name, LONGEST_NAME)
    result = [["-N", name], ["-j", "oe"], ["-o", str(request.log)], ["-V"]]
    if not request.array:  # an array that must not be run again is refused
        result.append(["-r", "n"])
    result.append(["-W", f"umask={request.option('umask', UMASK)}"])
    # One -l only: some wrappers of other schedulers take just the last.
    limits = [_chunk(request)]
    if request.minutes:
        limits.append(f"walltime={clock(request.minutes)}")
    result.append(["-l", ",".join(limits)])
    for key, option in (("queue", "-q"), ("account", "-A"), ("project", "-P")):
        if request.option(key):
            result.append([option, request.option(key)])
    if request.array:
        limit = f"%{request.at_once}" if request.at_once else ""
        result.append(["-J", f"1-{request.array}{limit}"])
    return result + ([request.extra] if request.extra else [])


def dependency(request: Request, identifier: str) -> list[str]:
    """Return the options that let a job wait until another has succeeded.

    Parameters
    ----------
    request : Request
        The job that waits.
    identifier : str
        The job it waits for.

    Returns
    -------
    list of str
        For the command line, with what else stands in that option.
    """
    return ["-W", f"umask={request.option('umask', UMASK)},depend=afterok:{identifier}"]


def _chunk(request: Request) -> str:
    parts = ["select=1", f"ncpus={request.threads}"]
    if request.mem_mb:
        parts.append(f"mem={request.mem_mb}mb")
    if request.gpus:
        parts.append(f"{request.option('gpu', 'ngpus')}={request.gpus}")
    if request.disk_mb and request.option("disk"):
        parts.append(f"{request.option('disk')}={request.disk_mb}mb")
    if request.option("chunk"):
        parts.append(request.option("chunk"))
    return ":".join(parts)


def job_id(answer: str) -> str | None:
    """Return the identifier that qsub printed.

    Parameters
    ----------
    answer : str
        Standard output.

    Returns
    -------
    str or None
        With the server's name, as other commands want it; None if there is none.
    """
    found = re.search(r"^\s*(\d+(?:\[\])?(?:\.\S+)?)\s*$", answer, re.MULTILINE)
    return found[1] if found else None


def submit_flags() -> list[str]:
    """Return options that make the command print the identifier and nothing else."""
    return []


def active(name: str = "") -> dict[str, str] | None:
    """Return the jobs of this user that wait or run.

    Parameters
    ----------
    name : str
        Not used.

    Returns
    -------
    dict or None
        State by identifier; qselect does not tell states apart. None if PBS does not answer.
    """
    answer = ask(["qselect", "-u", user_name()])
    if answer.status != 0:
        return None
    return {line.strip(): "active" for line in answer.text.splitlines() if line.strip()}


def job_name(slot: str, mark: str) -> str:
    """Return the name of a job, which ends with what no other job has.

    Parameters
    ----------
    slot : str
        Rule and wildcards.
    mark : str
        Eight letters and digits.

    Returns
    -------
    str
        As long as older versions allow.
    """
    return f"{plain_name(slot, LONGEST_NAME - len(mark) - 1)}-{mark}"


def named(name: str) -> list[str] | None:
    """Return the jobs of this user that wait or run under a name.

    Parameters
    ----------
    name : str
        See `job_name`.

    Returns
    -------
    list of str or None
        Identifiers; None if PBS does not answer.
    """
    answer = ask(["qselect", "-u", user_name(), "-N", name])
    return answer.text.split() if answer.status == 0 else None


def is_stuck(state: str) -> bool:
    """Return whether a job waits for ever; not known of PBS, which holds such a job.

    Parameters
    ----------
    state : str
        As in the answer of `active`.

    Returns
    -------
    bool
        False.
    """
    return False


def why_stuck(identifier: str) -> str:
    """Return why a job could not be started.

    Parameters
    ----------
    identifier : str
        The job.

    Returns
    -------
    str
        Words.
    """
    return f"job {identifier} could not be started"


def ended(record: JobRecord) -> tuple[bool | None, str]:
    """Return how a job ended that left no exit status, or that of a signal.

    Parameters
    ----------
    record : JobRecord
        What was submitted. PBS writes the reason into the job's log; most sites forget the job.

    Returns
    -------
    tuple
        Whether it succeeded, None if that is not known, and how it ended, in words.
    """
    try:
        text = Path(record.scheduler_log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"=>> PBS: job killed: (\w+) .*exceeded limit", text)
    if found and found[1] in ("mem", "vmem", "pmem", "pvmem"):
        mem_mb = record.requested.get("mem_mb", 0)
        return False, f"killed because it needed more than the {mem_mb} MB it had reserved"
    if found:
        return False, f"ended at its time limit of {record.requested.get('runtime', 0)} min"
    return None, KILLED
