"""Memory, descriptors and threads of a process over time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

SAMPLE_SECONDS = 0.1
WARM_UP, END = 0.25, 0.98
"""Shares of a run between which nothing may grow: before, libraries are loaded and files opened."""


@dataclass(frozen=True)
class Sample:
    """What /proc says at one moment.

    Parameters
    ----------
    seconds : float
        Since the beginning.
    resident, anonymous : int
        Bytes in memory: all, and those that belong to no file.
    descriptors, threads : int
        Open descriptors; threads.
    """

    seconds: float
    resident: int
    anonymous: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """How a run went after its beginning.

    Parameters
    ----------
    resident, anonymous : float
        Bytes per frame, slope of the straight line through all samples.
    first_descriptors, last_descriptors : int
        Medians of the first and the last tenth of the samples.
    most_descriptors, most_threads : int
        Largest numbers of the whole run.
    samples : int
        Number of samples.
    """

    resident: float
    anonymous: float
    first_descriptors: int
    last_descriptors: int
    most_descriptors: int
    most_threads: int
    samples: int


class Watch(threading.Thread):
    """Samples a process until the `with` ends.

    Parameters
    ----------
    pid : int
        The process.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._folder = Path(f"/proc/{pid}")
        self._end = threading.Event()
        self._start = time.monotonic()
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        """Sample until the end."""
        while not self._end.wait(SAMPLE_SECONDS):
            try:
                self.samples.append(self._sample())
            except (OSError, KeyError):  # the process has ended
                return

    def _sample(self) -> Sample:
        lines = (self._folder / "status").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        kibibytes = {key: int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon")}
        return Sample(
            time.monotonic() - self._start,
            kibibytes["VmRSS"] * 1024,
            kibibytes["RssAnon"] * 1024,
            sum(1 for _ in (self._folder / "fd").iterdir()),
            int(fields["Threads"]),
        )


def growth(samples: list[Sample], frames: int, begin: float = WARM_UP) -> Growth:
    """Fit a line through the samples of a run that worked on frames one after the other.

    Parameters
    ----------
    samples : list of Sample
        Of the whole run, from its beginning to its end.
    frames : int
        Frames of the recording.
    begin : float
        Share of the run that does not count.

    Returns
    -------
    Growth
    """
    span = samples[-1].seconds
    steady = [sample for sample in samples if begin * span <= sample.seconds <= END * span]
    if len(steady) < 20:
        raise ValueError(f"{len(steady)} samples are too few; take more frames.")
    place = np.array([sample.seconds for sample in steady]) / span * frames
    slopes = [
        float(np.polyfit(place, np.array(values, float), 1)[0])
        for values in zip(*((s.resident, s.anonymous) for s in steady), strict=True)
    ]
    tenth = max(len(steady) // 10, 1)
    descriptors = [sample.descriptors for sample in steady]
    return Growth(
        slopes[0],
        slopes[1],
        int(np.median(descriptors[:tenth])),
        int(np.median(descriptors[-tenth:])),
        max(sample.descriptors for sample in samples),
        max(sample.threads for sample in samples),
        len(steady),
    )
