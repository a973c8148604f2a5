"""Processors without wide vectors and fused operations give the same displacements."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyflowreg.core.optical_flow import get_displacement

OTHER_PROCESSOR = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}
SETTINGS = {"precision": "single", "a_smooth": 1, "iterations": 6, "update_lag": 3, "levels": 3}
"""Kernels of other settings take as long to compile again, and are made of the same operations on
vectors: those of robust smoothness, and of double precision, which differs by less than 1e-9 px."""
SCRIPT = """
import json, sys
import numpy as np
from pyflowreg.core.optical_flow import get_displacement

folder, settings = sys.argv[1], json.loads(sys.argv[2])
fixed, moving = np.load(folder + "/pair.npy")
np.save(folder + "/w.npy", get_displacement(fixed, moving, **settings))
"""
TOLERANCE = 1e-3
"""Largest difference of a displacement in single precision, px."""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the other processor is an x86-64"
)
def test_a_processor_without_wide_vectors(tmp_path):
    image = gaussian_filter(np.random.default_rng(3).random((40, 49)), 2)
    image = (image - image.min()) / np.ptp(image)
    fixed, moving = image[:, :-1], image[:, 1:]
    np.save(tmp_path / "pair.npy", [fixed, moving])
    kept = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(SETTINGS)]
    with subprocess.Popen(command, env=os.environ | OTHER_PROCESSOR | kept) as other:
        # Both compile at the same time.
        w = get_displacement(fixed, moving, **SETTINGS)
    assert other.returncode == 0
    assert np.abs(w).max() > 0.5
    np.testing.assert_allclose(np.load(tmp_path / "w.npy"), w, rtol=0, atol=TOLERANCE)
