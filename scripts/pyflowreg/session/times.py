"""Ages of results, on machines whose clocks differ or were wrong for a while.

What is outdated is told by age, so a result must never be older than what it was made from, and
none may be dated in the future, where it would count as newer than all that is made from now on.
Imported while the workflow is parsed: no libraries.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pyflowreg.errors import ConfigError

if TYPE_CHECKING:
    from pyflowreg.session.discovery import Recording
    from pyflowreg.session.outputs import SessionPaths

logger = logging.getLogger(__name__)

TOLERANCE = 60.0
"""Seconds by which clocks of a file server and its machines may differ."""


def date_after(path: Path, sources: Iterable[Path]) -> None:
    """Give a result at least the age of what it was made from.

    Parameters
    ----------
    path : Path
        A result that is complete.
    sources : iterable of Path
        What it was made from; all exist.
    """
    newest = max(source.stat().st_mtime_ns for source in sources)
    if path.stat().st_mtime_ns < newest:
        os.utime(path, ns=(newest, newest))


def is_in_future(path: Path) -> bool:
    """Return whether a file is dated in the future.

    Parameters
    ----------
    path : Path
        A file or folder that exists.

    Returns
    -------
    bool
        True beyond the differences that clocks usually have.
    """
    return path.stat().st_mtime > time.time() + TOLERANCE


def check_not_in_future(recordings: Iterable[Recording]) -> None:
    """Refuse recordings dated in the future, which Snakemake would refuse after the work.

    Parameters
    ----------
    recordings : iterable of Recording
        Recordings of a session.

    Raises
    ------
    ConfigError
        Naming each.
    """
    problems = [
        f"{recording.path} is dated in the future ({time.ctime(recording.path.stat().st_mtime)}; "
        f"now it is {time.ctime()}). Snakemake tells by age what is outdated, and fails jobs whose "
        "results are older than the recording. Set the clock of this machine right, or date the "
        "file back (`touch`); pyflowreg-session takes it as it is."
        for recording in recordings
        if is_in_future(recording.path)
    ]
    if problems:
        raise ConfigError(problems)


def results_in(paths: SessionPaths, names: Iterable[str]) -> Iterator[Path]:
    """List the files in the output folders of a session.

    Parameters
    ----------
    paths : SessionPaths
        Of the session.
    names : iterable of str
        Names of its recordings.

    Yields
    ------
    Path
        A file that is not hidden.
    """
    folders = [paths.output_root, paths.final_results]
    folders += [paths.recording(name).folder for name in names]
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.is_file():
                        yield Path(entry.path)
        except OSError:  # not there, or out of reach, which whoever needs it will say
            continue


def settle(results: Iterable[Path]) -> int:
    """Date results of the future back to now, in their order; nothing else changes.

    They were made while a clock was wrong. Each gets a time of its own, later than all that is
    older, so what was outdated stays so.

    Parameters
    ----------
    results : iterable of Path
        Files that a run may have made; those that do not exist are left out.

    Returns
    -------
    int
        Number of files that were dated back.
    """
    found = []
    for path in results:
        try:
            found.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue
    now = time.time_ns()
    late = sorted(entry for entry in found if entry[0] > now + TOLERANCE * 1e9)
    dates = sorted({made for made, _ in late}, reverse=True)
    ranks = {made: rank for rank, made in enumerate(dates)}
    for made, path in late:
        # A microsecond apart: many file systems keep no less.
        then = now - 1000 * ranks[made]
        try:
            os.utime(path, ns=(then, then))
        except OSError as error:
            logger.warning("%s is dated in the future and cannot be changed: %s", path, error)
    if late:
        logger.warning(
            "%d results were dated in the future (%s, for example): a clock was wrong. They are "
            "dated back to now, in their order.",
            len(late),
            late[0][1],
        )
    return len(late)
