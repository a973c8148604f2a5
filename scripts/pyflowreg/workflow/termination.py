"""SIGTERM to Snakemake itself, as schedulers and shells that shut down send it."""

from __future__ import annotations

import functools
import threading
from typing import Any

from pyflowreg.workflow.scale import scheduler_method


def never_wait_for_a_lock_in_a_signal() -> None:
    """Let Snakemake heed SIGTERM whatever it is doing just then.

    Its handler takes a lock that is no RLock. Handlers run in the main thread, which holds this
    lock while it deals with a job that has ended, for seconds if it waits for files of that job: it
    would wait for itself for ever. So another thread takes the lock, as soon as it is free.

    A version of Snakemake that lacks the method keeps its own way.
    """
    scheduler_type, original = scheduler_method("exit_gracefully")
    if original is None:
        return

    @functools.wraps(original)
    def exit_gracefully(self: Any, *signal: Any) -> None:
        threading.Thread(target=original, args=(self, *signal), daemon=True).start()

    scheduler_type.exit_gracefully = exit_gracefully
