"""Progress of long work: a bar on a terminal, a line per 30 s in a log file."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

LINE_EVERY = 30.0
BAR_EVERY = 0.2
BAR_WIDTH = 30


@contextlib.contextmanager
def shown_messages(verbose: bool) -> Iterator[None]:
    """Show what this package reports, also in a program that has not set up logging.

    Parameters
    ----------
    verbose : bool
        False leaves logging as it is.
    """
    package = logging.getLogger("pyflowreg")
    if not verbose or (package.isEnabledFor(logging.INFO) and package.hasHandlers()):
        yield
        return
    level = package.level
    own = None
    if not package.hasHandlers():
        own = logging.StreamHandler(sys.stderr)
        own.setFormatter(logging.Formatter("%(message)s"))
        package.addHandler(own)
    package.setLevel(min(logging.INFO, package.getEffectiveLevel()))
    try:
        yield
    finally:
        package.setLevel(level)
        if own is not None:
            package.removeHandler(own)


class Progress:
    """Counts frames; use as a context manager. Silent where INFO messages are not logged.

    Parameters
    ----------
    name : str
        What is being done, shown in front.
    total : int
        Number of frames.
    begin : int
        Number of frames that are done already.
    """

    def __init__(self, name: str, total: int, begin: int = 0) -> None:
        self._name = name
        self._begin = begin
        self._total = total
        self._terminal = sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)
        self._start = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._terminal:
            sys.stderr.write("\r\033[K")
        if kind is None:
            seconds = time.monotonic() - self._start
            logger.info(
                "%s: %d frames in %s.", self._name, self._total - self._begin, _span(seconds)
            )

    def update(self, done: int) -> None:
        """Tell that `done` frames are finished."""
        now = time.monotonic()
        if now - self._shown < (BAR_EVERY if self._terminal else LINE_EVERY):
            return
        self._shown = now
        rate = (done - self._begin) / (now - self._start)
        left = _span((self._total - done) / rate) if rate > 0 else "?"
        text = f"{done} of {self._total} frames, {rate:.1f} frames/s, {left} left"
        if self._terminal:
            bar = "#" * (BAR_WIDTH * done // max(self._total, 1))
            sys.stderr.write(f"\r\033[K{self._name} [{bar:<{BAR_WIDTH}}] {text}")
            sys.stderr.flush()
        else:
            logger.info("%s: %s", self._name, text)


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
