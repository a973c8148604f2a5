"""Starting and stopping daemons by their pid files, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class CannotStartError(Exception):
    """A scheduler cannot be started here; the message says why."""


def command(*words: str, patience: float = 60, **environment: str) -> str:
    """Run a command; return what it wrote, raise with that if it fails."""
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode:
        raise CannotStartError(f"{' '.join(words)}: {done.stdout.strip()}")
    return done.stdout


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def running(names: set[str]) -> list[str]:
    """Return which of these programs run on this machine."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted({name_of(pid) for pid in pids} & names)


def pid_in(file: Path) -> int | None:
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def stop(file: Path, program: str, patience: float = 15) -> None:
    """Stop the process of a pid file, if it still is that program."""
    pid = pid_in(file)
    if pid is None or not name_of(pid).startswith(program[:15]):
        return
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            break
        if wait_until(lambda: not name_of(pid).startswith(program[:15]), patience):
            break
    file.unlink(missing_ok=True)


def wait_until(condition: Callable[[], object], patience: float, pause: float = 0.1) -> bool:
    """Ask until something holds; return whether it does."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())
