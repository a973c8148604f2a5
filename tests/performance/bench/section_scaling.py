"""How time grows with pixels and frames, and shrinks with threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from bench.corrections import Job, run, warm_up
from bench.frames import beginning, flow_pairs, recording
from bench.processes import Tool
from bench.setup import FLOW, QUALITIES, Setup
from bench.tables import digits, markdown, span, summary, times

TITLE = "Cost model"
SIDES = (256, 512, 1024)
FRAMES = 400
TWO_PROCESSES = "1 in each of two processes"
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
    other = replace(setup, work=setup.work / "second_process")
    other.work.mkdir(exist_ok=True)
    rows = []
    with setup.tool("ours") as tool, setup.tool("ours") as second, ThreadPoolExecutor() as at_once:
        for quality in setup.qualities:
            job = Job(quality, "ours", ())

            def timed(
                frames: int, threads: int, own: Setup = setup, process: Tool = tool, job: Job = job
            ) -> float:
                part = beginning(setup.work, source, frames)
                return run(replace(own, threads=threads), job, process, part).seconds

            def both(timed: Callable[..., float] = timed) -> float:
                parts = [
                    at_once.submit(timed, FRAMES // 2, 1),
                    at_once.submit(timed, FRAMES // 2, 1, other, second),
                ]
                return max(part.result() for part in parts)

            cases: dict[tuple[int, str], Callable[[], float]] = {
                (FRAMES // 2, "1"): partial(timed, FRAMES // 2, 1),
                (FRAMES, "1"): partial(timed, FRAMES, 1),
                (FRAMES // 2, "2"): partial(timed, FRAMES // 2, 2),
                (FRAMES, "2"): partial(timed, FRAMES, 2),
                (FRAMES, TWO_PROCESSES): both,
            }
            seconds: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
            warm_up(setup, job, tool, source)
            warm_up(other, job, second, source)
            for _ in range(setup.repeats):
                for case, call in cases.items():
                    seconds[case].append(call())
            alone = seconds[FRAMES, "1"]
            rows += [
                {
                    "quality": quality,
                    "frames": frames,
                    "threads": threads,
                    "speedup": median(
                        one / own * frames / FRAMES for one, own in zip(alone, found, strict=True)
                    ),
                    **summary(found),
                }
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
    rows = [
        [
            row["quality"],
            str(row["frames"]),
            row["threads"],
            span(row, 1000 / row["frames"]),
            times(row["speedup"]),
        ]
        for row in result["recordings"]
    ]
    header = ["setting", "frames", "threads", "ms per frame: min (median)", "against one thread"]
    return (
        text
        + markdown(header, rows)
        + f"\n`compensate_recording`, file to file, {result['side']} x {result['side']} pixels. "
        "The last column is the median over the rounds of the speed against one thread on "
        f"{FRAMES} frames. Two processes that know nothing of each other show what "
        "the machine gives two threads at most.\n"
    )
