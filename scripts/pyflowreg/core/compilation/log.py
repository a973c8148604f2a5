"""Tells when kernels are compiled, which takes long, and is silent when they are not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Protocol

logger = logging.getLogger(__name__)


class Place(Protocol):
    """Where compiled kernels go."""

    @property
    def writable(self) -> Path | None:
        """Folder, None if they are not kept."""
        ...


class CompileLog:
    """Counts compilations, logs when they begin, and on request how long they took.

    A kernel is compiled when it is first called, and it compiles those it calls itself: only the
    outermost one is timed. Numba compiles one at a time.
    """

    def __init__(self) -> None:
        self.kernels = 0
        self.seconds = 0.0
        self._outermost: Hashable = None
        self._started = 0.0
        self._reported = 0
        self._lock = threading.Lock()

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
                "Compiling kernels for this processor, which takes about a minute%s.",
                "" if folder is None else f", once; they are kept in {folder}",
            )
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

    def report(self) -> None:
        """Log how long it took so far, unless that has been said or a kernel is being compiled.

        Called wherever a piece of work is done that may have compiled: by whoever did it, while
        its log is there. A timer would speak up when the log may be closed.
        """
        with self._lock:
            if self.kernels == self._reported or self._outermost is not None:
                return
            self._reported = self.kernels
        logger.info("Compiled %d kernels in %.1f s.", self.kernels, self.seconds)


compile_log = CompileLog()
