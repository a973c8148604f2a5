"""Tools in processes of their own, and what they cost."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

WORKER = Path(__file__).parents[1] / "workers" / "worker.py"
THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
SAMPLE_SECONDS = 0.1


class ToolError(RuntimeError):
    """A tool failed; the message is its own."""


@dataclass(frozen=True)
class Call:
    """What one call of a tool gave and cost.

    Parameters
    ----------
    value : object
        What the function returned.
    seconds, cpu_seconds : float
        Wall time, and CPU time of all its processes.
    peak_bytes : int
        Largest resident size: of the process, or the proportional sum over its child processes too.
    """

    value: Any
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def environment(threads: int | None, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a tool; `threads` limits the threads of its libraries."""
    result = dict(os.environ)
    if threads is not None:
        result |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    return result | (extra or {})


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            children = [int(child) for child in _text(task).split()]
            found += children
            queue += children
    return found


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the proportional resident size (shared pages counted once) of some processes."""
    total = 0
    for pid in pids:
        for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:  # the process has ended
        return ""


class _Sampler(threading.Thread):
    """Watches the memory of a process that has child processes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._end = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            children = descendants(self._pid)
            if children:
                self.peak = max(self.peak, proportional_bytes([self._pid, *children]))

    def stop(self) -> int:
        self._end.set()
        self.join()
        return self.peak


class Tool:
    """A module of `workers`, running in an interpreter of its own until the `with` ends.

    Parameters
    ----------
    module : str
        Its name.
    python : str
        Interpreter of the environment that has the tool.
    threads : int, optional
        Threads its libraries may use; 1 also pins it to one core.
    log : Path
        Receives what it prints.
    extra : dict of str, optional
        Further environment variables.
    """

    def __init__(
        self,
        module: str,
        python: str,
        log: Path,
        threads: int | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        self.module = module
        self._log = log
        command = [python, str(WORKER), module]
        if threads == 1 and hasattr(os, "sched_getaffinity"):
            command += ["--cpu", str(max(os.sched_getaffinity(0)))]
        log.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[str] = log.open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stream,
            text=True,
            env=environment(threads, extra),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stream.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def __call__(self, function: str, **arguments: Any) -> Call:
        """Call a function of the module and wait for it."""
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        sampler = _Sampler(self._process.pid)
        sampler.start()
        try:
            pipe.write(json.dumps({"call": function, "arguments": arguments}) + "\n")
            pipe.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        finally:
            peak = sampler.stop()
        if not line:
            raise ToolError(f"{self.module} ended without an answer; see {self._log}.")
        reply = json.loads(line)
        return Call(
            reply["value"], reply["seconds"], reply["cpu_seconds"], max(reply["peak_bytes"], peak)
        )
