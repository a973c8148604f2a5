"""A folder that one process at a time may use, on disks of one machine and shared ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyflowreg.errors import OutputError
from pyflowreg.io.failures import make_folder, writing

logger = logging.getLogger(__name__)

LOCK = "lock"
# File systems without locks say so with these: some mounts of NFS and Lustre.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL})
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})

WAIT_HERE = 10.0
"""Seconds in which a process that was killed on this machine has ended."""
WAIT_ELSEWHERE = 120.0
"""Seconds after which a server forgets the locks of a machine that has crashed."""
EVERY = 0.2


class FolderLock:
    """Holds the lock of a folder; a context manager. The system releases it with the process.

    Where a file system has no locks, the run that came last owns the folder, and the one before is
    told by `is_held`.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    what : str
        What is worked on in it, for messages.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder = folder
        self.path = folder / LOCK
        self._what = what
        self._descriptor = -1
        self._owner = {
            "host": platform.node(),
            "pid": os.getpid(),
            "token": uuid.uuid4().hex,
        }

    def __enter__(self) -> Self:
        started = time.monotonic()
        while not self._try():
            other = self._read()
            here = other.get("host") == self._owner["host"]
            if time.monotonic() - started > (WAIT_HERE if here else WAIT_ELSEWHERE):
                raise OutputError(
                    f"{self._what} is being worked on by process {other.get('pid', '?')} on "
                    f"{other.get('host', 'another machine')}: two runs cannot make the same files. "
                    "Wait for the other one, or stop it, and run again"
                )
            time.sleep(EVERY)
        return self

    def _try(self) -> bool:
        """Take the lock, unless another process has it or has just removed the folder."""
        make_folder(self.folder)
        try:
            with writing(self.path):
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OutputError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN or error.errno not in _NO_LOCKS:
                self._close()
                if error.errno in _TAKEN:
                    return False
                raise
            logger.debug("%s cannot be locked: %s", self.path, error)
        if not self._is_same_file():
            self._close()
            return False
        try:
            with writing(self.path):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, json.dumps(self._owner).encode(), 0)
        except OutputError:  # a full disk
            self._close()
            raise
        return True

    def _is_same_file(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_held(self) -> bool:
        """Whether the folder still belongs to this process."""
        return self._read().get("token") == self._owner["token"]

    def remove_folder(self) -> None:
        """Remove the lock, then the folder, unless another process has put its lock there."""
        # In this order: on NFS a file that is open keeps its folder from being removed.
        self.path.unlink(missing_ok=True)
        self._close()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

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
        self._close()
