"""Snakemake with very many jobs, or jobs of very many files: where its work grows with the square.

Each function replaces a method of Snakemake. A version that lacks it keeps its own way.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any

logger = logging.getLogger(__name__)

FEW_PAIRS = 5000
"""Pairs of an input and an output up to which Snakemake's way takes a fraction of a second."""

_USED = (
    "finished",
    "_clear_cache",
    "_get_key",
    "_read_record",
    "_write_record",
    "_unmark_incomplete",
)


class _WithOneOutput:
    """A job as Snakemake notes it, with the first of its outputs only."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self.output = list(job.output)[:1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def __hash__(self) -> int:
        return hash(self._job)

    def __eq__(self, other: object) -> bool:
        return self is other


def note_inputs_once() -> None:
    """Let the inputs of a job with many files stand in the note of its first output.

    When a job has ended, Snakemake writes a note for each of its outputs with all inputs of the
    job and their checksums, which it computes anew each time. Stages 2 and 3 of a session have
    inputs and outputs for each recording, in one job: with 1,000 recordings that were ten million
    checksums and two gigabytes of notes.

    The notes of the other outputs have all but the inputs and their checksums. Snakemake finds a
    changed set of inputs by that one note. It is less sure that a small input which is newer than
    the outputs has the same content as before, and then does the job again.
    """
    from snakemake import persistence

    base: Any = getattr(persistence, "PersistenceBase", None)
    note_type: Any = getattr(persistence, "MetadataRecord", None)
    if not hasattr(note_type, "model_copy") or not all(hasattr(base, name) for name in _USED):
        logger.debug("Snakemake notes what jobs did in another way.")
        return
    original = base.finished
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    async def finished(self: Any, job: Any) -> None:
        workflow = self.dag.workflow
        noted = workflow.is_main_process and workflow.execution_settings.keep_metadata
        if not noted or len(job.input) * len(job.output) <= FEW_PAIRS:
            await original(self, job)
            return
        first, *others = job.output
        await original(self, _WithOneOutput(job))
        self._clear_cache()
        note = self._read_record(self._get_key(first))
        note = note.model_copy(update={"input": None, "input_checksums": {}})
        for file in others:
            self._write_record(self._get_key(file), note)
            self._unmark_incomplete(self._get_key(file))

    base.finished = finished


def scheduler_method(name: str) -> tuple[Any, Any]:
    """Return the class of Snakemake's scheduler, and a method of it to be replaced.

    Parameters
    ----------
    name : str
        Name of the method.

    Returns
    -------
    scheduler_type, method
        The method is None if this version of Snakemake has none, or if it is replaced already.
    """
    try:
        from snakemake.scheduling.job_scheduler import JobScheduler
    except ImportError:
        return None, None
    original: Any = getattr(JobScheduler, name, None)
    return JobScheduler, None if hasattr(original, "__wrapped__") else original


def look_again_once() -> None:
    """Let one timer at a time make Snakemake look for jobs that can start.

    While jobs wait for free places, Snakemake looks at all of them whenever one has ended, and
    once more when the time span of its limit of jobs (a second by default) has passed. Looking
    again starts the next timer, so there soon is one for each job that has ended: after some
    hundred jobs the process did nothing else, beside the jobs if they run on the same machine.
    """
    scheduler_type, original = scheduler_method("_schedule_reevalutation")
    if original is None:
        return

    @functools.wraps(original)
    def start_timer(self: Any, delay: float) -> None:
        if not hasattr(self, "_open_jobs"):
            original(self, delay)
        elif not getattr(self, "_looks_again", False):
            self._looks_again = True
            timer = threading.Timer(delay, look, [self])
            timer.daemon = True  # the run does not wait for it in the end
            timer.start()

    def look(scheduler: Any) -> None:
        scheduler._looks_again = False
        scheduler._open_jobs.release()

    scheduler_type._schedule_reevalutation = start_timer
