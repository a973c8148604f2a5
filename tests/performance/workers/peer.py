"""The published package as a black box, for worker.py: only documented functions are called."""

import shutil
from pathlib import Path

from common import time_pairs, versions


def about():
    return versions("pyflowreg", "opencv-contrib-python", "numba", "numpy", "scipy")


def displacement(pairs, options, out=None, threads=1):
    """Seconds of `get_displacement` for every pair of frames."""
    import cv2

    from pyflowreg.core.optical_flow import get_displacement

    cv2.setNumThreads(threads)
    return time_pairs(lambda fixed, moving: get_displacement(fixed, moving, **options), pairs, out)


def compensate(recording, folder, options, parallelization=None, n_jobs=-1):
    """Correct one recording, file to file."""
    from pyflowreg.motion_correction.compensate_recording import (
        RegistrationConfig,
        compensate_recording,
    )
    from pyflowreg.motion_correction.OF_options import OFOptions

    shutil.rmtree(folder, ignore_errors=True)
    configured = OFOptions(
        input_file=recording, output_path=folder, output_format="HDF5", **options
    )
    config = RegistrationConfig(n_jobs=n_jobs, parallelization=parallelization)
    compensate_recording(configured, config=config)


def session(root, output, flow_options, stage2):
    """Run stages 1 and 2 of a session, one recording after the other; return their seconds."""
    import time

    from pyflowreg.session import SessionConfig
    from pyflowreg.session.stage1_compensate import run_stage1
    from pyflowreg.session.stage2_between_avgs import run_stage2

    output = Path(output)
    config = SessionConfig(
        root=root,
        pattern="*.h5",
        output_root=output,
        final_results=output / "final_results",
        n_workers=1,
        flow_options=flow_options,
        **stage2,
    )
    start = time.perf_counter()
    run_stage1(config)
    between = time.perf_counter()
    run_stage2(config)
    return between - start, time.perf_counter() - between
