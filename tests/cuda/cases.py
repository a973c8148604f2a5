"""Pairs of frames, and how both backends are asked about them."""

import numpy as np
from scipy.ndimage import gaussian_filter

from pyflowreg.core.backend_registry import get_backend
from pyflowreg.core.parameters import FlowParameters

DEFAULTS = {
    "alpha": 1.5, "levels": 100, "eta": 0.8, "iterations": 20, "update_lag": 5, "a_data": 0.45,
    "a_smooth": 1.0, "min_level": 0, "weight": None, "data_term": "gc", "numerics": "standard",
    "precision": "single",
}  # fmt: skip


def parameters(**options):
    return FlowParameters.create(**{**DEFAULTS, **options})


def scene(height, width, channels=1, frames=1, seed=0):
    """A fixed frame (H, W, C) and moving ones (T, H, W, C), noisy and up to 2 px away."""
    random = np.random.default_rng(seed)
    wide = gaussian_filter(random.random((height + 8, width + 8, channels)), (1.5, 1.5, 0))
    wide = (wide - wide.min()) / (wide.max() - wide.min())
    shifts = random.integers(-2, 3, (frames, 2))
    moving = np.stack([wide[4 + y : 4 + y + height, 4 + x : 4 + x + width] for y, x in shifts])
    moving += 0.01 * random.standard_normal(moving.shape)
    return wide[4:-4, 4:-4], moving


def on_processor(fixed, moving, uv=None, **options):
    plan = get_backend("flowreg").prepare(fixed, parameters(**options))
    return plan.displacements(moving, uv)
