"""What the checkpoint of stage 1 costs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bench.frames import long_recording, recording
from bench.setup import Setup
from bench.tables import markdown, ratio, span, summary

TITLE = "Cost of the checkpoint"
BASE_FRAMES = 40
"""Simulated frames that the recording repeats."""

INTERVALS = (0.0, 30.0, 1.0)
"""`checkpoint_seconds`: none, the default, and often."""


def measure(setup: Setup) -> dict[str, Any]:
    """Run stage 1 with each interval in turn."""
    source, _ = recording(setup.work, setup.config(BASE_FRAMES))
    root = setup.work / "checkpoint_session"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    seconds: dict[float, list[float]] = {interval: [] for interval in INTERVALS}
    try:
        long = long_recording(setup.work, source, setup.checkpoint_frames)
        (root / "recording_01.tif").hardlink_to(long)
        _run(setup, root, 0.0)  # reads the recording into the memory of the system
        for turn in range(setup.repeats):
            order = INTERVALS[turn % 3 :] + INTERVALS[: turn % 3]
            for interval in order:
                seconds[interval].append(_run(setup, root, interval))
    finally:
        shutil.rmtree(root)
        shutil.rmtree(setup.work / f"long_{setup.checkpoint_frames}", ignore_errors=True)
    return {
        "rows": [{"interval": k, **summary(values)} for k, values in seconds.items()],
        "frames": setup.checkpoint_frames,
        "side": setup.side,
        "threads": setup.threads,
    }


def _run(setup: Setup, root: Path, interval: float) -> float:
    settings = {
        "pattern": "recording_*.tif",
        "n_workers": setup.threads,
        "checkpoint_seconds": interval,
        "resume": False,
        "flow_options": {"quality_setting": "fast", "reference_frames": list(range(20))},
    }
    shutil.rmtree(root / "compensated_outputs", ignore_errors=True)
    with setup.tool("ours") as tool:
        return tool("stage", number=1, root=str(root), **settings).seconds


def table(result: dict[str, Any]) -> str:
    """Return the table, with the ratio to a run without checkpoint."""
    without = result["rows"][0]
    rows = [
        [
            f"{row['interval']:g}",
            span(row),
            f"{100 * (ratio(row, without) - 1):+.1f} %",
            f"{100 * (ratio(row, without, 'median') - 1):+.1f} %",
        ]
        for row in result["rows"]
    ]
    header = ["`checkpoint_seconds`", "seconds, min (median)", "min", "median"]
    return markdown(header, rows) + (
        f"\nStage 1 of {result['frames']} frames of {result['side']} x {result['side']} pixels, "
        f"uint16, `fast`, {result['threads']} threads, {without['repeats']} runs of each in turn.\n"
    )
