"""How many threads a process may use, and work that is spread over them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def available_threads() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def for_each(function: Callable[[int], None], count: int, threads: int) -> None:
    """Call a function with 0 to count - 1, several at a time.

    Parameters
    ----------
    function : callable
        Works on one frame; must not depend on the others.
    count : int
        Number of frames.
    threads : int
        Calls at the same time; 1 works in the calling thread.
    """
    if threads == 1 or count < 2:
        for index in range(count):
            function(index)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(function, range(count)))
