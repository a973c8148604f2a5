"""SLURM: options of sbatch, and what squeue and scancel are asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyflowreg.cluster.commands import NOT_THERE, TOO_SLOW, Answer, ask, user
from pyflowreg.cluster.requests import Request, clock, plain_name

NAME = "slurm"
SUBMIT = "sbatch"
DIRECTIVE = "#SBATCH"
TASK = "SLURM_ARRAY_TASK_ID"
FOLDER = "SLURM_SUBMIT_DIR"
ARRAY_LOG = "%A_%a"
SITE_KEYS = ("partition", "account", "qos", "constraint", "gpu_request", "gpu_type", "extra")

# What the states of a job mean, for the user.
_MEANINGS = {
    "OUT_OF_MEMORY": "killed because it needed more than the {mem_mb} MB it had reserved",
    "TIMEOUT": "ended at its time limit of {runtime} min",
    "DEADLINE": "ended at the deadline of its partition",
    "CANCELLED": "cancelled from outside (scancel, or by an administrator)",
    "NODE_FAIL": "lost with its node",
    "BOOT_FAIL": "lost because its node did not start",
    "PREEMPTED": "stopped in favour of a job with higher priority",
}

# States in which a job has not ended.
UNFINISHED = frozenset(
    {
        *("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "STOPPED"),
        *("REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "RESIZING", "SIGNALING", "STAGE_OUT"),
    }
)
# What sbatch and squeue say when the job may have been accepted all the same.
_UNCLEAR = re.compile(
    r"timed out|timeout|did not answer|unable to contact|connection|communication|zero bytes|"
    r"unexpected message|slurmctld.*(not|down)",
    re.IGNORECASE,
)


def options(request: Request) -> list[list[str]]:
    """Return the options of sbatch, one list per option.

    Parameters
    ----------
    request : Request
        The job.

    Returns
    -------
    list of list of str
        For the command line, or for lines that begin with #SBATCH.
    """
    result = [[f"--job-name={plain_name(request.name)}"], [f"--output={request.log}"]]
    result += [["--ntasks=1"], [f"--cpus-per-task={request.threads}"]]
    if request.mem_mb:
        result.append([f"--mem={request.mem_mb}M"])
    if request.minutes:
        result.append([f"--time={clock(request.minutes)}"])
    for key, option in (
        ("partition", "partition"),
        ("account", "account"),
        ("qos", "qos"),
        ("constraint", "constraint"),
    ):
        value = request.option(key)
        if value:
            result.append([f"--{option}={value}"])
    if request.gpus:
        result.append([_gpus(request)])
    if request.array:
        limit = f"%{request.at_once}" if request.at_once else ""
        result.append([f"--array=1-{request.array}{limit}"])
    return result + [[word] for word in request.extra]


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
        For the command line.
    """
    return [f"--dependency=afterok:{identifier}", "--kill-on-invalid-dep=yes"]


def _gpus(request: Request) -> str:
    """Return the request for GPUs in the way of the site: --gpus, or --gres where it must be."""
    kind = request.option("gpu_type")
    what = f"{kind}:{request.gpus}" if kind else str(request.gpus)
    if request.option("gpu_request", "gpus") == "gres":
        return f"--gres=gpu:{what}"
    return f"--gpus={what}"


def job_id(answer: str) -> str | None:
    """Return the identifier in what ``sbatch --parsable`` printed.

    Parameters
    ----------
    answer : str
        Standard output.

    Returns
    -------
    str or None
        None if there is none.
    """
    found = re.search(r"^(\d+)(?:;\S*)?$", answer.strip(), re.MULTILINE)
    return found[1] if found else None


def submit_flags() -> list[str]:
    """Return options that make the command print the identifier and nothing else."""
    return ["--parsable"]


def active(name: str = "") -> dict[str, str] | None:
    """Return the jobs of this user that wait or run.

    Parameters
    ----------
    name : str
        Only jobs of this name.

    Returns
    -------
    dict or None
        State by identifier, jobs of arrays one by one (``17_3``); None if SLURM does not answer.
    """
    only = [f"--name={name}"] if name else []
    answer = ask(["squeue", "--noheader", "--array", f"--user={user()}", *only, "--format=%i %T"])
    if answer.status != 0:
        return None
    rows = (line.split() for line in answer.text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def states(ids: Sequence[str]) -> dict[str, str] | None:
    """Return the states of jobs that SLURM remembers, also of those that have ended.

    Parameters
    ----------
    ids : sequence of str
        Identifiers.

    Returns
    -------
    dict or None
        State by identifier; None if SLURM does not answer.
    """
    only = f"--jobs={','.join(ids)}"
    answer = ask(["squeue", "--noheader", "--array", "--states=all", only, "--format=%i|%T"])
    if answer.status != 0:
        # That is said if there is none of them.
        return {} if "invalid job id" in answer.errors.lower() else None
    return _pairs(answer.text)


def accounted(ids: Sequence[str]) -> dict[str, str]:
    """Return the states of jobs in the accounting database.

    Parameters
    ----------
    ids : sequence of str
        Identifiers.

    Returns
    -------
    dict
        State by identifier; empty if there is no database.
    """
    # Long lists of members (118_[1-3,7]) are not cut.
    whole = ["env", "SLURM_BITSTR_LEN=0"]
    shown = ["--noheader", "--parsable2", "--format=JobID,State"]
    answer = ask([*whole, "sacct", "-X", f"--jobs={','.join(ids)}", *shown])
    return _pairs(answer.text) if answer.status == 0 else {}


def _pairs(text: str) -> dict[str, str]:
    rows = (line.strip().split("|") for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def unclear(answer: Answer) -> bool:
    """Return whether a job may be in the queue although sbatch failed.

    Parameters
    ----------
    answer : Answer
        Of sbatch.

    Returns
    -------
    bool
    """
    if answer.status == 0 or answer.status == TOO_SLOW or answer.status < 0:
        return True
    return answer.status != NOT_THERE and bool(_UNCLEAR.search(answer.errors))


@dataclass(frozen=True)
class Label:
    """What tells a job in the queue from others of the same name.

    Parameters
    ----------
    job_id : str
        Identifier, ``118_3`` for the member of an array.
    array : str
        Identifier of the array, ``118``.
    script : str
        Its script.
    comment : str
        As given to sbatch.
    """

    job_id: str
    array: str
    script: str
    comment: str


def labels(name: str) -> list[Label] | None:
    """Return the waiting and running jobs of one name.

    Parameters
    ----------
    name : str
        Of the jobs.

    Returns
    -------
    list of Label or None
        None if SLURM does not answer.
    """
    only = [f"--user={user()}", f"--name={name}"]
    answer = ask(["squeue", "--noheader", "--array", *only, "--format=%i|%F|%o|%k"])
    if answer.status != 0:
        return None
    rows = (line.strip().split("|", 3) for line in answer.text.splitlines())
    return [Label(*row) for row in rows if len(row) == 4]


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs; those that have ended already are no error.

    Parameters
    ----------
    ids : sequence of str
        Identifiers.
    """
    if ids:
        ask(["scancel", *ids])


def meaning(state: str, requested: dict[str, int]) -> str:
    """Return in words how a job ended.

    Parameters
    ----------
    state : str
        SLURM's name of it.
    requested : dict
        mem_mb and runtime that the job had reserved.

    Returns
    -------
    str
        Empty for a job that failed by itself.
    """
    known = {"mem_mb": 0, "runtime": 0, **requested}
    return _MEANINGS.get(state.split()[0] if state else "", "").format(**known)
