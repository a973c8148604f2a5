"""Arrays of SLURM for Snakemake's executor, in which every member runs its own command.

The executor's own arrays (2.8) run the first member's Snakemake around every other one: when one
fails, the results of the first are removed. They also leave jobs out where --jobs lets only a part
of a rule's jobs start, and give no member more time than the first has.
"""

from __future__ import annotations

import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pyflowreg.cluster import slurm
from pyflowreg.cluster.commands import ask
from pyflowreg.cluster.jobbook import JobBook

PATIENCE = 12
PAUSE_SECONDS = 10.0
SUBMIT_SECONDS = 300.0

Found = TypeVar("Found")
Enter = Callable[[Sequence[Any]], None]

SCRIPT = """\
#!/bin/bash
case "$SLURM_ARRAY_TASK_ID" in
{members}
esac
"""


def submit_array(executor: Any, jobs: Sequence[Any], book: JobBook, enter: Enter) -> None:
    """Submit jobs of one rule as one array; a refusal is reported for each of them.

    Parameters
    ----------
    executor : snakemake_executor_plugin_slurm.Executor
        The executor.
    jobs : sequence of snakemake.jobs.Job
        At least two, the one that reserves most first: all get what it reserves.
    book : JobBook
        Of the session; its folder gets the script.
    enter : callable
        Is given the SubmittedJobInfo of all jobs as soon as SLURM has accepted them.
    """
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

    for job in jobs:
        executor.run_job_pre(job)
    first = jobs[0]
    logs = Path(executor.slurm_logdir) / f"rule_{first.rule.name}"
    logs.mkdir(parents=True, exist_ok=True)
    # The name is found in the queue if sbatch does not tell whether the array is there.
    script = book.file("scripts", f"{first.rule.name}-{uuid.uuid4().hex[:12]}.sh")
    members = (
        f"{number}) {executor.format_job_exec(job)} ;;" for number, job in enumerate(jobs, 1)
    )
    script.write_text(SCRIPT.format(members="\n".join(members)), encoding="utf-8")
    command = [*_options(executor, first, logs / "%A_%a.log"), f"--array=1-{len(jobs)}"]

    def infos(identifier: str) -> list[Any]:
        names = [f"{identifier}_{number}" for number in range(1, len(jobs) + 1)]
        return [
            SubmittedJobInfo(job, external_jobid=name, aux={"slurm_logfile": logs / f"{name}.log"})
            for name, job in zip(names, jobs, strict=True)
        ]

    identifier = None
    try:
        answer = ask([*command, str(script)], patience=SUBMIT_SECONDS)
        identifier = slurm.job_id(answer.text) if answer.status == 0 else None
        if identifier is None and slurm.unclear(answer):
            time.sleep(PAUSE_SECONDS)
            identifier = _in_queue(executor.run_uuid, script)
        if identifier is not None:
            enter(infos(identifier))
    except BaseException:
        # Ctrl-C while SLURM was asked: nothing may stay in the queue that nobody knows.
        identifier = identifier or _now_in_queue(executor.run_uuid, script)
        slurm.cancel([identifier] if identifier else [])
        raise
    finally:
        script.unlink(missing_ok=True)  # SLURM has its own copy
    if identifier is None:
        said = f"SLURM refused an array: {answer.errors.strip()}\n    {shlex.join(command)}\n"
        for job in jobs:
            executor.report_job_error(SubmittedJobInfo(job), msg=said)
        return
    executor.logger.info(
        f"Submitted {len(jobs)} jobs of {first.rule.name} as array {identifier}: "
        f"{identifier}_1 to {identifier}_{len(jobs)}."
    )
    for info in infos(identifier):
        executor.report_job_submission(info)


def _now_in_queue(name: str, script: Path) -> str | None:
    return _array_of(slurm.labels(name) or [], script)


def _in_queue(name: str, script: Path) -> str | None:
    """Return the array that a script has become, None if it is not in the queue."""
    return _array_of(insist(lambda: slurm.labels(name)), script)


def _array_of(labels: Sequence[slurm.Label], script: Path) -> str | None:
    return next((job.array for job in labels if Path(job.script).name == script.name), None)


def insist(question: Callable[[], Found | None]) -> Found:
    """Ask SLURM until it answers.

    Parameters
    ----------
    question : callable
        Returns None if there is no answer.

    Returns
    -------
    object
        What it returned.

    Raises
    ------
    WorkflowError
        After a few minutes: jobs that go on would otherwise be submitted twice.
    """
    from snakemake_interface_common.exceptions import WorkflowError

    for attempt in range(PATIENCE):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        found = question()
        if found is not None:
            return found
    raise WorkflowError(
        "SLURM does not answer (squeue). Which jobs wait or run is not known: none is submitted. "
        "Start again later: jobs that go on are found then."
    )


def can_submit_arrays() -> bool:
    """Return whether the executor has what `submit_array` needs."""
    try:
        from snakemake_executor_plugin_slurm.submit_string import get_submit_command
        from snakemake_executor_plugin_slurm.utils import set_gres_string
    except ImportError:
        return False
    return callable(get_submit_command) and callable(set_gres_string)


def _options(executor: Any, job: Any, log: Path) -> list[str]:
    """Return sbatch with the options the executor gives to a single job."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

    validate_slurm_extra(job)
    call = get_submit_command(
        job,
        {
            "run_uuid": executor.run_uuid,
            "slurm_logfile": log,
            "comment_str": f"rule_{job.rule.name}",
            "account": next(executor.get_account_arg(job)),
            "partition": executor.get_partition_arg(job),
            "workdir": executor.workflow.workdir_init,
        },
        settings=executor.workflow.executor_settings,
        failed_nodes=getattr(executor, "_failed_nodes", set()),
    )
    return shlex.split(f"{call}{set_gres_string(job)}")
