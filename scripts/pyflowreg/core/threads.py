"""How many threads a process may use, and work that is spread over them."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, MutableSequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import TracebackType
from typing import Any, Self, TypeVar

from pyflowreg.core.interruption import uninterrupted

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 4096
"""More than any machine has cores; the pool starts only as many as are busy at the same time."""

_own = threading.local()


def available_threads() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of a process, kept until it ends: a forked process has none of its parent's."""
    del process

    def mark() -> None:
        _own.is_worker = True

    return ThreadPoolExecutor(MOST_THREADS, "pyflowreg", initializer=mark)


def finish(calls: Iterable[Future[Any]]) -> None:
    """Wait for calls in other threads, however often Ctrl-C or SIGTERM interrupts.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        After that; see `uninterrupted`.
    """
    waited_for = list(calls)
    uninterrupted(lambda: wait(waited_for))


def _begin(
    known: MutableSequence[Future[Any]],
    pool: ThreadPoolExecutor,
    function: Callable[..., Any],
    *arguments: Any,
) -> None:
    """Call a function in another thread; nothing may be begun there that is not known here."""
    uninterrupted(lambda: known.append(pool.submit(function, *arguments)))


def _end(pool: ThreadPoolExecutor) -> None:
    """Wait for the calls that are begun; the others never are."""
    uninterrupted(lambda: pool.shutdown(cancel_futures=True))


class AbandonedError(Exception):
    """Ends, in its thread, work whose result nobody waits for any more."""


class _Runner:
    """One of several threads that take the next number until none is left or one has failed.

    Parameters
    ----------
    function : callable
        Called with each number.
    numbers : iterator of int
        Shared by all runners.
    stop : threading.Event
        Set by the first that fails.
    turns : context manager
        Entered for every call.
    abandoned : threading.Event, optional
        Set when nobody wants the results any more.
    """

    def __init__(
        self,
        function: Callable[[int], None],
        numbers: Iterator[int],
        stop: threading.Event,
        turns: AbstractContextManager[Any],
        abandoned: threading.Event | None,
    ) -> None:
        self._function = function
        self._numbers = numbers
        self._stop = stop
        self._turns = turns
        self._abandoned = abandoned
        self.number = -1

    def __call__(self) -> None:
        finished = False
        try:
            for number in self._numbers:
                self.number = number
                with self._turns:
                    self._function(number)
                if self._stop.is_set() or (self._abandoned and self._abandoned.is_set()):
                    break
            finished = True
        finally:
            if not finished:
                self._stop.set()


def for_each(function: Callable[[int], None], count: int, threads: int) -> None:
    """Call a function with 0 to count - 1, several at a time.

    If calls fail, no new ones are begun, and the error of the smallest number is raised.

    Parameters
    ----------
    function : callable
        Works on one frame; must not depend on the others.
    count : int
        Number of frames.
    threads : int
        Calls at the same time; 1 works in the calling thread, as does a call from within another.
    """
    if threads == 1 or count < 2 or getattr(_own, "is_worker", False):
        for index in range(count):
            function(index)
        return
    stop = threading.Event()
    numbers = _Numbers(count)
    turns = getattr(_own, "turns", nullcontext())
    abandoned = getattr(_own, "abandoned", None)
    runners = [
        _Runner(function, numbers, stop, turns, abandoned) for _ in range(min(threads, count))
    ]
    pool = _pool(os.getpid())
    results: list[Future[None]] = []
    try:
        for runner in runners:
            _begin(results, pool, runner)
        wait(results)
    finally:
        # After an interruption nobody may go on working on what the caller gives up.
        stop.set()
        for result in results:
            result.cancel()
        finish(results)
    if abandoned and abandoned.is_set():
        raise AbandonedError
    failures = [
        (runner.number, error)
        for runner, result in zip(runners, results, strict=True)
        if (error := result.exception()) is not None
    ]
    if failures:
        try:
            raise min(failures, key=lambda failure: failure[0])[1]
        finally:
            failures.clear()  # or the error would keep itself and all it refers to alive


class _Numbers:
    """0 to count - 1, each given to one thread."""

    def __init__(self, count: int) -> None:
        self._next = itertools.count()
        self._count = count

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        number = next(self._next)
        if number >= self._count:
            raise StopIteration
        return number


def ahead(source: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Produce the next item in a thread while the present one is worked on.

    Parameters
    ----------
    source : generator
        Run by one thread, item by item; what it raises is raised here in the same place.

    Yields
    ------
    item
        At most one more exists at the same time.
    """
    end = object()
    thread = ThreadPoolExecutor(1, "pyflowreg-read")
    coming: deque[Future[Any]] = deque()
    try:
        _begin(coming, thread, next, source, end)
        while (item := coming.popleft().result()) is not end:
            _begin(coming, thread, next, source, end)
            yield item
            del item
    finally:
        _end(thread)
        source.close()


def overlapped(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[Result, None, None]:
    """Call a function with one item after the other, two calls at the same time.

    While the last frames of one chunk are computed, threads that have none left begin with the
    next chunk's, and the chunk after it is prepared by `items` in the calling thread.

    Parameters
    ----------
    function : callable
        Spreads its work over threads; must not depend on the calls before.
    items : iterable
        Run by the calling thread.
    threads : int
        Numbers that `for_each` works on at the same time in both calls together; with 1, the calls
        follow one another in the calling thread.

    Yields
    ------
    result
        Of every item, in their order. Leaving the iteration early ends the calls that are begun
        after the numbers they are working on.
    """
    if threads == 1:
        yield from map(function, items)
        return
    turns = threading.Semaphore(threads)
    abandoned = threading.Event()

    def share() -> None:
        _own.turns, _own.abandoned = turns, abandoned

    pool = ThreadPoolExecutor(2, "pyflowreg-chunk", initializer=share)
    begun: deque[Future[Result]] = deque()
    source, end = iter(items), object()
    try:
        while True:
            try:
                item: Any = next(source, end)
            except Exception:
                # An error of an earlier item comes first, as with one thread.
                while begun:
                    yield begun.popleft().result()
                raise
            if item is end:
                break
            _begin(begun, pool, function, item)
            del item
            if len(begun) == 2:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        abandoned.set()
        _end(pool)


class Behind:
    """Calls in a thread of its own, one after the other; a context manager.

    A call is begun when the one before it has succeeded; so what was submitted before an error is
    done and nothing after it. Leaving the block waits for the last call.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "pyflowreg-write")
        self._waiting: deque[Future[None]] = deque()

    def submit(self, function: Callable[..., None], *arguments: Any) -> None:
        """Wait for the call before, raise its error, or begin this one."""
        self.wait()
        _begin(self._waiting, self._thread, function, *arguments)

    @property
    def is_idle(self) -> bool:
        """Whether a call would begin at once."""
        return all(call.done() for call in tuple(self._waiting))

    def wait(self) -> None:
        """Wait for the last call, and raise its error."""
        while self._waiting:
            call = self._waiting[0]
            wait([call])
            self._waiting.popleft()
            call.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            try:
                finish(self._waiting)
            finally:
                _end(self._thread)
