"""What one job asks a scheduler for, in words that are the same for all schedulers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LONGEST_NAME = 60


@dataclass(frozen=True)
class Request:
    """One job, or an array of jobs that differ only in their number.

    Parameters
    ----------
    name : str
        Shown by the scheduler; made acceptable to it.
    log : Path
        File, or for arrays a pattern of the scheduler, that gets what the job writes.
    threads : int
        Cores.
    mem_mb : int
        Memory of the whole job, MB; 0: what the scheduler gives by default.
    minutes : int
        Time limit; 0: the scheduler's default.
    gpus : int
        GPUs.
    disk_mb : int
        Room on the node's own disk, MB; asked for only where `site` names a resource for it.
    site : mapping
        What is particular to a cluster: queue, account, names of its resources, further options.
        The keys are those of the profile without the scheduler's prefix.
    array : int
        Number of jobs, numbered from 1; 0: no array.
    at_once : int
        Jobs of an array that may run at a time; 0: all.
    """

    name: str
    log: Path
    threads: int = 1
    mem_mb: int = 0
    minutes: int = 0
    gpus: int = 0
    disk_mb: int = 0
    site: Mapping[str, str] = field(default_factory=dict)
    array: int = 0
    at_once: int = 0

    def option(self, key: str, default: str = "") -> str:
        """Return an entry of `site`, without quotation marks that were meant for a parser.

        Parameters
        ----------
        key : str
            Its name.
        default : str
            Returned if it is missing or empty.

        Returns
        -------
        str
            The value.
        """
        value = str(self.site.get(key, "")).strip().strip("'\"").strip()
        return value or default

    @property
    def extra(self) -> list[str]:
        """Further options, split as a shell would."""
        return shlex.split(self.option("extra"))


def plain_name(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a name that every scheduler accepts: it starts with a letter and has no odd signs.

    Parameters
    ----------
    text : str
        Any text.
    longest : int
        Length at which it is cut.

    Returns
    -------
    str
        Letters, digits, dots, hyphens and underscores.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_.-") or "job"
    return (name if name[0].isalpha() else f"j{name}")[:longest]


def clock(minutes: int) -> str:
    """Return a time as schedulers write it.

    Parameters
    ----------
    minutes : int
        At least one minute is given.

    Returns
    -------
    str
        HH:MM:SS.
    """
    whole = max(1, minutes)
    return f"{whole // 60:02d}:{whole % 60:02d}:00"
