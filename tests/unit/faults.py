"""Kills and failures of the disk, at chosen steps or random moments of work in another process."""

from __future__ import annotations

import errno
import io
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyflowreg.errors import PyflowregError
from pyflowreg.io.atomic import temporary_sibling
from pyflowreg.io.storage import Storage

THOROUGH = "PYFLOWREG_ALL_KILLS" in os.environ
ENOUGH = 30
"""Kills that have to hit a process at work, in a thorough run."""

Work = Callable[[], object]

_ON_NAMES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}
_ON_FILES = {"write", "writelines", "truncate", "flush", "close", "__exit__"}
_ELSEWHERE = {"fsync", "pwrite", "ftruncate", "tofile"}
_WRITERS = (io.FileIO, io.BufferedWriter, io.BufferedRandom)
_NO_SPACE = {*_ON_FILES, "pwrite", "tofile", "half", "open", "os.mkdir"}


class Steps:
    """Watches what a process does to files, and kills it or lets the disk fail at one step.

    Parameters
    ----------
    last : int or None
        Number of the step, from 1; None counts only.
    fails : bool
        An error of the system instead of SIGKILL.
    """

    def __init__(self, last: int | None = None, fails: bool = False) -> None:
        self.count = 0
        self.kind = ""
        self._last = last
        self._fails = fails
        self._turn = threading.Lock()

    def __call__(self, kind: str, half: Work | None = None) -> None:
        with self._turn:
            self.count += 1
            if self.count != self._last:
                return
            self.kind = kind
        if half is not None:
            half()
        if not self._fails:
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOSPC if kind in _NO_SPACE else errno.EIO
        raise OSError(number, os.strerror(number))

    def install(self) -> None:
        """Watch this process until its end."""
        write = Storage.write

        def watched_write(storage: Storage, data: Any) -> int:
            view = memoryview(data).cast("B")
            if storage._present is None and not self._fails:
                self("half", lambda: write(storage, view[: len(view) // 2]))
            return write(storage, data)

        Storage.write = watched_write
        sys.addaudithook(self._hear)
        threading.setprofile(self._look)
        sys.setprofile(self._look)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _ON_NAMES:
            self(event)
        elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self("open")

    def _look(self, frame: Any, event: str, called: Any) -> None:
        if event != "c_call":
            return
        name = called.__name__
        if name in _ELSEWHERE:
            self(name)
        elif name in _ON_FILES:
            file = called.__self__
            if isinstance(file, _WRITERS) and not file.closed and file.writable():
                self(name)


@dataclass(frozen=True)
class Ended:
    """How work in another process ended: killed, or with an error, or done."""

    killed: bool
    steps: int = 0
    kind: str = ""
    error: str = ""


def in_child(work: Work, last: int | None = None, *, fails: bool = False) -> Ended:
    """Do some work in another process, at one step of which it is killed or the disk fails."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        steps = Steps(last, fails)
        error = ""
        try:
            steps.install()
            work()
        except PyflowregError:
            error = "told"
        except BaseException as found:  # noqa: BLE001 - told to the test
            error = repr(found)
        finally:
            sys.setprofile(None)
            os.write(writing, f"{steps.count}\n{steps.kind}\n{error}".encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return Ended(killed=True)
    count, kind, error = text.split("\n", 2)
    return Ended(False, int(count), kind, error)


def begun(work: Work) -> int:
    """Begin some work in another process; return its number."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        except SystemExit as stop:
            status = stop.code
        finally:
            os._exit(status)
    return process


def signalled(process: int, signum: int, seconds: float) -> int | None:
    """Send a signal after some time; return the exit status, None if the process was killed."""
    time.sleep(seconds)
    # A process that has ended waits for its parent, so the number is still its own.
    os.kill(process, signum)
    _, status = os.waitpid(process, 0)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def killed_at_random(
    work: Work, check: Callable[[], None], name: str, tally: Callable[..., None]
) -> None:
    """Kill some work at random moments, uniformly over its duration, until enough have hit it.

    Parameters
    ----------
    work : callable
        Done in another process; killed once each time.
    check : callable
        Goes on and compares; leaves everything as it was before.
    name : str
        For the table of counts.
    tally : callable
        Takes the counts.
    """
    moments = random.Random(name)
    started = time.monotonic()
    _, status = os.waitpid(begun(work), 0)
    assert status == 0
    seconds = time.monotonic() - started
    check()
    tried = landed = 0
    while landed < (ENOUGH if THOROUGH else 3):
        tried += 1
        landed += signalled(begun(work), signal.SIGKILL, moments.uniform(0, seconds)) is None
        check()
        tally(f"killed at random: {name}", tried=1)
        assert tried < 20 * ENOUGH
    tally(f"killed at random: {name}", landed=landed, survived=landed)


def at_every_step(
    work: Work,
    check: Callable[[], None],
    name: str,
    tally: Callable[..., None],
    *,
    fails: bool,
    sample: int,
) -> None:
    """Kill some work, or let the disk fail, at each step or a sample of the steps.

    An error of the disk must reach the user as a message, unless it does not matter.
    """
    whole = in_child(work, fails=fails)
    assert not whole.error
    check()
    moments = range(1, whole.steps + 1)
    if not THOROUGH:
        moments = sorted(random.Random(name).sample(moments, min(sample, whole.steps)))
    untold = []
    for moment in moments:
        ended = in_child(work, moment, fails=fails)
        check()
        if ended.error not in ("", "told"):
            untold.append((moment, ended.kind, ended.error))
        how = "disk failed" if fails else "killed"
        tally(f"{how} at each step: {name}", tried=1, landed=ended.killed or bool(ended.kind))
        tally(f"{how} at each step: {name}", survived=1)
    assert untold == []


def abandoned(path: Path) -> Path:
    """Write a file under a temporary name of `path`, in a process that has ended."""
    reading, writing = os.pipe()
    if (process := os.fork()) == 0:
        temporary = temporary_sibling(path)
        temporary.write_bytes(b"half")
        os.write(writing, os.fsencode(temporary))
        os._exit(0)
    os.close(writing)
    os.waitpid(process, 0)
    with os.fdopen(reading) as answer:
        return Path(answer.read())
