"""A file system that passes everything on to a folder and writes down what it was asked for.

Run as ``recorder.py FOLDER MOUNT_POINT JOURNAL``; it ends when the mount point is unmounted.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from errno import ENOENT
from pathlib import Path
from typing import Any

import mfusepy as fuse


class Recorder(fuse.Operations):
    """The operations that change something, in their order; files have numbers, names may go."""

    use_ns = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[int, int] = {}
        self._open: dict[int, int] = {}
        self.events: list[dict[str, Any]] = []

    def _at(self, path: str) -> str:
        return str(self._folder) + path

    def _note(self, kind: str, **entries: Any) -> None:
        self.events.append({"kind": kind, **entries})

    def _number(self, path: str) -> int:
        return self._numbers[os.lstat(self._at(path)).st_ino]

    def init(self, path: str) -> None:
        """Nothing to do."""

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Attributes of a name."""
        try:
            found = os.lstat(self._at(path))
        except FileNotFoundError:
            raise fuse.FuseOSError(ENOENT) from None
        names = ("mode", "ino", "nlink", "uid", "gid", "size", "blocks")
        values = {f"st_{name}": getattr(found, f"st_{name}") for name in names}
        times = {
            f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")
        }
        return {**values, **times}

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """Names in a folder, each with its inode: one without is not shown."""
        with os.scandir(self._at(path)) as entries:
            for entry in entries:
                yield entry.name, {"st_ino": entry.inode()}, 0

    def statfs(self, path: str) -> dict[str, int]:
        """Space that is left."""
        found = os.statvfs(self._at(path))
        names = ("bavail", "bfree", "blocks", "bsize", "files", "ffree", "frsize", "namemax")
        return {f"f_{name}": getattr(found, f"f_{name}") for name in names}

    def access(self, path: str, amode: int) -> int:
        """Everything is allowed."""
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """Make a file."""
        return self._opened(path, os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        """Open a file."""
        return self._opened(path, flags & ~os.O_APPEND, 0o644)

    def _opened(self, path: str, flags: int, mode: int) -> int:
        is_new = not os.path.lexists(self._at(path))
        handle = os.open(self._at(path), flags, mode)
        inode = os.fstat(handle).st_ino
        if is_new:
            self._numbers[inode] = len(self.events)
            self._note("create", path=path, file=self._numbers[inode])
        elif flags & os.O_TRUNC:
            self._note("truncate", file=self._numbers[inode], size=0)
        self._open[handle] = self._numbers[inode]
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Part of a file."""
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Change a part of a file."""
        text = base64.b64encode(data).decode()
        self._note("write", file=self._open[fh], offset=offset, data=text)
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Set the length of a file."""
        self._note(
            "truncate", file=self._number(path) if fh is None else self._open[fh], size=length
        )
        os.truncate(self._at(path) if fh is None else fh, length)
        return 0

    def release(self, path: str, fh: int) -> int:
        """Close a file."""
        del self._open[fh]
        os.close(fh)
        return 0

    def flush(self, path: str, fh: int) -> int:
        """Closing a file writes nothing."""
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """What was written to a file is on the disk from now on."""
        self._note("sync", file=self._open[fh])
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        """The names in a folder are on the disk from now on."""
        self._note("sync folder", path=path)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        """Make a folder."""
        os.mkdir(self._at(path), mode)
        self._note("mkdir", path=path)
        return 0

    def rmdir(self, path: str) -> int:
        """Remove a folder."""
        os.rmdir(self._at(path))
        self._note("rmdir", path=path)
        return 0

    def unlink(self, path: str) -> int:
        """Remove a name."""
        os.unlink(self._at(path))
        self._note("unlink", path=path)
        return 0

    def rename(self, old: str, new: str) -> int:
        """Give a file another name."""
        number = self._number(old)
        os.rename(self._at(old), self._at(new))
        self._note("rename", path=new, old=old, file=number)
        return 0

    def link(self, target: str, source: str) -> int:
        """Give a file a second name."""
        os.link(self._at(source), self._at(target))
        self._note("link", path=target, file=self._number(target))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Rights do not matter here."""
        os.chmod(self._at(path), mode)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        """Times do not matter here."""
        os.utime(self._at(path))
        return 0


def main(folder: str, mount_point: str, journal: str) -> None:
    """Serve until unmounted, then write the journal."""
    recorder = Recorder(Path(folder))
    fuse.FUSE(
        recorder, mount_point, foreground=True, nothreads=True, use_ino=True, hard_remove=True,
        attr_timeout=0, entry_timeout=0,
    )  # fmt: skip
    Path(journal).write_text(json.dumps(recorder.events), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
