"""How time grows with pixels and frames, and shrinks with threads."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from bench.frames import beginning, flow_pairs, recording
from bench.setup import FLOW, QUALITIES, Setup
from bench.tables import digits, markdown, span, summary, times

TITLE = "Cost model"
SIDES = (256, 512, 1024)
FRAMES = 48
PAIR_FRAMES = 6
"""Frames simulated for the pairs of every size."""


def measure(setup: Setup) -> dict[str, Any]:
    """Time pairs of three sizes, and recordings by one and two threads."""
    return {
        "pixels": _pixels(setup),
        "recordings": _recordings(setup),
        "side": setup.side,
    }


def _pixels(setup: Setup) -> list[dict[str, Any]]:
    files = {
        side: str(flow_pairs(setup.work, setup.config(PAIR_FRAMES, side), 1)[0]) for side in SIDES
    }
    rows = []
    with setup.tool("ours", threads=1) as tool:
        for quality in setup.qualities:
            options = {**FLOW, "min_level": QUALITIES[quality]}
            seconds: dict[int, list[float]] = {side: [] for side in SIDES}
            for turn in range(setup.repeats + 1):
                for side, pairs in files.items():
                    value = tool("displacement", pairs=pairs, options=options).value
                    # the first call compiles
                    seconds[side] += value if turn else []
            rows += [{"quality": quality, "side": side, **summary(seconds[side])} for side in SIDES]
    return rows


def _recordings(setup: Setup) -> list[dict[str, Any]]:
    source, _ = recording(setup.work, setup.config(setup.frames))
    rows = []
    with ExitStack() as stack:
        tool = stack.enter_context(setup.tool("ours"))
        for quality in setup.qualities:
            cases = [(FRAMES // 2, 1), (FRAMES, 1), (FRAMES, 2)]
            seconds: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
            for turn in range(setup.repeats + 1):
                for frames, threads in cases:
                    call = tool(
                        "compensate",
                        recording=str(beginning(setup.work, source, frames)),
                        folder=str(setup.work / "scaling"),
                        options={
                            "quality_setting": quality,
                            "reference_frames": list(range(frames // 10)),
                            "output_typename": "uint16",
                        },
                        threads=threads,
                    )
                    seconds[frames, threads] += [call.seconds] if turn else []
            rows += [
                {"quality": quality, "frames": frames, "threads": threads, **summary(found)}
                for (frames, threads), found in seconds.items()
            ]
    return rows


def table(result: dict[str, Any]) -> str:
    """Return two tables: get_displacement by size, files by frames and threads."""
    rows = [
        [
            row["quality"],
            f"{row['side']} x {row['side']}",
            span(row, 1000),
            digits(row["min"] / row["side"] ** 2 * 1e9),
        ]
        for row in result["pixels"]
    ]
    header = ["setting", "pixels", "ms per pair: min (median)", "ns per pixel"]
    text = markdown(header, rows) + "\n`get_displacement`, one core.\n\n"
    alone = {
        (row["quality"], row["frames"]): row["min"]
        for row in result["recordings"]
        if row["threads"] == 1
    }
    rows = [
        [
            row["quality"],
            str(row["frames"]),
            str(row["threads"]),
            span(row, 1000 / row["frames"]),
            times(alone[row["quality"], row["frames"]] / row["min"]),
        ]
        for row in result["recordings"]
    ]
    header = ["setting", "frames", "threads", "ms per frame: min (median)", "against one thread"]
    return (
        text
        + markdown(header, rows)
        + (f"\n`compensate_recording`, file to file, {result['side']} x {result['side']} pixels.\n")
    )
