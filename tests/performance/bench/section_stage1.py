"""Stage 1, TIFF file to HDF5 file, all cores, beside the published package and suite2p."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import recording_error
from bench.corrections import N_REFERENCE, Job, found_fields, results, run, warm_up
from bench.frames import beginning, first_frames, load_truth, recording
from bench.setup import TITLES, Setup
from bench.tables import digits, markdown, mebibytes, ratio, span, summary, times

TITLE = "Stage 1, file to file"
PARALLEL = ["sequential", "threading", "multiprocessing"]
"""Ways in which the published package spreads its work."""

PROBE_FRAMES = 48

log = logging.getLogger(__name__)


def measure(setup: Setup) -> dict[str, Any]:
    """Time all tools turn by turn, then measure their errors."""
    source, truth_file = recording(setup.work, setup.config(setup.frames))
    parallel = _parallel(setup, source)
    chosen = min(parallel, key=parallel.__getitem__) if parallel else setup.peer_parallel
    jobs = _jobs(setup, chosen)
    calls = {job: _kept(setup, job) for job in jobs}
    due = [job for job in jobs if not calls[job]]
    for turn in range(setup.repeats):
        for job in due if turn % 2 == 0 else due[::-1]:
            if not (job.slow and calls[job]):
                log.info("%s, %s frames, round %d", job.title, job.frames, turn + 1)
                calls[job].append(_once(setup, job, source))
                _keep(setup, job, calls[job])
    rows = [
        {
            "quality": job.quality,
            "tool": job.tool,
            "frames": job.frames,
            "reused": job not in due,
            **summary([call["seconds"] / setup.frames for call in calls[job]]),
            "cpu_seconds": min(call["cpu_seconds"] for call in calls[job]) / setup.frames,
            "peak_bytes": max(call["peak_bytes"] for call in calls[job]),
            "error": _error(setup, job, source, truth_file, there=job in due),
        }
        for job in jobs
    ]
    count = setup.accuracy_frames
    nothing = np.zeros((count, setup.side, setup.side, 2), dtype=np.float32)
    motion = recording_error(nothing, first_frames(load_truth(truth_file), count))
    sizes = {"side": setup.side, "threads": setup.threads, "frames": setup.frames}
    return {
        "rows": rows,
        "parallel": parallel,
        "motion": motion,
        "accuracy_frames": count,
        **sizes,
    }


def _jobs(setup: Setup, parallel: str | None) -> list[Job]:
    jobs = []
    everything = (setup.frames,)
    few = (setup.peer_frames // 2, setup.peer_frames)
    if few[0] < N_REFERENCE:
        raise ValueError(f"--peer-frames must be at least {2 * N_REFERENCE}, not {few[1]}.")
    for quality in setup.qualities:
        jobs.append(Job(quality, "ours", everything))
        if "peer" in setup.pythons:
            shorter = quality == "quality" and setup.peer_frames < setup.frames
            jobs.append(Job(quality, "peer", few if shorter else everything, parallel))
    if "suite2p" in setup.pythons:
        jobs.append(Job("default", "suite2p", everything))
    return jobs


def _once(setup: Setup, job: Job, source: Path) -> dict[str, float]:
    """Run a job in a fresh process; return what all frames cost.

    With two smaller numbers of frames the cost is taken to be linear in them: what does not depend
    on the number of frames (the reference, the first initial field) then counts once.
    """
    with setup.tool(job.tool) as tool:
        warm_up(setup, job, tool, source)
        calls = []
        for frames in job.frames:
            part = source if frames == setup.frames else beginning(setup.work, source, frames)
            keep = _keeps_fields(setup, job) and frames == job.frames[-1]
            calls.append(run(setup, job, tool, part, fields=keep))
    result = {"peak_bytes": float(max(call.peak_bytes for call in calls))}
    for name in ("seconds", "cpu_seconds"):
        costs = [getattr(call, name) for call in calls]
        result[name] = costs[-1]
        if len(calls) == 2:
            slope = (costs[1] - costs[0]) / (job.frames[1] - job.frames[0])
            result[name] += slope * (setup.frames - job.frames[1])
    return result


def _parallel(setup: Setup, source: Path) -> dict[str, float]:
    """Seconds of the published package's ways of using all cores, on a part of the frames."""
    if "peer" not in setup.pythons or setup.peer_parallel != "auto":
        return {}
    part = beginning(setup.work, source, min(PROBE_FRAMES, setup.frames))
    found = {}
    with setup.tool("peer") as tool:
        for name in PARALLEL:
            job = Job("fast", "peer", (PROBE_FRAMES,), name)
            warm_up(setup, job, tool, source)
            found[name] = run(setup, job, tool, part, n_reference=2).seconds
    log.info("ways of the published package, seconds: %s", found)
    return found


def _keeps_fields(setup: Setup, job: Job) -> bool:
    """Whether the timed run saves its fields, which takes it nothing in comparison."""
    return job.slow and job.frames[-1] == setup.accuracy_frames


def _error(setup: Setup, job: Job, source: Path, truth_file: Path, *, there: bool) -> float:
    """Error of a tool on the first frames; every tool gets the same.

    `there` says that the job has been timed, and may have left its fields.
    """
    count = setup.accuracy_frames
    folder = results(setup, job, fields=True)
    if not (there and _keeps_fields(setup, job)):
        log.info("%s, error", job.title)
        with setup.tool(job.tool) as tool:
            run(setup, job, tool, beginning(setup.work, source, count), fields=True)
    fields = found_fields(setup, job)
    shutil.rmtree(folder)
    return recording_error(fields, first_frames(load_truth(truth_file), count))


def _result_file(setup: Setup, job: Job) -> Path:
    source, _ = recording(setup.work, setup.config(setup.frames))
    frames = "_".join(map(str, (*job.frames, setup.frames)))
    name = f"stage1_{job.tool}_{job.quality}_{frames}_{setup.threads}_{source.parent.name}.json"
    return setup.work / "kept" / name


def _kept(setup: Setup, job: Job) -> list[dict[str, float]]:
    """Measurements of an earlier run, if they are asked for; never our own."""
    file = _result_file(setup, job)
    if not setup.reuse or job.tool == "ours" or not file.is_file():
        return []
    kept: list[dict[str, float]] = json.loads(file.read_text("utf-8"))
    return kept


def _keep(setup: Setup, job: Job, calls: list[dict[str, float]]) -> None:
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
                " and ".join(map(str, row["frames"])),
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
        f"{result['rows'][0]['repeats']} runs (the published package in `quality`: 1), each in a "
        "process of its own after a short one that pays for imports and compilation. "
        f"{N_REFERENCE} frames make the reference (suite2p chooses its own); suite2p's ratio is to "
        f"`balanced`. Error: {result['accuracy_frames']} frames, the same for all; "
        f"without correction {digits(result['motion'])} px.\n"
    )
    if result["parallel"]:
        ways = ", ".join(f"{name} {digits(s)} s" for name, s in result["parallel"].items())
        text += (
            f"The published package runs in the way that is fastest for {PROBE_FRAMES} frames in "
            f"`fast`: {ways}.\n"
        )
    if any(len(row["frames"]) > 1 for row in result["rows"]):
        text += (
            f"Two numbers of frames: both are run, and the line through both times is taken at "
            f"{result['frames']} frames.\n"
        )
    if any(row["reused"] for row in result["rows"]):
        text += "\\* measured in an earlier run on this machine, not in turn.\n"
    return text
