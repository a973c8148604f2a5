"""A folder that one process at a time may use, on disks of one machine and shared ones."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from types import TracebackType

from pyflowreg.errors import OutputError
from pyflowreg.io.failures import writing
from pyflowreg.io.file_lock import FileLock

LOCK = "lock"


class FolderLock(FileLock):
    """Holds the lock of a folder, which stays; a context manager.

    Where a file system has no locks, the run that came last owns the folder, and the one before is
    told by `is_held`. What that one still writes goes to files that have no name any more.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    what : str
        What is worked on in it, for messages.
    """

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(folder / LOCK, what)
        self.folder = folder

    def _try(self) -> bool:
        if self.folder.is_symlink():
            raise OutputError(
                f"{self.folder} is a symbolic link, but files in it are removed. Delete the link"
            )
        was_left = self.path.exists()
        if not super()._try():
            return False
        if was_left and not self.is_real:
            self._take_copies()
        return True

    def _take_copies(self) -> None:
        """Give every file another inode: the owner before may be at work, and cannot be seen."""
        for file in self.folder.iterdir():
            if file != self.path and file.is_file():
                copy = file.with_name(f"{file.name}.copy")
                with writing(file):
                    shutil.copyfile(file, copy)
                    copy.replace(file)

    def remove_folder(self) -> None:
        """Remove the lock, then the folder, unless another process has put its lock there."""
        # In this order: on NFS a file that is open keeps its folder from being removed.
        self.release()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
