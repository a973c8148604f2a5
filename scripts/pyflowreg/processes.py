"""Which process made something, and whether it still lives."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self
from zlib import crc32


def born(pid: int) -> str | None:
    """Return when a process of this machine started, None if there is none.

    Parameters
    ----------
    pid : int
        Its number.

    Returns
    -------
    str or None
        In ticks since the machine was started; empty where the system does not tell.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return text.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except PermissionError:
        return ""
    except (OSError, OverflowError):
        return None
    return ""


@dataclass(frozen=True)
class ProcessMark:
    """A process, unlike any other of any machine.

    Parameters
    ----------
    host : int
        Checksum of the name of its machine.
    pid : int
        Its number there.
    ticks : int
        When it started, 0 if the system does not tell.
    """

    host: int
    pid: int
    ticks: int

    @classmethod
    def of_this(cls) -> Self:
        """Return that of the calling process."""
        return cls(_this_host(), os.getpid(), int(born(os.getpid()) or 0))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what `str` turned into text; ValueError for another text."""
        host, pid, ticks = (int(part, 16) for part in text.split("-"))
        return cls(host, pid, ticks)

    def __str__(self) -> str:
        return f"{self.host:08x}-{self.pid:x}-{self.ticks:x}"

    @property
    def is_here(self) -> bool:
        """Whether it belongs to this machine."""
        return self.host == _this_host()

    @property
    def lives(self) -> bool:
        """Whether it still runs on this machine."""
        found = born(self.pid) if self.is_here else None
        return found is not None and int(found or 0) == self.ticks


@cache
def _this_host() -> int:
    return crc32(platform.node().encode())
