"""Who works on a session: one run at a time, and within it one process per result.

Snakemake removes the outputs of a job before it starts and when it fails, whoever made them. So a
run of the workflow, like one of the command, has the session for itself; array jobs and Python
functions, which never remove what is finished, share it. The single results have locks as well,
because jobs outlive a run that was killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path

from pyflowreg.io.file_lock import FileLock, holder
from pyflowreg.motion_correction.folder_lock import LOCK
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.outputs import SessionPaths, session_paths
from pyflowreg.session.preflight import folder_problems, preflight

_held: ContextVar[frozenset[Path]] = ContextVar(
    "sessions held by this process", default=frozenset()
)


@contextlib.contextmanager
def session_lock(config: SessionConfig, *, alone: bool = False) -> Iterator[None]:
    """Work on a session.

    Parameters
    ----------
    config : SessionConfig
        The session.
    alone : bool
        Nobody else may work on it meanwhile; otherwise those may who do not ask for that. Within
        a block of the same session it has no effect.

    Raises
    ------
    ConfigError
        If its output folders cannot be written; then it tells all problems of the session.
    OutputError
        If another run works on it.
    """
    paths = session_paths(config)
    path = paths.lock.absolute()
    if path in _held.get() or not paths.root.is_dir():  # what is missing is told elsewhere
        yield
        return
    if folder_problems(config):  # before the lock's own folder, which knows no settings
        preflight(config)
    with FileLock(path, f"The session {paths.root}", shared=not alone):
        token = _held.set(_held.get() | {path})
        try:
            yield
        finally:
            _held.reset(token)


def remove_left_lock(config: SessionConfig) -> None:
    """Remove the file of a session's lock if a run that was killed has left it.

    Raises
    ------
    OutputError
        If that is impossible.
    """
    path = session_paths(config).lock
    if path.exists() and holder(path) is None:
        with FileLock(path, f"The session {config.root}"):
            pass  # whoever gives it back removes it


def stage2_lock(config: SessionConfig) -> FileLock:
    """Lock for whoever writes the fields of a session."""
    paths = session_paths(config)
    return FileLock(paths.stage2_lock, f"Stage 2 of the session {paths.root}")


def mask_lock(config: SessionConfig) -> FileLock:
    """Lock for whoever writes the files of the final mask."""
    paths = session_paths(config)
    return FileLock(paths.mask_lock, f"The final mask of the session {paths.root}")


def video_lock(config: SessionConfig, name: str) -> FileLock:
    """Lock for whoever writes the aligned video of the recording `name`."""
    path = session_paths(config).recording(name).video_lock
    return FileLock(path, f"The aligned video of {name}")


def at_work(paths: SessionPaths, names: Iterable[str]) -> list[str]:
    """Find processes that work on single results of a session.

    Parameters
    ----------
    paths : SessionPaths
        Of the session.
    names : iterable of str
        Names of its recordings.

    Returns
    -------
    list of str
        What they work on and who they are, for messages.
    """
    files = {"stage 2": paths.stage2_lock, "the final mask": paths.mask_lock}
    for name in names:
        recording = paths.recording(name)
        files[f"stage 1 of {name}"] = recording.checkpoint / LOCK
        files[f"the video of {name}"] = recording.video_lock
    found = {what: holder(path) for what, path in files.items()}
    return [f"{what} ({who})" for what, who in found.items() if who is not None]
