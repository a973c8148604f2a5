"""SLURM: options of sbatch, and what squeue and scancel are asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyflowreg.cluster.commands import ask, user
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
