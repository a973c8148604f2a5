"""Compare this package with the published one on the same simulated frames.

    python tests/performance/compare_with_peer.py --peer-python PEER/bin/python

See README.md beside this file.
"""

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyflowreg.quality.demo_table import EndPointErrors, session_errors
from pyflowreg.quality.metrics import load_displacements, load_field
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import discover_recordings
from pyflowreg.session.outputs import session_paths
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.simulation import SimulationConfig, simulate_session

RUNNER = Path(__file__).with_name("peer_runner.py")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Errors of one package, and its seconds per frame (stage 1) and per recording (stage 2)."""

    errors: list[EndPointErrors]
    stage1_seconds: float
    stage2_seconds: float


def run_ours(simulation, session, output, options, stage2):
    """Run both stages, after a warm-up that pays for compilation; return the result."""
    with tempfile.TemporaryDirectory() as name:
        simulate_session(SimulationConfig(n_recordings=2, n_frames=4, **_size(simulation)), name)
        _stages(Path(name), Path(name) / "out", {**options, "reference_frames": [0, 1, 2]}, stage2)
    shutil.rmtree(output, ignore_errors=True)
    config, first, second = _stages(session, output, options, stage2)
    paths = session_paths(config)
    folders = [paths.recording(recording.name) for recording in discover_recordings(config)]
    errors = session_errors(
        (load_displacements(folder.folder) for folder in folders),
        [load_field(folder.w_to_reference) for folder in folders],
        _truth_files(simulation, session),
        simulation.n_recordings // 2,
    )
    frames = simulation.n_recordings * simulation.n_frames
    return Result(errors, first / frames, second / max(simulation.n_recordings - 1, 1))


def _stages(root, output, options, stage2):
    config = SessionConfig(
        root=str(root),
        pattern="recording_*.tif",
        output_root=str(output),
        n_workers=1,
        resume=False,
        flow_options={"save_w": True, **options},
        **stage2,
    )
    start = time.perf_counter()
    run_stage1(config)
    between = time.perf_counter()
    run_stage2(config)
    return config, between - start, time.perf_counter() - between


def run_peer(python, simulation, session, output, options, stage2):
    """Run the published package in its own environment, unless its results are there."""
    timing = output / "timing.json"
    if not timing.is_file():
        command = [python, str(RUNNER), str(session), str(output)]
        command += ["--options", json.dumps(options), "--stage2", json.dumps(stage2)]
        with (session.parent / f"{output.name}.log").open("w", encoding="utf-8") as stream:
            subprocess.run(command, check=True, stdout=stream, stderr=subprocess.STDOUT)
    within, between = [], []
    for name in simulation.names:
        with np.load(output / f"{name}.npz") as data:
            within.append(data["w"])
            between.append(data["w_to_reference"])
    errors = session_errors(
        within, between, _truth_files(simulation, session), simulation.n_recordings // 2
    )
    seconds = json.loads(timing.read_text(encoding="utf-8"))
    return Result(
        errors, seconds["stage1_seconds_per_frame"], seconds["stage2_seconds_per_recording"]
    )


def table(title, simulation, ours, peer):
    """Return both results side by side."""
    lines = [
        title,
        "                stage 1: end-point error (px)   stage 2: end-point error (px)",
        "recording         before     ours     peer        before     ours     peer",
    ]
    for number, name in enumerate(simulation.names):
        a, b = ours.errors[number], peer.errors[number]
        lines.append(
            f"{name:<14s}{a.stage1_before:10.3f}{a.stage1:9.3f}{b.stage1:9.3f}"
            f"{a.stage2_before:14.3f}{a.stage2:9.3f}{b.stage2:9.3f}"
        )
    lines.append(
        f"{'seconds':<14s}{'':10s}{ours.stage1_seconds:9.4f}{peer.stage1_seconds:9.4f}"
        f"{'':14s}{ours.stage2_seconds:9.4f}{peer.stage2_seconds:9.4f}"
    )
    return "\n".join(lines) + "\n\n"


def _size(simulation):
    return {name: getattr(simulation, name) for name in ("height", "width", "channels")}


def _truth_files(simulation, session):
    return [session / "truth" / f"{name}_truth.npz" for name in simulation.names]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="interpreter of its environment")
    parser.add_argument("--work", type=Path, help="keep everything here; peer results are reused")
    parser.add_argument("--quality", nargs="+", default=["fast", "balanced", "quality"])
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--seed", type=int, default=SimulationConfig.seed)
    parser.add_argument("--options", type=json.loads, default={}, help="stage 1, both, JSON")
    parser.add_argument("--stage2", type=json.loads, default={}, help="stage 2, both, JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    simulation = SimulationConfig(channels=arguments.channels, seed=arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        work = (arguments.work or Path(scratch)).resolve()
        session = work / f"session_{arguments.channels}channel_seed{arguments.seed}"
        simulate_session(simulation, session)
        for quality in arguments.quality:
            # all frames make the reference, so that nobody profits from a choice of frames
            options = {
                "quality_setting": quality,
                "reference_frames": list(range(simulation.n_frames)),
                **arguments.options,
            }
            name = f"{session.name}_{quality}"
            ours = run_ours(simulation, session, work / f"ours_{name}", options, arguments.stage2)
            peer = run_peer(
                arguments.peer_python,
                simulation,
                session,
                work / f"peer_{name}",
                options,
                arguments.stage2,
            )
            sys.stdout.write(table(f"quality_setting: {quality}", simulation, ours, peer))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
