"""Running a scheduler's own commands."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE_SECONDS = 30.0
NOT_THERE = 127
TOO_SLOW = 124
# How a job ended of which Grid Engine or PBS knows nothing else.
KILLED = "killed from outside (qdel, an administrator, or a node that failed)"


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Parameters
    ----------
    status : int
        Exit status; 127 if there is no such command, 124 if it did not answer in time.
    text : str
        Standard output.
    errors : str
        Standard error.
    """

    status: int
    text: str
    errors: str


def ask(command: Sequence[str], patience: float = PATIENCE_SECONDS) -> Answer:
    """Run a command and return what it said; nothing is raised.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    patience : float
        Seconds to wait.

    Returns
    -------
    Answer
        Also if the command does not exist or takes too long.
    """
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(TOO_SLOW, "", f"{command[0]} did not answer within {patience:.0f} s")
    except OSError as error:
        return Answer(NOT_THERE, "", str(error))
    return Answer(done.returncode, done.stdout, done.stderr)


def user() -> str:
    """Return the name under which jobs are submitted."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this user on the machine
        return str(os.getuid())


def qdel(ids: Sequence[str]) -> None:
    """Cancel jobs of Grid Engine or PBS; those that have ended already are no error.

    Parameters
    ----------
    ids : sequence of str
        Identifiers.
    """
    if ids:
        ask(["qdel", *ids])
