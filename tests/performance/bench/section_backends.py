"""Errors and times of the other backends of the optical flow, beside the default one."""

from __future__ import annotations

import logging
import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import recording_error
from bench.corrections import Job, found_fields, results, run, warm_up
from bench.frames import flow_pairs, load_truth, recording
from bench.processes import Tool
from bench.section_accuracy import SCENES, Scene
from bench.setup import FLOW, QUALITIES, REPOSITORY, Setup
from bench.tables import digits, markdown, span, summary

TITLE = "Backends"
QUALITY = "balanced"
"""Of the simulated recordings."""

GROUPS = {
    "texture, square": ("g01", "g02", "g04", "g15"),
    "texture, 128 x 96": ("g03", "g05", "g06", "g07", "g08"),
    "texture, two channels": ("g16",),
    "cells with photon noise, one channel": ("g09", "g14", "g18"),
    "cells with photon noise, two channels": ("g10", "g11", "g12", "g13", "g17"),
}
"""Pairs of `tests/data/golden`, as the README groups them."""

log = logging.getLogger(__name__)

Backend = dict[str, Any]
"""Its `name`, `params`, `title` and whether it `solves` the equations of the default one."""


def _golden() -> Any:
    """Return the module that reads the golden pairs."""
    folder = str(REPOSITORY / "tests" / "parity")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import golden

    return golden


def measure(setup: Setup) -> dict[str, Any]:
    """Run every backend that the tool `backends` has on pairs, recordings and the clock."""
    with setup.tool("backends") as tool:
        found: list[Backend] = tool("backends").value
        pairs = [_pairs(setup, tool, backend) for backend in found]
        scenes = [_scene(setup, tool, found, scene) for scene in SCENES]
    with ExitStack() as stack:
        tool = stack.enter_context(setup.tool("backends", threads=1))
        times = [_times(setup, tool, backend) for backend in found]
    rows = [
        {**backend, **own, "times": seconds}
        for backend, own, seconds in zip(found, pairs, times, strict=True)
    ]
    return {
        "backends": rows,
        "original": _original(),
        "scenes": scenes,
        "frames": setup.accuracy_frames,
        "side": setup.side,
    }


def _original() -> dict[str, float]:
    golden = _golden()
    cases = {name: golden.load(name) for name in golden.CASES}
    return {
        name[:3]: float(np.hypot(*np.moveaxis(case["w"] - case["w_true"], -1, 0)).mean())
        for name, case in cases.items()
    }


def _pairs(setup: Setup, tool: Tool, backend: Backend) -> dict[str, Any]:
    """Errors on the golden pairs, and differences from the default backend."""
    log.info("%s, golden pairs", backend["title"])
    golden = _golden()
    errors, differences = {}, {}
    for name in golden.CASES:
        case, fields = golden.load(name), []
        for which, params in (("flowreg", {}), (backend["name"], backend["params"])):
            out = setup.work / f"golden_{which}.npy"
            tool("golden", name=name, backend=which, params=params, out=str(out))
            fields.append(np.load(out))
        errors[name[:3]] = golden.end_point_error(case, fields[1])
        differences[name[:3]] = golden.difference(*fields)[::2]
    return {"errors": errors, "differences": differences}


def _scene(setup: Setup, tool: Tool, found: list[Backend], scene: Scene) -> dict[str, Any]:
    """Errors of stage 1 on a simulated recording."""
    config = replace(setup.config(setup.accuracy_frames), **scene.changes)
    source, truth_file = recording(setup.work, config)
    truth = load_truth(truth_file)
    errors = []
    for backend in found:
        log.info("%s, %s", backend["title"], scene.name)
        choice = (("flow_backend", backend["name"]), ("backend_params", backend["params"]))
        quality = QUALITY if backend["solves"] else "quality"
        job = Job(quality, "backends", (setup.accuracy_frames,), changes=choice)
        if scene is SCENES[0]:
            warm_up(setup, job, tool, source)
        run(setup, job, tool, source, fields=True, n_reference=config.n_frames)
        errors.append(recording_error(found_fields(setup, job), truth))
        shutil.rmtree(results(setup, job, fields=True))
    return {"name": scene.name, "errors": errors}


def _times(setup: Setup, tool: Tool, backend: Backend) -> dict[str, Any]:
    """Seconds of a pair of frames with one thread, in every quality."""
    log.info("%s, times", backend["title"])
    pairs: Path = flow_pairs(setup.work, setup.config(setup.frames), setup.pairs)[0]
    choice = {"backend": backend["name"], "backend_params": backend["params"]}
    found = {}
    for quality in setup.qualities:
        options = {**FLOW, "min_level": QUALITIES[quality]} if backend["solves"] else {}
        seconds = []
        for turn in range(setup.repeats + 1):
            taken = tool("displacement", pairs=str(pairs), options={**options, **choice}).value
            seconds += taken if turn else []  # the first compiles
        found[quality] = summary(seconds)
    return found


def _mean(values: dict[str, float], names: tuple[str, ...]) -> str:
    return digits(float(np.mean([values[name] for name in names])))


def table(result: dict[str, Any]) -> str:
    """Return the tables of errors and times, one column for every backend."""
    backends = result["backends"]
    titles = [backend["title"] for backend in backends]
    every = tuple(result["original"])
    rows = [
        [
            f"{title}, {len(names)} pair{'s' if len(names) > 1 else ''}",
            _mean(result["original"], names),
            *(_mean(backend["errors"], names) for backend in backends),
        ]
        for title, names in ({**GROUPS, "all": every}).items()
    ]
    for scene in result["scenes"]:
        rows.append([f"stage 1, {scene['name']}", "", *map(digits, scene["errors"])])
    for title, index in (("largest mean of a pair", 0), ("largest of a pixel", 1)):
        largest = [
            max(difference[index] for difference in backend["differences"].values())
            for backend in backends
        ]
        rows.append([f"difference from flowreg: {title}", "", *map(digits, largest)])
    text = markdown(["end-point error (px)", "original", *titles], rows)
    times = [
        [f"`{quality}`", *(span(backend["times"][quality], 1000) for backend in backends)]
        for quality in backends[0]["times"]
    ]
    return (
        f"{text}\nThe pairs are those of the table above, in single precision. Stage 1: the scenes "
        f"of `make benchmark`, {result['frames']} frames of {result['side']} x {result['side']} "
        f"pixels, `{QUALITY}` (diso knows no such setting).\n\n"
        + markdown(["ms per pair: min (median)", *titles], times)
        + f"\n{result['side']} x {result['side']} pixels, one thread, a pair at a time.\n"
    )
