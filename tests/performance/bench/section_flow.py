"""One pair of frames, one thread: get_displacement beside the published package and DIS."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from bench.accuracy import mean_pair_error
from bench.frames import flow_pairs, load_truth
from bench.processes import Tool
from bench.setup import FLOW, QUALITIES, TITLES, Setup
from bench.tables import digits, markdown, ratio, span, summary, times

TITLE = "get_displacement, one thread"
TOOLS = ["ours", "peer", "peer_fresh", "dis"]


def measure(setup: Setup) -> dict[str, Any]:
    """Time all tools on the same pairs, turn by turn."""
    config = setup.config(setup.frames)
    pairs, truth_file, frames = flow_pairs(setup.work, config, setup.pairs)
    truth = load_truth(truth_file)
    rows = []
    with ExitStack() as stack:
        tools = setup.tools(stack, TOOLS, threads=1)
        for quality in setup.qualities:
            options = {**FLOW, "min_level": QUALITIES[quality]}
            seconds: dict[str, list[float]] = {name: [] for name in tools}
            errors = {}
            for name, tool in tools.items():
                # compiles, and gives the fields
                out = setup.work / f"flow_{name}.npy"
                tool("displacement", pairs=str(pairs), options=options, out=str(out))
                errors[name] = mean_pair_error(np.load(out), truth, frames)
            for turn in range(setup.repeats):
                for name in _rotated(list(tools), turn):
                    seconds[name] += _turn(tools[name], str(pairs), options)
            rows += [
                {"quality": quality, "tool": name, "error": errors[name], **summary(seconds[name])}
                for name in tools
            ]
    nothing = np.zeros((len(frames), setup.side, setup.side, 2), dtype=np.float32)
    return {
        "rows": rows,
        "side": setup.side,
        "pairs": setup.pairs,
        "motion": mean_pair_error(nothing, truth, frames),
    }


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]


def _turn(tool: Tool, pairs: str, options: dict[str, Any]) -> list[float]:
    """Seconds of every pair."""
    return list(tool("displacement", pairs=pairs, options=options).value)


def table(result: dict[str, Any]) -> str:
    """Return the table: seconds per frame, ratio to this package, error."""
    ours = {row["quality"]: row for row in result["rows"] if row["tool"] == "ours"}
    rows = []
    for row in result["rows"]:
        own = ours[row["quality"]]
        rows.append(
            [
                row["quality"],
                TITLES[row["tool"]],
                span(row, 1000),
                times(ratio(row, own)),
                times(ratio(row, own, "median")),
                digits(row["error"]),
            ]
        )
    header = ["setting", "tool", "ms per pair: min (median)", "ratio (min)", "ratio (median)"]
    text = markdown([*header, "end-point error (px)"], rows)
    return text + (
        f"\n{result['side']} x {result['side']} pixels, one core; {result['pairs']} pairs, "
        f"{result['rows'][0]['repeats']} calls each; without any correction the error is "
        f"{digits(result['motion'])} px. DIS has no such settings: it is the same in all.\n"
    )
