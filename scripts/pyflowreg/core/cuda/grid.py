"""Sizes of blocks and grids, as in the kernels, and names of types in their names."""

from __future__ import annotations

from typing import Any

import numpy as np

THREADS = 256
"""Threads of a block, but for the solver."""

SOLVER_THREADS = 512
"""Most threads of a block of the solver."""

PART = 1024
TILE = 32
"""Items, and side of a square of pixels, that a block works on."""


def parts(count: int) -> int:
    """Blocks for so many items."""
    return -(-count // PART)


def tiles(height: int, width: int) -> int:
    """Squares that cover a plane."""
    return -(-height // TILE) * -(-width // TILE)


def suffix(dtype: np.dtype[Any]) -> str:
    """Name of a floating-point type in the names of kernels."""
    return "f32" if dtype == np.float32 else "f64"
