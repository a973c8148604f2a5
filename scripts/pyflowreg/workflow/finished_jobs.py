"""Jobs that have ended although Snakemake did not see it, because it was killed first."""

from __future__ import annotations

import functools
import logging
from typing import Any

logger = logging.getLogger(__name__)

RECORD = "record"
HEADERS = "inspect_recording"
_USED = ("incomplete", "cleanup_metadata")


def recognise_finished_jobs() -> None:
    """Let Snakemake keep what a job has finished that it did not see end.

    Snakemake marks the outputs of a job that it starts, and takes the mark away when it has seen
    it end. What is still marked in the next run it would remove and make again. Our jobs begin
    without their outputs, which Snakemake has removed; each file appears complete, and the record
    that names the settings last. So where all outputs are, the job has come to its end.

    A version of Snakemake that lacks these methods keeps its own way.
    """
    from snakemake import persistence

    base: Any = getattr(persistence, "PersistenceBase", None)
    if not all(hasattr(base, name) for name in _USED):
        logger.debug("Snakemake marks incomplete files in another way.")
        return
    original = base.incomplete
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    async def incomplete(self: Any, job: Any) -> list[Any]:
        marked: list[Any] = await original(self, job)
        if not marked or not await _has_finished(job):
            return marked
        if self.dag.workflow.is_main_process and not self.dag.workflow.dryrun:
            for file in job.output:
                self.cleanup_metadata(file)
        return []

    base.incomplete = incomplete


async def _has_finished(job: Any) -> bool:
    if RECORD not in job.output.keys() and job.rule.name != HEADERS:  # noqa: SIM118 - not a dict
        return False
    return all([await file.exists() for file in job.output])
