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
SETTINGS = {"precision": "single", "iterations": 6, "update_lag": 3, "levels": 3}
SCRIPT = """
import json, sys
import numpy as np
from pyflowreg.core.optical_flow import get_displacement

folder, settings = sys.argv[1], json.loads(sys.argv[2])
fixed, moving = np.load(folder + "/pair.npy")
np.save(folder + "/w.npy", get_displacement(fixed, moving, **settings))
"""
TOLERANCE = 1e-3
"""Largest difference of a displacement in single precision, px. Double is not tested, because its
kernels take as long to compile as everything else here; it differs by less than 1e-9."""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the other processor is an x86-64"
)
def test_a_processor_without_wide_vectors(tmp_path):
    image = gaussian_filter(np.random.default_rng(3).random((40, 49)), 2)
    image = (image - image.min()) / np.ptp(image)
    fixed, moving = image[:, :-1], image[:, 1:]
    np.save(tmp_path / "pair.npy", [fixed, moving])
    kept = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(SETTINGS)],
        env=os.environ | OTHER_PROCESSOR | kept,
        check=True,
    )
    w = get_displacement(fixed, moving, **SETTINGS)
    assert np.abs(w).max() > 0.5
    np.testing.assert_allclose(np.load(tmp_path / "w.npy"), w, rtol=0, atol=TOLERANCE)
