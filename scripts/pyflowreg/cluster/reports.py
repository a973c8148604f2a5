"""What the user is told about a job that failed."""

from __future__ import annotations

import re
from pathlib import Path

from pyflowreg.cluster.jobbook import JobRecord

SHOWN_LINES = 12
_LONGEST_LINE = 300
_READ_BYTES = 64 * 1024
_FINISHED = re.compile(r" (ERROR|CRITICAL) |Traceback|Error\b|^\S+ \S+ INFO Done\.$", re.MULTILINE)
# What the Snakemake inside a job says about itself.
_CHATTER = re.compile(
    r"^(\s*$|SNAKEMAKE$|=+$|-+$|\s+(Date|Workflow ID|Platform|Host|User|Snakemake version|Python "
    r"version|Command|Snakefile|Base directory|Run directory|Working directory|Config file|Config "
    r"MD5):|host: |Building DAG|Using shell|Provided |Select jobs|Execute \d|Rules claiming|"
    r"\[\w{3} \w{3} |Conda environments|Singularity containers|Shutting down|Will exit|"
    r"Job counts|Storing output|Exiting because|Complete log|WorkflowError:|At least one job|"
    r"RuleException:|srun: |Assuming unrestricted|Group job:|CalledProcessError in)"
)


def last_lines(path: Path, count: int = SHOWN_LINES) -> list[str]:
    """Return the last lines of a file, none if it cannot be read.

    Parameters
    ----------
    path : Path
        A log.
    count : int
        Lines.

    Returns
    -------
    list of str
        Without ends of line; long ones are cut.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _READ_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = [line for line in text.splitlines() if line.strip()]
    return [line[:_LONGEST_LINE] for line in lines[-count:]]


def evidence(record: JobRecord) -> list[str]:
    """Return the last lines of a job's own log, or of the scheduler's if it has none.

    Parameters
    ----------
    record : JobRecord
        The job.

    Returns
    -------
    list of str
        Lines for the terminal, below a line that names the file.
    """
    for name in record.log:
        lines = last_lines(Path(name))
        if lines:
            return [f"last lines of {name}:", *(f"    {line}" for line in lines)]
    if not record.scheduler_log:
        return []
    lines = last_lines(Path(record.scheduler_log), 200)
    told = [line for line in lines if not _CHATTER.search(line)][-SHOWN_LINES:]
    if not told:
        return []
    return [f"last lines of {record.scheduler_log}:", *(f"    {line}" for line in told)]


def ended_silently(record: JobRecord) -> bool:
    """Return whether the log of a job stops in the middle of its work, without an error.

    Parameters
    ----------
    record : JobRecord
        The job.

    Returns
    -------
    bool
        True also for a log of a few lines; False if there is none.
    """
    for name in record.log:
        text = "\n".join(last_lines(Path(name), 50))
        if text:
            return not _FINISHED.search(text)
    return False


def failure_report(record: JobRecord, verdict: str, restarts: int) -> str:
    """Return how a job ended, why, and what happens next.

    Parameters
    ----------
    record : JobRecord
        The job.
    verdict : str
        How it ended, in words; empty: it failed by itself.
    restarts : int
        How often Snakemake may try again.

    Returns
    -------
    str
        Several lines.
    """
    if not verdict and ended_silently(record):
        verdict = (
            "ended without an error message in its log, perhaps killed because it needed more "
            f"than the {record.requested.get('mem_mb', 0)} MB it had reserved"
        )
    lines = [f"{record.slot} (job {record.job_id}): {verdict or 'failed'}."]
    left = restarts - record.attempt + 1
    if left > 0:
        lines.append(
            f"It is submitted again with more memory and time, attempt {record.attempt + 1} of "
            f"{restarts + 1}."
        )
    return "\n".join([*lines, *evidence(record)])
