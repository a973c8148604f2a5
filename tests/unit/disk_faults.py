"""Disks that fail: full from some step on, or with a size that no file may pass."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from pyflowreg.errors import PyflowregError
from pyflowreg.io.storage import Storage

_CHANGING = {"os.rename", "os.link", "os.mkdir", "os.truncate"}
_CAPABILITIES_3 = 0x20080522
_IGNORE_PERMISSIONS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Outcome(NamedTuple):
    """How some work ended: `error` is empty if it went well, "told" after an error for users, else
    a traceback; `steps` counts what needed the disk."""

    error: str
    message: str
    steps: int


class FailingDisk:
    """Lets every step that needs the disk fail, from one of them on; a function for `in_child`.

    Parameters
    ----------
    below : str
        Only files whose path contains this are on the disk.
    first : int or None
        Number of the step, from 1; None counts only.
    number : int
        Error number of the system.
    """

    def __init__(self, below: str, first: int | None = None, number: int = 28) -> None:
        self.count = 0
        self._below, self._first, self._number = below, first, number

    def step(self, path: Any = None) -> None:
        """One step; the error, if it is time."""
        self.count += 1
        if self._first is not None and self.count >= self._first:
            where = () if path is None else (path,)
            raise OSError(self._number, os.strerror(self._number), *where)

    def __call__(self) -> None:
        """For this process, until its end."""
        sync, write = os.fsync, Storage.write
        disk = self

        class Watched:
            """The file below a Storage."""

            def __init__(self, file: Any) -> None:
                self.file = file

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            def write(self, view: Any) -> int:
                disk.step()
                return int(self.file.write(view))

        def watched_sync(descriptor: Any) -> None:
            disk.step()
            sync(descriptor)

        def watched_write(storage: Storage, data: Any) -> int:
            if not isinstance(storage._file, Watched):
                storage._file = Watched(storage._file)
            return write(storage, data)

        os.fsync, Storage.write = watched_sync, watched_write
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and arguments[2] is not None and arguments[2] & _WRITING
        if (event in _CHANGING or opened) and self._below in str(arguments[0]):
            self.step(arguments[0])


class LargestFile:
    """Lets no file become larger, as `ulimit -f` does; a function for `in_child`."""

    count = 0

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self) -> None:
        """For this process, until its end."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._size))


class NoPrivileges:
    """Lets root heed the permissions of files, as anybody else; a function for `in_child`."""

    count = 0

    def __call__(self) -> None:
        """For this process, until its end."""
        if os.geteuid() != 0:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, each in two words
        if libc.capget(header, sets) != 0:
            raise OSError(ctypes.get_errno(), "capget")
        for word in (0, 1):
            sets[word] &= ~_IGNORE_PERMISSIONS
        if libc.capset(header, sets) != 0:
            raise OSError(ctypes.get_errno(), "capset")


def in_child(work: Callable[[], object], disk: FailingDisk | LargestFile | NoPrivileges) -> Outcome:
    """Do some work in another process, on such a disk."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        error, message = "", ""
        try:
            disk()
            work()
        except PyflowregError as known:
            error, message = "told", str(known)
        except BaseException as other:  # noqa: BLE001 - the test shows it
            error, message = traceback.format_exc(), str(other)
        finally:
            os.write(writing, json.dumps([error[-3000:], message[:3000], disk.count]).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(process, 0)
    return Outcome(*json.loads(text))
