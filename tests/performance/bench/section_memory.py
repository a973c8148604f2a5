"""Peak memory of the three stages on a long recording."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bench.frames import long_recording, recording
from bench.processes import Call
from bench.setup import Setup
from bench.tables import digits, markdown, mebibytes

TITLE = "Peak memory, long recording"
SMALL_BUFFER = 50
"""The other buffer holds the whole recording."""

BASE_FRAMES = 40
"""Simulated frames that the long recording repeats."""


class NoSpaceError(RuntimeError):
    """The work folder's disk is too small."""


def measure(setup: Setup) -> dict[str, Any]:
    """Run stage 1 with two buffer sizes, then stages 2 and 3 on its result."""
    source, _ = recording(setup.work, setup.config(BASE_FRAMES))
    size = 2 * setup.long_frames * setup.side**2
    # recording, corrected, aligned, and masks
    if shutil.disk_usage(setup.work).free < 4 * size:
        raise NoSpaceError(
            f"{setup.work} needs {4 * size / 2**30:.0f} GiB free; use --work or --long-frames."
        )
    root = setup.work / "memory_session"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    try:
        (root / "recording_01.tif").hardlink_to(
            long_recording(setup.work, source, setup.long_frames)
        )
        (root / "recording_02.tif").hardlink_to(source)
        return {
            "rows": _rows(setup, root),
            "frames": setup.long_frames,
            "side": setup.side,
            "threads": setup.threads,
        }
    finally:
        shutil.rmtree(root)
        shutil.rmtree(setup.work / f"long_{setup.long_frames}", ignore_errors=True)


def _rows(setup: Setup, root: Path) -> list[dict[str, Any]]:
    rows = []
    for buffer in (SMALL_BUFFER, setup.long_frames):
        options = {
            "quality_setting": "fast",
            "buffer_size": buffer,
            "reference_frames": list(range(20)),
            "save_valid_idx": True,
            "output_typename": "uint16",
        }
        with setup.tool("ours") as tool:
            folder = root / "alone"
            call = tool(
                "compensate",
                recording=str(root / "recording_01.tif"),
                folder=str(folder),
                options=options,
                threads=setup.threads,
            )
        rows.append(_row(f"1, buffer_size {buffer}", call))
        shutil.rmtree(folder)
    for number in (1, 2, 3):
        settings = {
            "pattern": "recording_*.tif",
            "center": "recording_02.tif",
            "n_workers": setup.threads,
            "flow_options": {"quality_setting": "fast", "reference_frames": list(range(20))},
        }
        with setup.tool("ours") as tool:
            call = tool("stage", number=number, root=str(root), **settings)
        rows.append(_row(f"{number}, session", call))
    return rows


def _row(stage: str, call: Call) -> dict[str, Any]:
    return {"stage": stage, "peak_bytes": call.peak_bytes, "seconds": call.seconds}


def table(result: dict[str, Any]) -> str:
    """Return the table: peak resident size of the process of every stage."""
    rows = [
        [row["stage"], mebibytes(row["peak_bytes"]), digits(row["seconds"])]
        for row in result["rows"]
    ]
    text = markdown(["stage", "peak MiB", "seconds"], rows)
    return text + (
        f"\nOne recording of {result['frames']} frames of {result['side']} x {result['side']} "
        f"pixels, uint16, `fast`, {result['threads']} threads; in the session a second one of "
        f"{BASE_FRAMES} frames. Peak resident size of the process, imports and compilation "
        "included.\n"
    )
