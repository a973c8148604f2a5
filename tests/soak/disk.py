"""A small disk of its own, where that is allowed, which can be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

BALLAST = "ballast"
BLOCK = 65536


class Disk:
    """Where results go.

    Parameters
    ----------
    folder : Path
        Its place.
    size : int
        Bytes it holds; 0 if it is a part of another, which is never filled.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def fill(self, room: int) -> None:
        """Leave so many bytes free."""
        if not self.size:
            return
        with contextlib.suppress(OSError), (self.folder / BALLAST).open("ab") as ballast:
            while True:
                state = os.statvfs(self.folder)
                excess = state.f_bavail * state.f_frsize - room
                if excess <= 0:
                    return
                ballast.write(b"\0" * min(excess, BLOCK))
                ballast.flush()

    def free(self) -> None:
        """Take the ballast away."""
        (self.folder / BALLAST).unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Disk]:
    """Mount a disk in memory; without the right to do that, use a plain folder.

    Parameters
    ----------
    folder : Path
        Where; it is made.
    size : int
        Bytes it holds.

    Yields
    ------
    Disk
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "soak", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield Disk(folder, size if mounted else 0)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
