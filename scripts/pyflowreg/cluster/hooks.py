"""What Snakemake's executors for clusters do in addition, while this project's workflow runs.

They tell the user how a job ended and why; they do not try again what cannot succeed; they find
the jobs of an earlier run that still wait or run. Each is a method of the executor that calls the
one it replaces. If a later version of an executor lacks one of them, the run goes on without that
service.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pyflowreg.cluster import generic, slurm
from pyflowreg.cluster.commands import Answer
from pyflowreg.cluster.jobbook import INPUT_ERROR, JobBook, JobRecord, digest_of, slot_of
from pyflowreg.cluster.reports import failure_report
from pyflowreg.cluster.slurm_arrays import (
    PAUSE_SECONDS,
    Found,
    can_submit_arrays,
    insist,
    submit_array,
)
from pyflowreg.cluster.slurm_states import States

logger = logging.getLogger(__name__)

GENERIC = "snakemake_executor_plugin_cluster_generic"
SLURM = "snakemake_executor_plugin_slurm"
QUEUE_SECONDS = 10.0
_COMMENT = re.compile(r"--comment ('[^']*'|\S+)")
_STATE = re.compile(r"status is: '([A-Z_]+)")


class Hooks:
    """Services for the executors of one run.

    Parameters
    ----------
    book : JobBook
        Of the session.
    run : str
        Name of this run.
    name : str
        Name of the session's jobs in SLURM.
    resolve : callable
        Makes the path of a command absolute.
    """

    def __init__(
        self, book: JobBook, run: str, name: str, resolve: Callable[[str | None], str | None]
    ) -> None:
        self.book = book
        self.run = run
        self.name = name
        self.resolve = resolve
        self.unfinished: dict[str, str] = {}
        self._known_queue: tuple[float, dict[str, str]] = (0.0, {})
        self._silence: Exception | None = None
        self._arrays = False
        self._looked_for_strays = False
        self._unclear: set[str] = set()

    def install(self) -> None:
        """Add the services to the executors that are there."""
        for module in (GENERIC, SLURM):
            executor = getattr(sys.modules.get(module), "Executor", None)
            if executor is None:
                continue
            self._wrap(executor, "report_job_submission", self._submitted)
            self._wrap(executor, "report_job_success", self._succeeded)
            self._wrap(executor, "report_job_error", self._failed)
            if module == GENERIC:
                self._wrap(executor, "__post_init__", self._started_generic)
            else:
                self._wrap(executor, "__post_init__", self._started_slurm)
                self._wrap(executor, "run_jobs", self._run_slurm)

    @staticmethod
    def _wrap(executor: type, name: str, service: Callable[..., None]) -> None:
        """Let a method of the executor be called by `service`, as its first argument."""
        original = getattr(executor, name, None)
        if original is None:
            logger.debug("%s has no method %s", executor, name)
            return

        @functools.wraps(original)
        def method(self: Any, *args: Any, **kwargs: Any) -> None:
            service(functools.partial(original, self), self, *args, **kwargs)

        setattr(executor, name, method)

    def _started_generic(self, original: Callable[..., None], executor: Any) -> None:
        settings = executor.workflow.executor_settings
        for key in ("submit_cmd", "status_cmd", "cancel_cmd"):
            setattr(settings, key, self.resolve(getattr(settings, key, None)))
        original()
        scheduler = generic.scheduler_of(getattr(settings, "status_cmd", None))
        if scheduler and hasattr(executor, "check_active_jobs"):
            # Without starting a program for each job and round, 0.1 s of computing every time.
            executor.check_active_jobs = functools.partial(_check_jobs, executor, scheduler)

    def _started_slurm(self, original: Callable[..., None], executor: Any) -> None:
        original()
        # A name that all runs of the session share: jobs of an earlier one are found by it.
        executor.run_uuid = self.name
        self._arrays = States(executor, self.book).install() and can_submit_arrays()
        if not self._arrays:
            executor.logger.info("This version of the executor gets no arrays, but single jobs.")
        executor.logger.info(f"SLURM knows the jobs of this session by the name {self.name}")

    def _submitted(
        self, original: Callable[..., None], executor: Any, job_info: Any, **kwargs: Any
    ) -> None:
        identifier = job_info.external_jobid
        if identifier is not None:
            # The members of an array are known before.
            known = str(identifier) in self.unfinished
            self.unfinished[str(identifier)] = type(executor).__module__
            if type(executor).__module__ == SLURM and not known:
                self._enter_slurm(job_info)
        original(job_info, **kwargs)

    def _enter_array(self, infos: Sequence[Any]) -> None:
        """Enter all members of an array: Ctrl-C cancels them, and the next run finds them."""
        self.unfinished.update({str(info.external_jobid): SLURM for info in infos})
        for info in infos:
            self._enter_slurm(info)

    def _enter_slurm(self, job_info: Any) -> None:
        job = job_info.job
        slot = job_slot(job)
        before = self.book.by_id(str(job_info.external_jobid))
        self.book.write(
            JobRecord(
                slot=slot,
                job_id=str(job_info.external_jobid),
                outputs=digest_of(job.output),
                run=self.run,
                attempt=job.attempt,
                log=[str(path) for path in job.log or []],
                scheduler_log=str((job_info.aux or {}).get("slurm_logfile") or ""),
                requested=requested(job),
                submitted=before.submitted if before else time.time(),
            )
        )

    def _succeeded(self, original: Callable[..., None], executor: Any, job_info: Any) -> None:
        self.unfinished.pop(str(job_info.external_jobid), None)
        record = self.book.by_id(str(job_info.external_jobid))
        if record is not None:
            self.book.forget(record)
        original(job_info)

    def _failed(
        self,
        original: Callable[..., None],
        executor: Any,
        job_info: Any,
        msg: str | None = None,
        **kwargs: Any,
    ) -> None:
        if job_info.external_jobid is None and type(executor).__module__ == SLURM:
            self._unclear |= _comments(msg or "")
        self.unfinished.pop(str(job_info.external_jobid), None)
        record = self.book.by_id(str(job_info.external_jobid))
        if record is not None:
            msg = self._report(job_info.job, record, msg or "") + "\n"
        original(job_info, msg, **kwargs)

    def _report(self, job: Any, record: JobRecord, said: str) -> str:
        failure = self.book.failure(record.slot)
        if failure.get("kind") == INPUT_ERROR:
            # Counts as the last attempt: the next would end with the same message.
            job.attempt = job.restart_times + 1
            return (
                f"{record.slot} (job {record.job_id}): {failure['message']}\n"
                "It is not tried again before something is changed."
            )
        state = _STATE.search(said)
        verdict = record.verdict
        if state:
            verdict = slurm.meaning(state[1], record.requested) or record.verdict
            if state[1] not in ("FAILED", "ERROR"):
                verdict = f"{verdict or 'failed'} ({state[1]})"
        return failure_report(record, verdict, job.restart_times)

    def _run_slurm(self, original: Callable[..., None], executor: Any, jobs: Sequence[Any]) -> None:
        self._cancel_strays(executor)
        left = [job for job in jobs if not self._adopted(executor, job)]
        arrays: set[str] = getattr(executor, "array_jobs", set())
        for job in left:
            self.book.forget_failure(job_slot(job))
        together, alone = _by_rule(left, arrays) if self._arrays else ([], left)
        limit = max(2, int(executor.workflow.executor_settings.array_limit or 2))
        for group in together:
            group.sort(key=_size, reverse=True)
            for start in range(0, len(group), limit):
                submit_array(executor, group[start : start + limit], self.book, self._enter_array)
        # The executor makes no arrays of its own of what is left.
        executor.array_jobs = set()
        original(alone)
        executor.array_jobs = arrays

    def _cancel_strays(self, executor: Any) -> None:
        """Cancel jobs that SLURM accepted but that nobody follows.

        An earlier run died before it entered them, or SLURM told this one that it had failed.
        """
        strays: set[str] = set()
        if not self._looked_for_strays:
            strays = self._not_entered()
            if strays:
                # Another run of the session may be just entering them.
                time.sleep(PAUSE_SECONDS)
                strays &= self._not_entered()
            self._looked_for_strays = True
        if self._unclear:
            labels = self._insist(lambda: slurm.labels(self.name))
            strays |= {
                job.job_id
                for job in labels
                if job.comment in self._unclear and self.book.by_id(job.job_id) is None
            }
            self._unclear.clear()
        if strays:
            executor.logger.info(f"Cancelling jobs that no run knows: {', '.join(sorted(strays))}")
            slurm.cancel(sorted(strays))

    def _not_entered(self) -> set[str]:
        queue = self._insist(lambda: slurm.active(self.name))
        return {key for key in queue if self.book.by_id(key) is None}

    def _adopted(self, executor: Any, job: Any) -> bool:
        """Follow the job of an earlier run that makes the same files, if it still waits or runs."""
        slot = job_slot(job)
        record = self.book.read(slot)
        if record is None or record.run == self.run:
            return False
        if record.job_id not in self._slurm_queue():
            return False
        if record.outputs != digest_of(job.output):
            slurm.cancel([record.job_id])
            return False
        from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

        executor.logger.info(f"{slot}: job {record.job_id} of an earlier run goes on.")
        executor.run_job_pre(job)
        executor.report_job_submission(
            SubmittedJobInfo(
                job,
                external_jobid=record.job_id,
                aux={"slurm_logfile": Path(record.scheduler_log)},
            )
        )
        return True

    def _slurm_queue(self) -> dict[str, str]:
        """Return the jobs that wait or run, asked for every ten seconds at most.

        A SLURM that does not answer is waited for, and ends the run if that does not help.
        """
        asked, queue = self._known_queue
        if time.time() - asked < QUEUE_SECONDS:
            return queue
        found = self._insist(lambda: slurm.active(self.name))
        self._known_queue = (time.time(), found)
        return found

    def _insist(self, question: Callable[[], Found | None]) -> Found:
        """Ask SLURM until it answers; once it has not, it is not waited for again."""
        from snakemake_interface_common.exceptions import WorkflowError

        if self._silence is not None:
            raise self._silence
        try:
            return insist(question)
        except WorkflowError as error:
            self._silence = error
            raise


async def _check_jobs(
    executor: Any, scheduler: str, active_jobs: Sequence[Any]
) -> AsyncGenerator[Any, None]:
    """Report the jobs that have ended, and yield the others, as the executor's own method."""
    for job_info in active_jobs:
        state = generic.state_of(scheduler, str(job_info.external_jobid))
        if state == generic.SUCCESS:
            executor.report_job_success(job_info)
        elif state == generic.FAILED:
            executor.report_job_error(job_info)
        else:
            yield job_info


def job_slot(job: Any) -> str:
    """Return the slot of a job of Snakemake.

    Parameters
    ----------
    job : snakemake.jobs.AbstractJob
        A job, or a group of jobs.

    Returns
    -------
    str
        See `slot_of`.
    """
    if job.is_group():
        return slot_of(str(job.groupid), ())
    return slot_of(job.rule.name, job.wildcards_dict)


def requested(job: Any) -> dict[str, int]:
    """Return the resources of a job that matter for its end.

    Parameters
    ----------
    job : snakemake.jobs.AbstractJob
        A job, or a group of jobs.

    Returns
    -------
    dict
        mem_mb, runtime, gpu, threads; whole numbers.
    """
    found = {"threads": int(job.threads)}
    for key in ("mem_mb", "runtime", "gpu"):
        value = job.resources.get(key)
        found[key] = int(value) if isinstance(value, int | float) else 0
    return found


def _comments(said: str) -> set[str]:
    """Return the comment of a job whose submission failed, if it may be in the queue."""
    found = _COMMENT.search(said)
    return {found[1].strip("'")} if found and slurm.unclear(Answer(1, "", said)) else set()


def _size(job: Any) -> tuple[int, int]:
    found = requested(job)
    return found["runtime"], found["mem_mb"]


def _by_rule(jobs: Iterable[Any], arrays: set[str]) -> tuple[list[list[Any]], list[Any]]:
    """Return the jobs that form arrays, and the others."""
    groups: dict[tuple[str, int], list[Any]] = {}
    alone = []
    for job in jobs:
        if not job.is_group() and ("all" in arrays or job.rule.name in arrays):
            groups.setdefault((job.rule.name, job.attempt), []).append(job)
        else:
            alone.append(job)
    together = [group for group in groups.values() if len(group) > 1]
    alone += [group[0] for group in groups.values() if len(group) == 1]
    return together, alone
