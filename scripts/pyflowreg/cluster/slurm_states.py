"""How the states of SLURM's jobs reach Snakemake's executor.

The executor (2.8) takes the state of one member for that of a whole array when it asks the
accounting database, forgets its jobs when a question fails, and waits for ever for a job that SLURM
has forgotten. The functions by which it asks are replaced by those of `States`.
"""

from __future__ import annotations

import asyncio
import functools
import re
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from pyflowreg.cluster import slurm
from pyflowreg.cluster.jobbook import JobBook

GRACE_SECONDS = 60.0
LONGEST_SECONDS = 600.0
CLOCK_SECONDS = 60.0
SHORTEST_INTERVAL = 10.0
UNKNOWN_INTERVAL = 120.0
NEVER = 10**9
LOST = "no longer known to SLURM, and its results are not there"

_TASKS = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
_RAW = "--format=JobIdRaw,State"
_KEPT = "_originals_of_pyflowreg"
_REPLACED = (
    "query_job_status",
    "query_job_status_sacct",
    "query_job_status_squeue",
    "_status_lookup_ids",
    "get_min_job_age",
)


class States:
    """The states of one executor's jobs.

    Parameters
    ----------
    executor : snakemake_executor_plugin_slurm.Executor
        The executor.
    book : JobBook
        Of the session.
    """

    def __init__(self, executor: Any, book: JobBook) -> None:
        self.executor = executor
        self.book = book
        self.jobs: dict[str, Any] = {}
        self.min_job_age: int | None = None
        self._missing: dict[str, float] = {}
        self._silent = False
        self._squeue = True

    def install(self) -> bool:
        """Replace the executor's functions.

        Returns
        -------
        bool
            False if this version of the executor asks in another way; nothing is replaced then.
        """
        kind = type(self.executor)
        module = sys.modules.get(kind.__module__)
        code = getattr(getattr(kind, "check_active_jobs", None), "__code__", None)
        if code is None or not set(_REPLACED) <= set(_names(code)):
            return False
        if not all(callable(getattr(module, name, None)) for name in _REPLACED):
            return False
        # Those of the executor, also if this is not the first run in the process.
        originals = getattr(module, _KEPT, {name: getattr(module, name) for name in _REPLACED})
        if _RAW not in originals["query_job_status_sacct"]("name"):
            return False
        if not originals["query_job_status_squeue"]("name").startswith("squeue "):
            return False
        replacements = {
            "query_job_status": functools.partial(self.query, originals["query_job_status"]),
            "query_job_status_sacct": functools.partial(
                _by_member, originals["query_job_status_sacct"]
            ),
            "query_job_status_squeue": functools.partial(
                _one_by_one, originals["query_job_status_squeue"]
            ),
            "_status_lookup_ids": _only_itself,
            "get_min_job_age": functools.partial(self.age, originals["get_min_job_age"]),
        }
        setattr(module, _KEPT, originals)
        for name, replacement in replacements.items():
            setattr(module, name, replacement)
        self.executor.check_active_jobs = functools.partial(
            self.check, self.executor.check_active_jobs
        )
        return True

    async def check(self, original: Any, active_jobs: Sequence[Any]) -> AsyncGenerator[Any, None]:
        """Report the jobs that have ended, and yield the others; then shorten the pause.

        Parameters
        ----------
        original : callable
            The executor's own method.
        active_jobs : sequence of SubmittedJobInfo
            Jobs that have not ended.
        """
        self.jobs = {str(job_info.external_jobid): job_info for job_info in active_jobs}
        async for job_info in original(active_jobs):
            yield job_info
        if self._squeue:
            self.executor.next_seconds_between_status_checks = min(
                self.executor.next_seconds_between_status_checks, self.longest_interval()
            )

    def longest_interval(self) -> float:
        """Return the seconds in which a job cannot end and be forgotten unseen."""
        if self.min_job_age is None:
            return UNKNOWN_INTERVAL
        return max(SHORTEST_INTERVAL, 0.4 * self.min_job_age)

    def age(self, original: Any) -> int | None:
        """Return the seconds for which SLURM remembers a job that has ended, asked for once.

        Parameters
        ----------
        original : callable
            The executor's own function.

        Returns
        -------
        int or None
            None as long as there was no answer.
        """
        if self.min_job_age is None:
            found = original()
            # 0 in SLURM's configuration: jobs are never forgotten.
            self.min_job_age = NEVER if found == 0 else found
        return self.min_job_age

    async def query(self, original: Any, command: str, logger: Any) -> tuple[dict[str, str], float]:
        """Return the states of jobs.

        Parameters
        ----------
        original : callable
            The executor's own function.
        command : str
            Of SLURM.
        logger : logging.Logger
            For the executor's remarks.

        Returns
        -------
        tuple
            State by identifier, and seconds. No states if SLURM does not answer: the executor
            would forget its jobs if it were told so.
        """
        states, seconds = await original(command, logger)
        self._squeue = "sacct" not in command
        if states is None:
            if not self._silent:
                self.executor.logger.warning(
                    "SLURM does not answer. Its jobs are not concerned; it is asked again."
                )
            self._silent = True
            return {}, 0.0
        self._silent = False
        found = expanded(states)
        await asyncio.to_thread(self._look_for_missing, found)
        return found, seconds

    def _look_for_missing(self, found: dict[str, str]) -> None:
        """Add the states of jobs of which SLURM has told nothing for a while."""
        now = time.time()
        missing = {key for key, info in self.jobs.items() if key not in found and _here(info)}
        self._missing = {key: self._missing.get(key, now) for key in missing}
        late = sorted(key for key in missing if now - self._missing[key] >= GRACE_SECONDS)
        if not late:
            return
        queue = slurm.states(late)
        if queue is None:
            return
        found.update(expanded(queue))
        late = [key for key in late if key not in found]
        accounted = expanded(slurm.accounted(late)) if late else {}
        for key in late:
            state = accounted.get(key, "")
            if state in slurm.UNFINISHED and now - self._missing[key] < LONGEST_SECONDS:
                continue
            found[key] = self._end(key, state)
            self._missing.pop(key, None)

    def _end(self, key: str, state: str) -> str:
        """Return how a job ended that SLURM has forgotten, in a word the executor knows."""
        if state == "COMPLETED":
            return state
        record = self.book.by_id(key)
        if state and state not in slurm.UNFINISHED:
            verdict = slurm.meaning(state, record.requested if record else {})
        elif _made(self.jobs[key].job, record.submitted if record else 0.0):
            return "COMPLETED"
        else:
            verdict = LOST
            slurm.cancel([key])
        if record is not None and verdict:
            record.verdict = verdict
            self.book.write(record)
        return "FAILED"


def expanded(states: Mapping[str, str]) -> dict[str, str]:
    """Return states with the members of arrays one by one, and without what follows the word.

    Parameters
    ----------
    states : mapping
        State by identifier, as SLURM prints it: ``118_[3-5,9%2]``, ``CANCELLED by 1000``.

    Returns
    -------
    dict
        State by identifier.
    """
    result = {key: (state.split() or [""])[0].rstrip("+") for key, state in states.items()}
    for key, state in list(result.items()):
        together = _TASKS.fullmatch(key)
        if together:
            for number in _numbers(together[2]):
                result.setdefault(f"{together[1]}_{number}", state)
    return result


def _numbers(ranges: str) -> Iterator[int]:
    for part in ranges.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if found:
            yield from range(int(found[1]), int(found[2] or found[1]) + 1, int(found[3] or 1))


def _by_member(original: Any, runid: str) -> str:
    # Raw identifiers do not tell of which array a job is; long lists of members are cut.
    text = str(original(runid)).replace(_RAW, "--format=JobID,State")
    return f"env SLURM_BITSTR_LEN=0 {text}"


def _one_by_one(original: Any, runid: str) -> str:
    return str(original(runid)).replace("squeue ", "squeue --array ", 1)


def _only_itself(external_jobid: str) -> list[str]:
    return [external_jobid]


def _names(code: CodeType) -> Iterator[str]:
    """Return the names that a function and those inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _here(job_info: Any) -> bool:
    """Return whether a job is on the cluster that is asked."""
    resources = job_info.job.resources
    return not any(resources.get(key) for key in ("cluster", "clusters", "slurm_cluster"))


def _made(job: Any, since: float) -> bool:
    """Return whether a job has written all its files."""
    try:
        times = [Path(str(path)).stat().st_mtime for path in job.output]
    except OSError:
        return False
    return bool(times) and min(times) >= since - CLOCK_SECONDS
