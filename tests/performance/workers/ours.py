"""This package, for worker.py."""

from pathlib import Path

from common import time_pairs, versions


def about():
    libraries = ("numba", "numpy", "scipy", "h5py", "tifffile")
    return versions("pyflowreg", *libraries, "torch", "opencv-python-headless", "cupy-cuda12x")


def displacement(pairs, options, out=None, threads=1):
    """Seconds of `get_displacement` for every pair of frames."""
    from pyflowreg.core.optical_flow import get_displacement

    return time_pairs(lambda fixed, moving: get_displacement(fixed, moving, **options), pairs, out)


def backends():
    """Backends that can be used here; of one that has several devices, the first of them."""
    from pyflowreg.core.backend_registry import BACKENDS, availability

    found = []
    for entry in BACKENDS.values():
        choices = [{"device": device} for device in entry.devices] or [{}]
        usable = [params for params in choices if availability(entry.name, params).available]
        for params in usable[:1]:
            title = " ".join([entry.name, *params.values()])
            about = {"name": entry.name, "params": params, "title": title}
            found.append({**about, "solves": not entry.unused})
    return found


def golden(name, backend, params, out):
    """Save the field that a backend finds for a golden pair, with its own parameters."""
    import sys

    import numpy as np

    from pyflowreg.core.backend_registry import BACKENDS
    from pyflowreg.core.optical_flow import get_displacement

    sys.path.insert(0, str(Path(__file__).parents[2] / "parity"))
    from golden import flow_options, load

    case, entry = load(name), BACKENDS[backend]
    options = {key: v for key, v in flow_options(case).items() if key not in entry.unused}
    if not entry.weight_maps and np.ndim(options["weight"]) > 1:
        del options["weight"]
    choice = {"backend": backend, "backend_params": params}
    np.save(out, get_displacement(case["f1"], case["f2"], **options, **choice))


def compensate(recording, folder, options, threads=None):
    """Correct one recording, file to file."""
    from pyflowreg.motion_correction import OFOptions, compensate_recording

    configured = OFOptions(
        input_file=recording, output_path=folder, output_format="HDF5", **options
    )
    compensate_recording(configured, threads=threads)


def stage(number, root, **settings):
    """Run a stage of a session."""
    from pyflowreg.session import SessionConfig
    from pyflowreg.session.stage1_compensate import run_stage1
    from pyflowreg.session.stage2_between_avgs import run_stage2
    from pyflowreg.session.stage3_valid_mask import run_stage3

    (run_stage1, run_stage2, run_stage3)[number - 1](SessionConfig(root=root, **settings))


def align(compensated, output, field, average, threads, output_format="TIFF"):
    """Write the aligned video of a corrected recording."""
    import numpy as np

    from pyflowreg.session.stage3_valid_mask import align_sequence_video

    align_sequence_video(
        Path(compensated),
        Path(output),
        np.load(field),
        np.load(average),
        threads=threads,
        output_format=output_format,
    )


def read_masks(idx):
    """Find the pixels valid throughout, as stage 3 does."""
    from pyflowreg.session.stage3_valid_mask import valid_throughout

    valid_throughout(Path(idx))
