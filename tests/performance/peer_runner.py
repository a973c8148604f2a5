"""Run the published package on a session, as a black box, and save its fields as npz.

Runs with the interpreter of an environment that has that package (and not this project):

    PEER/bin/python peer_runner.py FOLDER OUT --options '{"quality_setting": "balanced"}'

FOLDER holds the recordings (*.tif); only the public session functions are called. They are handed
over as HDF5 (ch1, ch2: the frames as they are), because the package takes the two channels of an
ImageJ hyperstack for frames, which would not be a comparison of the methods. OUT receives one
`<recording>.npz` each, with `w` (T, H, W, 2) float32, `w_to_reference` (H, W, 2) float64,
`temporal_average` (H, W, C) float64, and `timing.json` with seconds per frame of stage 1 and
seconds per recording of stage 2, both after a warm-up that pays for compilation.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import tifffile


def session(root, output, options, stage2):
    from pyflowreg.session import SessionConfig

    return SessionConfig(
        root=root,
        pattern="*.h5",
        output_root=output,
        final_results=output / "final_results",
        n_workers=1,
        flow_options=options,
        **stage2,
    )


def run(root, output, options, stage2):
    """Run stages 1 and 2; return their seconds."""
    from pyflowreg.session.stage1_compensate import run_stage1
    from pyflowreg.session.stage2_between_avgs import run_stage2

    config = session(root, output, options, stage2)
    start = time.perf_counter()
    run_stage1(config)
    between = time.perf_counter()
    run_stage2(config)
    return between - start, time.perf_counter() - between


def convert(tiff, target, frames=slice(None)):
    """Write the frames of a TIFF, (T, H, W) or (T, C, H, W), as HDF5."""
    movie = tifffile.imread(tiff)[frames]
    movie = movie[:, None] if movie.ndim == 3 else movie
    with h5py.File(target, "w") as file:
        for channel in range(movie.shape[1]):
            file[f"ch{channel + 1}"] = movie[:, channel]


def warm_up(recording, options, stage2):
    """Compile everything on four frames, twice, so that stage 2 has something to align."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("a.h5", "b.h5"):
            convert(recording, root / part, slice(4))
        run(root, root / "out", {**options, "reference_frames": [0, 1, 2, 3]}, stage2)


def collect(recording, output, out):
    folder = output / recording.stem
    with h5py.File(folder / "w.h5") as file:
        w = np.stack([file["u"][()], file["v"][()]], axis=-1)
    with np.load(folder / "w_to_reference.npz") as fields:
        between = np.stack([fields["u"], fields["v"]], axis=-1)
    average = np.load(folder / "temporal_average.npy")
    np.savez(out / f"{recording.stem}.npz", w=w, w_to_reference=between, temporal_average=average)
    return w.shape[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--options", type=json.loads, default={}, help="stage-1 options, JSON")
    parser.add_argument("--stage2", type=json.loads, default={}, help="stage-2 settings, JSON")
    arguments = parser.parse_args()
    recordings = sorted(arguments.folder.resolve().glob("*.tif"))
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    inputs, work = out / "input", out / "session"
    for folder in (inputs, work):
        shutil.rmtree(folder, ignore_errors=True)
    inputs.mkdir()
    for recording in recordings:
        convert(recording, inputs / f"{recording.stem}.h5")
    options = {"save_w": True, "save_valid_idx": True, **arguments.options}
    with contextlib.redirect_stdout(sys.stderr):
        warm_up(recordings[0], options, arguments.stage2)
        stage1, stage2 = run(inputs, work, options, arguments.stage2)
    frames = sum(collect(recording, work, out) for recording in recordings)
    timing = {
        "stage1_seconds_per_frame": stage1 / frames,
        "stage2_seconds_per_recording": stage2 / max(len(recordings) - 1, 1),
    }
    (out / "timing.json").write_text(json.dumps(timing), encoding="utf-8")


if __name__ == "__main__":
    main()
