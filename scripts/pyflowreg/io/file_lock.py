"""A file that one process at a time holds, on disks of one machine and shared ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import stat
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyflowreg.errors import OutputError
from pyflowreg.io.failures import make_folder, output_error, remove_file, writing
from pyflowreg.io.safety import read_small

logger = logging.getLogger(__name__)

# File systems without locks say so with these: some mounts of NFS and Lustre.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL})
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
_LONGEST_NOTE = 4096
# Never through a link, and without waiting for the other end of a pipe.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK

WAIT_HERE = 10.0
"""Seconds in which a process that was killed on this machine has ended."""
WAIT_ELSEWHERE = 120.0
"""Seconds after which a server forgets the locks of a machine that has crashed."""
EVERY = 0.2


class FileLock:
    """Holds the lock of a file; a context manager that removes the file in the end.

    The system releases the lock with the process: a file that a killed process has left does not
    matter. Where a file system has no locks, everybody who asks gets the lock.

    Parameters
    ----------
    path : Path
        Made with its folder if it does not exist.
    what : str
        What is worked on, for messages.
    shared : bool
        Others may hold it as well if they share it, too.
    """

    def __init__(self, path: Path, what: str, *, shared: bool = False) -> None:
        self.path = path
        self.is_real = True
        self._what = what
        self._shared = shared
        self._descriptor = -1
        self._made: list[Path] = []
        self._owner = {"host": platform.node(), "pid": os.getpid(), "token": uuid.uuid4().hex}

    def __enter__(self) -> Self:
        try:
            self._wait()
        except BaseException:  # Ctrl-C, too, or this process would keep itself out
            self._close()
            raise
        return self

    def _wait(self) -> None:
        folders = (self.path.parent, *self.path.parent.parents)
        self._made = [folder for folder in folders if not folder.exists()]
        started = time.monotonic()
        told = False
        while not self._try():
            other = self._read()
            here = other.get("host") == self._owner["host"]
            waited, most = time.monotonic() - started, WAIT_HERE if here else WAIT_ELSEWHERE
            if waited > most:
                raise OutputError(self._refusal(other, here))
            if not told and waited > 5 * EVERY:
                logger.info("%s: waiting up to %.0f s for %s.", self._what, most, _named(other))
                told = True
            time.sleep(EVERY)

    def _refusal(self, other: dict[str, Any], here: bool) -> str:
        text = (
            f"{self._what} is being worked on by {_named(other)}: two runs cannot make the same "
            "files. Wait for the other one, or stop it, and run again"
        )
        if here:
            return text
        return f"{text}. If that machine is gone for good, delete {self.path}"

    def _try(self) -> bool:
        """Take the lock, unless another process has it or has just removed the file."""
        make_folder(self.path.parent)
        try:
            with writing(self.path):
                self._descriptor = os.open(self.path, _FLAGS | os.O_CREAT, 0o666)
        except OutputError as error:
            if error.errno == errno.ELOOP:
                raise _foreign(self.path) from None
            if error.errno != errno.ENOENT:
                raise
            return False
        if not (self._lock() and self._is_same_file()):
            self._close()
            return False
        found = os.fstat(self._descriptor)
        if found.st_nlink > 1 or not stat.S_ISREG(found.st_mode):
            raise _foreign(self.path)
        with writing(self.path):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(self._owner).encode(), 0)
        return True

    def _lock(self) -> bool:
        mode = fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, mode | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno not in _NO_LOCKS:
                raise output_error(self.path, error) from error
            logger.debug("%s cannot be locked: %s", self.path, error)
            self.is_real = False
        return True

    def _is_same_file(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(read_small(self.path, _LONGEST_NOTE))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_held(self) -> bool:
        """Whether the file still bears the name of this process, which the last owner wrote."""
        return self._read().get("token") == self._owner["token"]

    def release(self) -> None:
        """Remove the file, and folders made for it that are empty, and give up the lock.

        While others share it, the file stays.
        """
        if self._descriptor < 0:
            return
        try:
            if not self._shared or self._is_last():
                self._remove()
        finally:
            self._close()

    def _is_last(self) -> bool:
        """Whether no other process shares the lock, as far as can be told."""
        if not self.is_real:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _remove(self) -> None:
        if self._is_same_file() and (self.is_real or self.is_held):
            remove_file(self.path)
            for folder in self._made:
                with contextlib.suppress(OSError):  # not empty
                    folder.rmdir()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _foreign(path: Path) -> OutputError:
    return OutputError(
        f"{path} is a link to something else, or no file, and would be changed. It is not a "
        "session's own: remove it and run again"
    )


def _named(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', 'another machine')}"


def holder(path: Path) -> str | None:
    """Tell who holds the lock of a file; nothing is changed, nor is there any waiting.

    Parameters
    ----------
    path : Path
        The file of a `FileLock`; it need not exist.

    Returns
    -------
    str or None
        For messages; None if nobody holds it, or the file system has no locks.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return _named(FileLock(path, "")._read()) if error.errno in _TAKEN else None
    finally:
        os.close(descriptor)
    return None
