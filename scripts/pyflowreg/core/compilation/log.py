"""Tells when kernels are compiled, which takes long, and is silent when they are not."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Protocol

logger = logging.getLogger(__name__)

QUIET = 3.0
"""Seconds without a compilation after which it is taken as finished."""


class Place(Protocol):
    """Where compiled kernels go."""

    @property
    def writable(self) -> Path | None:
        """Folder, None if they are not kept."""
        ...


class CompileLog:
    """Counts compilations, and logs when they begin and when there were none for a while.

    A kernel is compiled when it is first called, and it compiles those it calls itself: only the
    outermost one is timed. Numba compiles one at a time.
    """

    def __init__(self) -> None:
        self.kernels = 0
        self.seconds = 0.0
        self._outermost: Hashable = None
        self._started = 0.0
        self._reported = 0
        self._timer: threading.Timer | None = None

    def start(self, kernel: Hashable, place: Place) -> None:
        """Note that a kernel begins to compile.

        Parameters
        ----------
        kernel : hashable
            The kernel and its signature.
        place : Place
            Where it will be kept.
        """
        if self.kernels == 0 and self._outermost is None:
            folder = place.writable
            logger.info(
                "Compiling kernels for this processor, which takes a minute or two%s.",
                "" if folder is None else f", once; they are kept in {folder}",
            )
            atexit.register(self.finish)
        if self._outermost is None:
            self._outermost = kernel
            self._started = time.perf_counter()

    def stop(self, kernel: Hashable) -> None:
        """Note that a kernel is compiled.

        Parameters
        ----------
        kernel : hashable
            As given to `start`.
        """
        self.kernels += 1
        if kernel != self._outermost:
            return
        self._outermost = None
        self.seconds += time.perf_counter() - self._started
        self._stop_timer()
        self._timer = threading.Timer(QUIET, self.report)
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def finish(self) -> None:
        """Report at once what would be reported when there is nothing more to compile."""
        self._stop_timer()
        self.report()

    def report(self) -> None:
        """Log how long it took so far, unless that has been said or a kernel is being compiled."""
        if self.kernels > self._reported and self._outermost is None:
            self._reported = self.kernels
            logger.info("Compiled %d kernels in %.1f s.", self.kernels, self.seconds)
