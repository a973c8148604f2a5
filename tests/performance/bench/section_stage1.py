"""Stage 1, TIFF file to HDF5 file, all cores, beside the published package and suite2p."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import recording_error, suite2p_field_mismatch, suite2p_fields
from bench.frames import beginning, config_of, first_frames, load_truth, recording
from bench.processes import Call, Tool
from bench.setup import TITLES, Setup
from bench.tables import digits, markdown, mebibytes, ratio, span, summary, times
from pyflowreg.io.fields import iter_fields

TITLE = "Stage 1, file to file"
TOOLS = ["ours", "peer", "suite2p"]
WARM_FRAMES = 8
PROBE_FRAMES = 16
LARGEST_MISMATCH = 2.0
"""Grey values; above it the fields read from suite2p are not those it applied."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """One tool with one setting: how to call it on a file, and on how many frames."""

    quality: str
    tool: str
    frames: int
    run: Callable[[Tool, Path, Path, int, bool], Call]

    @property
    def title(self) -> str:
        return TITLES[self.tool]


def _options(quality: str, frames: int, fields: bool) -> dict[str, Any]:
    """Settings of both flow packages: a tenth of the frames makes the reference."""
    return {
        "quality_setting": quality,
        "reference_frames": list(range(max(2, frames // 10))),
        "output_typename": "uint16",
        "save_w": fields,
    }


def _runner(setup: Setup, tool: str, quality: str, parallel: str | None) -> Callable[..., Call]:
    def run(process: Tool, source: Path, folder: Path, frames: int, fields: bool) -> Call:
        arguments: dict[str, Any] = {"recording": str(source), "folder": str(folder)}
        if tool != "suite2p":
            arguments["options"] = _options(quality, frames, fields)
        if tool == "peer":
            arguments |= {"parallelization": parallel, "n_jobs": setup.threads}
        else:
            arguments["threads"] = setup.threads
        shutil.rmtree(folder, ignore_errors=True)
        return process("compensate", **arguments)

    return run


def measure(setup: Setup) -> dict[str, Any]:
    """Time all tools turn by turn, then measure their errors."""
    config = config_of(setup.frames, setup.side, setup.side)
    source, truth_file = recording(setup.work, config)
    parallel = _best_parallel(setup, source) if "peer" in setup.pythons else {}
    chosen = min(parallel, key=parallel.__getitem__) if parallel else None
    jobs = _jobs(setup, chosen)
    calls = {(job.quality, job.tool): _kept(setup, job) for job in jobs}
    due = [job for job in jobs if not calls[job.quality, job.tool]]
    for turn in range(setup.repeats):
        for job in due if turn % 2 == 0 else due[::-1]:
            log.info("%s %s, %d frames, round %d", job.quality, job.title, job.frames, turn + 1)
            calls[job.quality, job.tool].append(_once(setup, job, source))
            _keep(setup, job, calls[job.quality, job.tool])
    rows = []
    for job in jobs:
        done = calls[job.quality, job.tool]
        rows.append(
            {
                "quality": job.quality,
                "tool": job.tool,
                "frames": job.frames,
                "reused": job not in due,
                **summary([call["seconds"] / job.frames for call in done]),
                "cpu_seconds": min(call["cpu_seconds"] for call in done) / job.frames,
                "peak_bytes": max(call["peak_bytes"] for call in done),
                "error": _error(setup, job, source, truth_file),
            }
        )
    count = setup.accuracy_frames
    nothing = np.zeros((count, setup.side, setup.side, 2), dtype=np.float32)
    motion = recording_error(nothing, first_frames(load_truth(truth_file), count))
    sizes = {"side": setup.side, "threads": setup.threads, "accuracy_frames": count}
    return {"rows": rows, "parallel": parallel, "motion": motion, **sizes}


def _jobs(setup: Setup, parallel: str | None) -> list[_Job]:
    jobs = []
    for quality in setup.qualities:
        for tool in ("ours", "peer"):
            if tool in setup.pythons:
                slow = tool == "peer" and quality == "quality"
                frames = min(setup.peer_frames, setup.frames) if slow else setup.frames
                jobs.append(_Job(quality, tool, frames, _runner(setup, tool, quality, parallel)))
    if "suite2p" in setup.pythons:
        run = _runner(setup, "suite2p", "", None)
        jobs.append(_Job("default", "suite2p", setup.frames, run))
    return jobs


def _once(setup: Setup, job: _Job, source: Path, fields: bool = False) -> dict[str, float]:
    """Run a job in a fresh process, after a short run that pays for imports and compilation."""
    few = beginning(setup.work, source, WARM_FRAMES)
    part = source if job.frames == setup.frames else beginning(setup.work, source, job.frames)
    folder = setup.work / f"stage1_{job.tool}"
    with setup.tool(job.tool) as tool:
        job.run(tool, few, folder, WARM_FRAMES, fields)
        call = job.run(tool, part, folder, job.frames, fields)
    return {
        "seconds": call.seconds,
        "cpu_seconds": call.cpu_seconds,
        "peak_bytes": call.peak_bytes,
    }


def _best_parallel(setup: Setup, source: Path) -> dict[str, float]:
    """Seconds of the published package's ways of using all cores, on a few frames."""
    few = beginning(setup.work, source, PROBE_FRAMES)
    seconds = {}
    with ExitStack() as stack:
        tool = stack.enter_context(setup.tool("peer"))
        for name in ("sequential", "threading", "multiprocessing"):
            run = _runner(setup, "peer", "balanced", name)
            folder = setup.work / "stage1_probe"
            run(tool, few, folder, PROBE_FRAMES, False)
            seconds[name] = run(tool, few, folder, PROBE_FRAMES, False).seconds
    log.info("ways of the published package: %s", seconds)
    return seconds


def _error(setup: Setup, job: _Job, source: Path, truth_file: Path) -> float:
    """Error of a tool on the first frames; every tool gets the same."""
    count = setup.accuracy_frames
    part = beginning(setup.work, source, count)
    folder = setup.work / f"stage1_{job.tool}_fields"
    log.info("%s %s, error", job.quality, job.title)
    with setup.tool(job.tool) as tool:
        job.run(tool, part, folder, count, True)
    if job.tool == "suite2p":
        fields = suite2p_fields(folder, (setup.side, setup.side))
        mismatch = suite2p_field_mismatch(folder, fields)
        if mismatch > LARGEST_MISMATCH:
            raise RuntimeError(f"suite2p's frames differ by {mismatch} from the field read off it.")
    else:
        fields = np.concatenate(list(iter_fields(folder / "w.h5")))
    shutil.rmtree(folder)
    return recording_error(fields, first_frames(load_truth(truth_file), count))


def _result_file(setup: Setup, job: _Job) -> Path:
    name = f"stage1_{job.tool}_{job.quality}_{job.frames}x{setup.side}_{setup.threads}.json"
    return setup.work / "kept" / name


def _kept(setup: Setup, job: _Job) -> list[dict[str, float]]:
    """Measurements of an earlier run, if they are asked for; never our own."""
    file = _result_file(setup, job)
    if not setup.reuse or job.tool == "ours" or not file.is_file():
        return []
    kept: list[dict[str, float]] = json.loads(file.read_text("utf-8"))
    return kept


def _keep(setup: Setup, job: _Job, calls: list[dict[str, float]]) -> None:
    file = _result_file(setup, job)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(calls), encoding="utf-8")


def table(result: dict[str, Any]) -> str:
    """Return the table: time per frame, ratio, CPU time, memory, error."""
    ours = {row["quality"]: row for row in result["rows"] if row["tool"] == "ours"}
    rows = []
    for row in result["rows"]:
        # suite2p has one setting; it stands beside `balanced`
        own = ours.get(row["quality"], ours.get("balanced"))
        rows.append(
            [
                row["quality"],
                TITLES[row["tool"]] + (" *" if row["reused"] else ""),
                str(row["frames"]),
                span(row, 1000),
                times(ratio(row, own) if own else None),
                digits(row["cpu_seconds"] * 1000),
                mebibytes(row["peak_bytes"]),
                digits(row["error"]),
            ]
        )
    header = ["setting", "tool", "frames", "ms per frame: min (median)", "ratio"]
    text = markdown([*header, "CPU ms per frame", "peak MiB", "end-point error (px)"], rows)
    text += (
        f"\n{result['side']} x {result['side']} pixels, uint16, {result['threads']} cores, "
        f"{result['rows'][0]['repeats']} runs, each in a process of its own after a short one that "
        "pays for imports and compilation. A tenth of the frames makes the reference (suite2p "
        "chooses its own); suite2p's ratio is to `balanced`. Error: "
        f"{result['accuracy_frames']} frames, the same for all; without correction "
        f"{digits(result['motion'])} px.\n"
    )
    if result["parallel"]:
        ways = ", ".join(f"{name} {digits(s)} s" for name, s in result["parallel"].items())
        text += f"The published package runs in its fastest way on {PROBE_FRAMES} frames: {ways}.\n"
    if any(row["reused"] for row in result["rows"]):
        text += "\\* measured in an earlier run on this machine, not in turn.\n"
    return text
