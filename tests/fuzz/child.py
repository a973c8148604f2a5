"""A process that reads hostile files, with little memory, and another that watches it.

Run as a program it answers requests, lines of JSON; `Child` starts it and kills it when it takes
too long. So a crash of the interpreter, a hang, or a flood of memory is told apart from an error.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TESTS = Path(__file__).resolve().parents[1]
MEMORY = 3 * 2**29
"""Bytes of address space that a case may take beyond what the process had after its imports."""
SECONDS = 20.0
"""Within which a case has to end."""


@dataclass(frozen=True)
class Answer:
    """What became of a case.

    Parameters
    ----------
    outcome : str
        "read", "refused: why", "defect: traceback", "crash: signal", or "hang".
    seconds : float
        How long it took.
    megabytes : float
        By how much the peak of the process's memory grew.
    """

    outcome: str
    seconds: float = 0.0
    megabytes: float = 0.0

    @property
    def is_fine(self) -> bool:
        return self.outcome == "read" or self.outcome.startswith("refused: ")


class Child:
    """The process that reads; started again after a crash.

    Parameters
    ----------
    seconds : float
        Time for each case.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="hostile-")
        self.folder = Path(self._folder.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def _start(self) -> subprocess.Popen[str]:
        scripts = TESTS.parent / "scripts"
        path = os.pathsep.join([str(TESTS), str(scripts), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.child"],
            env={**os.environ, "PYTHONPATH": path},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._line(120.0) == "ready\n", "the reading process does not start"
        return self._process

    def _line(self, seconds: float) -> str | None:
        """Return the next line it says; None if none comes in time, an empty one if it ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return self._process.stdout.readline() if ready else None

    def read(self, target: str, content: bytes, suffix: str) -> Answer:
        """Let a target read a file of this content."""
        path = self.folder / f"case{suffix}"
        path.write_bytes(content)
        return self.read_path(target, path)

    def read_path(self, target: str, path: Path) -> Answer:
        """Let a target read what is at a path."""
        process = self._process or self._start()
        assert process.stdin is not None
        started = time.monotonic()
        process.stdin.write(json.dumps([target, str(path)]) + "\n")
        process.stdin.flush()
        line = self._line(self._seconds)
        seconds = time.monotonic() - started
        if not line:
            answer = Answer("hang" if line is None else f"crash: {process.wait()}", seconds)
            self._end()
            return answer
        outcome, megabytes = json.loads(line)
        return Answer(outcome, seconds, megabytes)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries say must not look like an answer
    from fuzz.targets import outcome

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))

    def answer(content: Any) -> None:
        answers.write(content + "\n")
        answers.flush()

    answer("ready")
    for line in sys.stdin:
        target, path = json.loads(line)
        before = _peak()
        try:
            result = outcome(target, Path(path))
        except BaseException:  # noqa: BLE001 - whatever it is, it is what is looked for
            result = "defect: " + traceback.format_exc()
        answer(json.dumps([result, _peak() - before]))


if __name__ == "__main__":
    _serve()
