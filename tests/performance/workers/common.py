"""What the workers of several tools share; needs NumPy only."""

import importlib.metadata
import time

import numpy as np


def versions(*packages):
    """Versions of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def time_pairs(function, pairs, out, dtype=np.float32):
    """Time `function(fixed, moving)` on every pair of a file; save the fields if `out` is given.

    Returns
    -------
    list of float
        Seconds of every call.
    """
    with np.load(pairs) as data:
        fixed, moving = data["fixed"].astype(dtype), data["moving"].astype(dtype)
    seconds, fields = [], []
    for frame in moving:
        start = time.perf_counter()
        field = function(fixed, frame)
        seconds.append(time.perf_counter() - start)
        fields.append(np.asarray(field, dtype=np.float32))
    if out:
        np.save(out, np.stack(fields))
    return seconds
