"""Stage 1 on this machine's GPU (`flowreg_cuda`) beside its CPU and two floors; prints tables.

    python tests/performance/gpu.py [--sides 256 512 1024] [--peer PEER/bin/python] [--profile]

Frames per second from arrays to arrays: recorded frames in, corrected frames, displacements, masks
and statistics out, transfers included, reading and writing of files not. `--profile` adds the time
of every kernel.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.gpu_floors import floor, lanes
from bench.processes import Tool, ToolError
from bench.setup import FLOW, QUALITIES
from bench.tables import digits, markdown
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pyflowreg.core.backend_registry import BACKENDS, check_backend, get_backend
from pyflowreg.core.backend_types import RawChunk
from pyflowreg.core.frame_warp import warp_frames
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.threads import available_threads, overlapped
from pyflowreg.motion_correction.chunks import chunk_length
from pyflowreg.motion_correction.preprocessing import Scale

SIGMA = np.array([[1.0, 1.0, 0.1]])
COPIED = 2**28
"""Bytes with which bandwidths are measured."""


@dataclass(frozen=True)
class Recording:
    """Frames (T, H, W, 1), and what stage 1 makes of its reference."""

    frames: NDArray[np.uint16]
    fixed: NDArray[Any]
    scale: Scale
    parameters: FlowParameters


def recording(side: int, quality: str, frames: int) -> Recording:
    """Make noisy frames of a texture that moves by a few pixels."""
    random = np.random.default_rng(side)
    wide = gaussian_filter(random.random((side + 16, side + 16)), 2)
    wide = 200 + 3000 * (wide - wide.min()) / np.ptp(wide)
    shown = np.empty((frames, side, side, 1), np.uint16)
    for k in range(frames):
        y, x = (int(8 + 4 * wave(0.1 * k)) for wave in (np.sin, np.cos))
        shown[k, ..., 0] = random.poisson(wide[y : y + side, x : x + side])
    parameters = FlowParameters.create(**FLOW, min_level=QUALITIES[quality], weight=None)
    reference = wide[8 : 8 + side, 8 : 8 + side, None]
    low, high = (np.array([edge]) for edge in (reference.min(), reference.max()))
    scale = Scale(low, high)
    fixed = scale.smoothed(reference[None], SIGMA, np.float32, range(1))[0]
    return Recording(shown, fixed, scale, parameters)


def gpu_rate(given: Recording, chunk: int, repeats: int) -> float:
    """Frames per second of the backend, two chunks under way, as in stage 1."""
    plan: Any = get_backend("flowreg_cuda").prepare(given.fixed, given.parameters)
    uv = np.zeros((*given.fixed.shape[:2], 2))
    fill = given.frames[0]

    def correct(start: int) -> int:
        frames = given.frames[start : start + chunk]
        whole = RawChunk(frames, range(len(frames)), *given.scale.line, False, SIGMA)
        return len(plan.correct(whole, uv, fill, np.uint16)[0])

    best = np.inf
    for _ in range(repeats + 1):  # memory and kernels come with the first
        begun = time.perf_counter()
        done = sum(overlapped(correct, range(0, len(given.frames), chunk), 2))
        best = min(best, time.perf_counter() - begun)
        assert done == len(given.frames)
    return len(given.frames) / best


def cpu_rate(given: Recording, frames: int) -> float:
    """Frames per second of `flowreg` with all cores."""
    plan = get_backend("flowreg").prepare(given.fixed, given.parameters)
    threads = available_threads()
    shown = given.frames[:frames]
    best = np.inf
    for _ in range(2):
        begun = time.perf_counter()
        smooth = given.scale.smoothed(shown, SIGMA, np.float32, range(len(shown)), threads)
        w = plan.displacements(smooth, None, threads)
        warp_frames(shown, w, given.frames[0], np.uint16, threads)
        best = min(best, time.perf_counter() - begun)
    return len(shown) / best


def peer_rate(python: str, given: Recording, quality: str, frames: int) -> float | str:
    """Frames per second of the published package's backend of the same name, or why not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npz"
        reference = given.frames[:20].mean(axis=0)[..., 0]
        np.savez(path, frames=given.frames[:frames, ..., 0], reference=reference)
        try:
            # Both packages have one name: this one must not be found.
            alone = {"PYTHONPATH": ""}
            with Tool("peer_gpu", python, Path(folder) / "log", extra=alone) as tool:
                options = {"quality_setting": quality}
                seconds = tool("compensate", path=str(path), options=options).value
        except ToolError:
            log = (Path(folder) / "log").read_text(encoding="utf-8").strip().splitlines()
            return log[-1] if log else "it ended without a message"
    return float(frames / seconds)


class Profile:
    """Measures every kernel of the backend with events."""

    def __init__(self) -> None:
        import cupy

        from pyflowreg.core.cuda.cupy_device import CupyStream

        self._cuda = cupy.cuda
        self._marks: list[tuple[str, Any, Any]] = []
        self._plain: Callable[..., None] = CupyStream.launch
        profile = self

        def launch(stream: Any, kernel: str, *arguments: Any, **shared: int) -> None:
            marks = [profile._cuda.Event() for _ in range(2)]
            marks[0].record(stream._stream)
            profile._plain(stream, kernel, *arguments, **shared)
            marks[1].record(stream._stream)
            profile._marks.append((kernel, *marks))

        CupyStream.launch = launch  # type: ignore[method-assign]
        self._patched = CupyStream

    def stop(self) -> dict[str, float]:
        """Return milliseconds by kernel, of all since the beginning."""
        self._patched.launch = self._plain  # type: ignore[method-assign]
        found: dict[str, float] = defaultdict(float)
        for kernel, start, end in self._marks:
            end.synchronize()
            found[kernel] += self._cuda.get_elapsed_time(start, end)
        return dict(found)


def bandwidths() -> dict[str, float]:
    """Bytes per second within the device, and to and from it, as measured."""
    import cupy

    runtime = cupy.cuda.runtime
    a, b = (cupy.cuda.alloc(COPIED) for _ in range(2))
    host = cupy.cuda.PinnedMemory(COPIED)
    ways = {
        "device": (a.ptr, b.ptr, runtime.memcpyDeviceToDevice, 2),
        "up": (a.ptr, host.ptr, runtime.memcpyHostToDevice, 1),
        "down": (host.ptr, a.ptr, runtime.memcpyDeviceToHost, 1),
    }
    stream = cupy.cuda.Stream(non_blocking=True)
    found = {}
    for name, (target, source, kind, times) in ways.items():
        best = np.inf
        for _ in range(5):
            begun = time.perf_counter()
            runtime.memcpyAsync(target, source, COPIED, kind, stream.ptr)
            stream.synchronize()
            best = min(best, time.perf_counter() - begun)
        found[name] = times * COPIED / best
    return found


def peak_operations() -> float:
    """Float32 operations per second of the device, a product with a sum counted as one."""
    import cupy

    device = cupy.cuda.Device(0)
    attributes = device.attributes
    per_clock = attributes["MultiProcessorCount"] * lanes(int(device.compute_capability))
    return float(per_clock * attributes["ClockRate"] * 1e3)


def measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One result per side and quality."""
    speed, operations = bandwidths(), peak_operations()
    results = []
    for side in arguments.sides:
        for quality in arguments.quality:
            sys.stderr.write(f"{side} x {side}, {quality}\n")
            most = chunk_length(side, side, 1, 1, BACKENDS["flowreg_cuda"].chunk_bytes)
            given = recording(side, quality, arguments.frames)
            backend: Any = get_backend("flowreg_cuda")
            chunk = backend.preferred_chunk(side, side, 1, given.parameters, most)
            bound = floor(side, quality)
            found: dict[str, Any] = {
                "side": side,
                "quality": quality,
                "chunk": chunk,
                "gpu": gpu_rate(given, chunk, arguments.repeats),
                "cpu": cpu_rate(given, arguments.cpu_frames),
                "memory floor": speed["device"] / bound.moved,
                "transfer floor": speed["down"] / bound.carried,
                "operations floor": operations / bound.operations,
            }
            if arguments.peer:
                frames = arguments.peer_frames
                found["peer"] = peer_rate(arguments.peer, given, quality, frames)
            if arguments.profile:
                profile = Profile()
                gpu_rate(given, chunk, 0)
                found["kernels"] = profile.stop()
            results.append(found)
    return results


def tables(results: list[dict[str, Any]], frames: int) -> str:
    """Return Markdown."""
    header = ["frames", "GPU, frames/s", "CPU, frames/s", "ratio", "memory moved", "transfers",
              "operations", "pyflowreg 0.1.0a9"]  # fmt: skip
    rows = []
    for r in results:
        peer = r.get("peer")
        rows.append(
            [
                f"{r['side']} x {r['side']}, `{r['quality']}`",
                *(digits(r[key]) for key in ("gpu", "cpu")),
                f"{digits(r['gpu'] / r['cpu'])}x",
                *(digits(r[f"{key} floor"]) for key in ("memory", "transfer", "operations")),
                digits(peer) if isinstance(peer, float) else str(peer or "-"),
            ]
        )
    text = markdown(header, rows)
    for r in (r for r in results if "kernels" in r):
        parts = sorted(r["kernels"].items(), key=lambda item: -item[1])[:12]
        text += f"\n{r['side']} x {r['side']}, `{r['quality']}`: ms per frame\n\n"
        text += markdown(["kernel", "ms"], [[k, digits(ms / frames)] for k, ms in parts])
    return text


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("--sides", nargs="+", type=int, default=[256, 512, 1024], metavar="N")
    result.add_argument("--quality", nargs="+", choices=list(QUALITIES), default=list(QUALITIES))
    result.add_argument("--frames", type=int, default=1200, help="frames of a recording")
    result.add_argument("--cpu-frames", type=int, default=32, help="of them on the CPU")
    result.add_argument("--repeats", type=int, default=3, help="runs, of which the best counts")
    result.add_argument("--peer", help="interpreter that has pyflowreg 0.1.0a9 with cupy")
    result.add_argument("--peer-frames", type=int, default=200, help="frames it is given")
    result.add_argument("--profile", action="store_true", help="time of every kernel")
    result.add_argument("--out", type=Path, default=Path("benchmarks"), help="results and tables")
    return result


def main() -> None:
    """Measure, print and keep the tables."""
    arguments = parser().parse_args()
    check_backend("flowreg_cuda", {}, on_this_machine=True)
    results = measured(arguments)
    text = tables(results, arguments.frames)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = json.dumps(results, indent=1)
    (arguments.out / "gpu.json").write_text(content + "\n", encoding="utf-8")
    (arguments.out / "gpu.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
