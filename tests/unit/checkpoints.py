"""A session of one short recording, corrected in small chunks, and ways to interrupt it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyflowreg.io.atomic import temporary_sibling
from pyflowreg.io.storage import Storage
from pyflowreg.motion_correction import correction
from pyflowreg.session import SessionConfig

from .scenes import movie, save_tiff, wobble

FLOW = {
    "quality_setting": "fast",
    "iterations": 2,
    "reference_frames": [0, 1, 2, 3],
    "buffer_size": 5,
    "save_w": True,
}
FRAMES = 12
_CHANGING = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def session(root: Path, channels: int = 1, **flow: Any) -> SessionConfig:
    """Settings of a session of one recording, saved after every chunk."""
    save_tiff(root / "rec.tif", movie(wobble(FRAMES), (24, 32), channels, noise=0.05))
    options = {**FLOW, **flow}
    return SessionConfig(root=root, flow_options=options, n_workers=1, checkpoint_seconds=1e-9)


def results(config: SessionConfig) -> dict[str, bytes]:
    """Content of every file of the recording, also of those that should not be there."""
    folder = config.root / "compensated_outputs"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def forget(config: SessionConfig) -> None:
    """Remove all results."""
    shutil.rmtree(config.root / "compensated_outputs", ignore_errors=True)


def small_chunks(monkeypatch: Any, length: int = 2) -> None:
    """Correct so many frames at a time."""
    monkeypatch.setattr(correction, "chunk_length", lambda *size: length)


def abandoned(path: Path) -> Path:
    """Write a file under a temporary name of `path`, in a process that has ended."""
    reading, writing = os.pipe()
    if (process := os.fork()) == 0:
        temporary = temporary_sibling(path)
        temporary.write_bytes(b"half")
        os.write(writing, os.fsencode(temporary))
        os._exit(0)
    os.close(writing)
    os.waitpid(process, 0)
    with os.fdopen(reading) as answer:
        return Path(answer.read())


class Steps:
    """Counts what a process does to files, and kills it at one of these steps.

    Parameters
    ----------
    last : int or None
        Number of the step, from 1, at which SIGKILL comes; None counts only.
    """

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last

    def __call__(self, half: Callable[[], object] | None = None) -> None:
        self.count += 1
        if self.count == self._last:
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Watch this process until its end."""
        sync, write = os.fsync, Storage.write

        def watched_sync(descriptor: Any) -> None:
            self()
            sync(descriptor)

        def watched_write(storage: Storage, data: Any) -> int:
            view = memoryview(data).cast("B")
            if storage._present is None:
                self(lambda: write(storage, view[: len(view) // 2]))
            return write(storage, data)

        os.fsync, Storage.write = watched_sync, watched_write
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in _CHANGING or opened:
            self()


def in_child(work: Callable[[], object], last: int | None = None) -> int | None:
    """Do some work in another process, which is killed at a step; return the number of steps.

    Returns
    -------
    int or None
        None if it was killed.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            steps = Steps(last)
            steps.install()
            work()
            os.write(writing, str(steps.count).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.waitstatus_to_exitcode(status) == 0
    return int(text)
