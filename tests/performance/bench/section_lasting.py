"""Whether memory, descriptors or threads grow with the length of a recording."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.frames import recording, write_pages
from bench.setup import Setup
from bench.tables import markdown, mebibytes
from bench.watching import Watch, growth

TITLE = "Memory over a long recording"
SIDE = 256
BASE_FRAMES = 200
"""Simulated frames that the long recording repeats, each time shifted and with other noise."""

CHECKPOINT = 30.0
EAGER = 1.0
"""Seconds of work that may be lost: a session's default, and often."""


class NoSpaceError(RuntimeError):
    """The work folder's disk is too small."""


def measure(setup: Setup) -> dict[str, Any]:
    """Run stage 1 with three intervals of its checkpoint, then stages 2 and 3."""
    size = 2 * setup.lasting_frames * SIDE**2
    # recording, corrected, aligned, and masks
    if shutil.disk_usage(setup.work).free < 4 * size:
        raise NoSpaceError(
            f"{setup.work} needs {4 * size / 2**30:.0f} GiB free; use --work or --lasting-frames."
        )
    source, _ = recording(setup.work, setup.config(BASE_FRAMES, SIDE))
    root = setup.work / "lasting_session"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    try:
        _repeat(source, root / "recording_01.tif", setup.lasting_frames)
        (root / "recording_02.tif").hardlink_to(source)
        rows = [_run(setup, root, 1, seconds) for seconds in (0.0, EAGER, CHECKPOINT)]
        rows += [_run(setup, root, number) for number in (2, 3)]
    finally:
        shutil.rmtree(root)
    return {"rows": rows, "frames": setup.lasting_frames, "threads": setup.threads}


def _repeat(source: Path, target: Path, count: int) -> None:
    import tifffile

    write_pages(target, _frames(tifffile.imread(source), count), count)


def _frames(block: NDArray[np.uint16], count: int) -> Iterator[NDArray[np.uint16]]:
    """Frames of a block again and again, never the same twice."""
    rng = np.random.default_rng(0)
    for number in range(count):
        frame = np.roll(block[number % len(block)], rng.integers(-2, 3, 2), (0, 1))
        noise = rng.integers(0, 8, frame.shape, dtype=np.uint16)
        yield np.minimum(frame, np.uint16(60_000)) + noise


def _run(setup: Setup, root: Path, number: int, checkpoint: float = CHECKPOINT) -> dict[str, Any]:
    settings = {
        "pattern": "recording_*.tif",
        "center": "recording_02.tif",
        "n_workers": setup.threads,
        "checkpoint_seconds": checkpoint,
        "resume": False,
        "flow_options": {"quality_setting": "fast", "reference_frames": list(range(20))},
    }
    with setup.tool("ours") as tool, Watch(tool.pid) as watch:
        call = tool("stage", number=number, root=str(root), **settings)
    row = {"stage": str(number), "seconds": call.seconds, "peak_bytes": call.peak_bytes}
    if number == 1:
        row["stage"] += f", checkpoint_seconds {checkpoint:g}"
    # Stage 2 sees averages only: it is over before anything could grow.
    if number != 2:
        row |= asdict(growth(watch.samples, setup.lasting_frames))
    row["most_descriptors"] = max(sample.descriptors for sample in watch.samples)
    return row


def table(result: dict[str, Any]) -> str:
    """Return the table: growth per 1,000 frames, descriptors and threads."""
    rows = []
    for row in result["rows"]:
        slope = row.get("resident")
        rows.append(
            [
                row["stage"],
                "-" if slope is None else f"{slope * 1000 / 2**20:+.3f}",
                "-" if slope is None else f"{row['anonymous'] * 1000 / 2**20:+.3f}",
                mebibytes(row["peak_bytes"]),
                "-"
                if slope is None
                else f"{row['first_descriptors']} to {row['last_descriptors']}",
                str(row.get("most_threads", "-")),
                f"{row['seconds']:.0f}",
            ]
        )
    header = ["stage", "MiB per 1,000 frames", "anonymous", "peak MiB", "descriptors", "threads"]
    return markdown([*header, "seconds"], rows) + (
        f"\nOne recording of {result['frames']} frames of {SIDE} x {SIDE} pixels, uint16, `fast`, "
        f"{result['threads']} threads, beside a short one. Slope of the resident size of the "
        "process after the first quarter of the run, of all of it and of what belongs to no file; "
        "open descriptors at the beginning and at the end of that time; most threads.\n"
    )
