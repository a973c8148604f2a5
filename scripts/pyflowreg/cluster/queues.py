"""The queue of a scheduler, asked for once for all jobs."""

from __future__ import annotations

import json
import os
import time
import uuid
from types import ModuleType
from typing import Any

from pyflowreg.cluster.jobbook import JobBook

# One question to the scheduler serves all jobs for so long.
QUEUE_SECONDS = 10.0


def seconds_of(variable: str, default: float) -> float:
    """Return a time that an environment variable may change.

    Parameters
    ----------
    variable : str
        Its name.
    default : float
        Seconds, if it is not set or no number.

    Returns
    -------
    float
        Seconds.
    """
    try:
        return float(os.environ.get(variable, default))
    except ValueError:
        return default


def known_queue(module: ModuleType, book: JobBook) -> dict[str, Any] | None:
    """Return the jobs in the queue, asking the scheduler at most once in `QUEUE_SECONDS`.

    A question without an answer counts as one: a scheduler that hangs is not waited for once per
    job.

    Parameters
    ----------
    module : module
        Of the scheduler.
    book : JobBook
        Of the session; it keeps the answer, for other processes too.

    Returns
    -------
    dict or None
        ``asked``, when the question was put, and ``jobs``, their states by identifier; None if
        the scheduler does not answer.
    """
    path = book.file("queue", f"{module.NAME}.json")
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        age = time.time() - kept["answered"]  # not since "asked": that may be long before
        if 0 <= age < seconds_of("PYFLOWREG_QUEUE_SECONDS", QUEUE_SECONDS):
            return kept if kept["jobs"] is not None else None
    except (OSError, ValueError, KeyError):
        pass
    asked = time.time()
    jobs = module.active()
    fresh = {"asked": asked, "answered": time.time(), "jobs": jobs}
    beside = path.with_name(f".{uuid.uuid4().hex}")
    beside.write_text(json.dumps(fresh), encoding="utf-8")
    beside.replace(path)
    return None if jobs is None else fresh
