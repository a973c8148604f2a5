"""Stage 1, TIFF file to HDF5 file, all cores, beside the published package and suite2p."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import recording_error, suite2p_field_mismatch, suite2p_fields
from bench.frames import beginning, first_frames, load_truth, recording
from bench.processes import Call, Tool
from bench.setup import TITLES, Setup
from bench.tables import digits, markdown, mebibytes, ratio, span, summary, times
from pyflowreg.io.fields import iter_fields

TITLE = "Stage 1, file to file"
TOOLS = ["ours", "peer", "suite2p"]
WARM_FRAMES = 12
"""suite2p refuses fewer than 10."""
PARALLEL = ["sequential", "threading", "multiprocessing"]
"""Ways in which the published package spreads its work."""

PROBE_FRAMES, PROBE_ROUNDS = 48, 2
N_REFERENCE = 20
"""Frames that make the reference in both flow packages."""

LARGEST_MISMATCH = 2.0
"""Grey values; above it the fields read from suite2p are not those it applied."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """One tool with one setting, the frames it gets, and how it uses all cores."""

    quality: str
    tool: str
    frames: tuple[int, ...]
    parallel: str | None = None

    @property
    def title(self) -> str:
        return f"{self.quality}, {TITLES[self.tool]}"

    @property
    def slow(self) -> bool:
        """Whether one round has to do."""
        return self.tool == "peer" and self.quality == "quality"


def _options(quality: str, n_reference: int, fields: bool) -> dict[str, Any]:
    """Settings of both flow packages."""
    return {
        "quality_setting": quality,
        "reference_frames": list(range(n_reference)),
        "output_typename": "uint16",
        "save_w": fields,
    }


def _run(
    setup: Setup,
    job: _Job,
    process: Tool,
    source: Path,
    *,
    warm: bool = False,
    fields: bool = False,
    n_reference: int = N_REFERENCE,
) -> Call:
    """Call a tool on a file; `warm` is the short call that pays for imports and compilation."""
    folder = setup.work / f"stage1_{job.tool}{'_fields' if fields else ''}"
    shutil.rmtree(folder, ignore_errors=True)
    arguments: dict[str, Any] = {"recording": str(source), "folder": str(folder)}
    if job.tool != "suite2p":
        # the published package compiles the same for every setting, and is slow in `quality`
        quality = "fast" if warm and job.tool == "peer" else job.quality
        arguments["options"] = _options(quality, 2 if warm else n_reference, fields)
    if job.tool == "peer":
        arguments |= {"parallelization": job.parallel, "n_jobs": setup.threads}
    else:
        arguments["threads"] = setup.threads
    return process("compensate", **arguments)


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
            "error": _error(setup, job, source, truth_file),
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


def _jobs(setup: Setup, parallel: str | None) -> list[_Job]:
    jobs = []
    everything = (setup.frames,)
    few = (setup.peer_frames // 2, setup.peer_frames)
    for quality in setup.qualities:
        jobs.append(_Job(quality, "ours", everything))
        if "peer" in setup.pythons:
            shorter = quality == "quality" and setup.peer_frames < setup.frames
            jobs.append(_Job(quality, "peer", few if shorter else everything, parallel))
    if "suite2p" in setup.pythons:
        jobs.append(_Job("default", "suite2p", everything))
    return jobs


def _once(setup: Setup, job: _Job, source: Path) -> dict[str, float]:
    """Run a job in a fresh process; return what all frames cost.

    With two smaller numbers of frames the cost is taken to be linear in them: what does not depend
    on the number of frames (the reference, the first initial field) then counts once.
    """
    with setup.tool(job.tool) as tool:
        _run(setup, job, tool, beginning(setup.work, source, WARM_FRAMES), warm=True)
        calls = []
        for frames in job.frames:
            part = source if frames == setup.frames else beginning(setup.work, source, frames)
            calls.append(_run(setup, job, tool, part))
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
    few = beginning(setup.work, source, WARM_FRAMES)
    seconds: dict[str, list[float]] = {name: [] for name in PARALLEL}
    with setup.tool("peer") as tool:
        for turn in range(PROBE_ROUNDS):
            for name in PARALLEL if turn % 2 == 0 else PARALLEL[::-1]:
                job = _Job("balanced", "peer", (PROBE_FRAMES,), name)
                if turn == 0:
                    _run(setup, job, tool, few, warm=True)
                seconds[name].append(_run(setup, job, tool, part, n_reference=2).seconds)
    found = {name: min(measured) for name, measured in seconds.items()}
    log.info("ways of the published package, seconds: %s", found)
    return found


def _error(setup: Setup, job: _Job, source: Path, truth_file: Path) -> float:
    """Error of a tool on the first frames; every tool gets the same."""
    count = setup.accuracy_frames
    log.info("%s, error", job.title)
    with setup.tool(job.tool) as tool:
        _run(setup, job, tool, beginning(setup.work, source, count), fields=True)
    folder = setup.work / f"stage1_{job.tool}_fields"
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
    source, _ = recording(setup.work, setup.config(setup.frames))
    frames = "_".join(map(str, (*job.frames, setup.frames)))
    name = f"stage1_{job.tool}_{job.quality}_{frames}_{setup.threads}_{source.parent.name}.json"
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
        f"`balanced`. Error: {result['accuracy_frames']} frames, the same for all; without "
        f"correction {digits(result['motion'])} px.\n"
    )
    if result["parallel"]:
        ways = ", ".join(f"{name} {digits(s)} s" for name, s in result["parallel"].items())
        text += f"The published package runs in its fastest way on {PROBE_FRAMES} frames: {ways}.\n"
    if any(len(row["frames"]) > 1 for row in result["rows"]):
        text += f"Two numbers of frames: the line through both, at {result['frames']} frames.\n"
    if any(row["reused"] for row in result["rows"]):
        text += "\\* measured in an earlier run on this machine, not in turn.\n"
    return text
