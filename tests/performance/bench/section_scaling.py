"""How time grows with pixels and frames, and shrinks with threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.corrections import Job, run, warm_up
from bench.frames import beginning, flow_pairs, recording
from bench.setup import FLOW, QUALITIES, Setup
from bench.tables import digits, markdown, span, summary, times

TITLE = "Cost model"
SIDES = (256, 512, 1024)
FRAMES = 400
PAIR_FRAMES = 6
"""Frames simulated for the pairs of every size, and again as many at rest; no errors here."""


def measure(setup: Setup) -> dict[str, Any]:
    """Time pairs of three sizes, and recordings by one and two threads."""
    return {
        "pixels": _pixels(setup),
        "recordings": _recordings(setup),
        "side": setup.side,
    }


def _pixels(setup: Setup) -> list[dict[str, Any]]:
    files = {
        side: str(flow_pairs(setup.work, setup.config(PAIR_FRAMES, side), 1, PAIR_FRAMES)[0])
        for side in SIDES
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
    source, _ = recording(setup.work, setup.config(max(setup.frames, FRAMES)))
    rows = []
    with setup.tool("ours") as tool:
        for quality in setup.qualities:
            cases = [(FRAMES // 2, 1), (FRAMES, 1), (FRAMES, 2)]
            seconds: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
            warm_up(setup, Job(quality, "ours", ()), tool, source)
            for _ in range(setup.repeats):
                for frames, threads in cases:
                    part = beginning(setup.work, source, frames)
                    given = replace(setup, threads=threads)
                    job = Job(quality, "ours", (frames,))
                    call = run(given, job, tool, part)
                    seconds[frames, threads].append(call.seconds)
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
