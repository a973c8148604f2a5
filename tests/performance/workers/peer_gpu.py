"""The published package's GPU backend as a black box, for worker.py."""

import time

from common import versions


def about():
    return versions("pyflowreg", "cupy-cuda12x", "cupy-cuda11x", "numpy")


def compensate(path, options):
    """Seconds of `compensate_arr` for the frames of a file, after a first call on a few."""
    import numpy as np
    from pyflowreg.motion_correction.OF_options import OFOptions

    from pyflowreg.motion_correction import compensate_arr

    with np.load(path) as data:
        frames, reference = data["frames"], data["reference"]
    configured = OFOptions(**options)
    for part in (frames[:10], frames):
        start = time.perf_counter()
        compensate_arr(part, reference, configured, flow_backend="flowreg_cuda")
        seconds = time.perf_counter() - start
    return seconds
