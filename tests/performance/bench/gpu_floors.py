"""What a GPU cannot do faster: numbers moved and operations of one frame of stage 1.

Counted from the method as the backend `flowreg_cuda` is laid out, for `flow_options` as they are by
default: every number that one step leaves to the next passes through the memory of the device once,
the solver's once per pass, and only arithmetic that makes results counts. Nothing is assumed to be
cached, and no time for addresses, barriers or waiting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.setup import FLOW, QUALITIES
from pyflowreg.core.noise import BLOCK
from pyflowreg.core.plan_levels import SINGLE_SIDE, SINGLE_SPACING
from pyflowreg.core.pyramid import Level, pyramid_levels

OPERATIONS_PER_SWEEP = 16
"""Of a point: five products with sums and one of each for either increment."""
OPERATIONS_PER_FOLD = 75
"""Of a point: the robust weight with its power, sums over the tensor, two divisions."""
OPERATIONS_PER_MEDIAN = 258
"""Of a pixel: 129 exchanges."""
OPERATIONS_PER_PIXEL = 120
"""Of a level's pixel: warp, tensor, noise."""
OPERATIONS_PER_FRAME_PIXEL = 160
"""Of a frame's pixel, mostly in float64: smoothing, warp, statistics."""
LANES = {70: 64, 75: 64, 80: 64}
"""Float32 operations per clock and multiprocessor; 128 on later devices."""


@dataclass(frozen=True)
class Floor:
    """Of one frame.

    Parameters
    ----------
    moved : float
        Bytes through the memory of the device.
    carried : float
        Bytes between host and device.
    operations : float
        Arithmetic, a product with a sum counted as one.
    sweeps : float
        Points times sweeps, for comparison.
    """

    moved: float
    carried: float
    operations: float
    sweeps: float


def _groups() -> int:
    """Passes of the solver: updates of the robust weights, and the sweeps before the first."""
    return (
        1
        + (int(FLOW["iterations"]) - (int(FLOW["update_lag"]) - 1) - 1) // int(FLOW["update_lag"])
        + 1
    )


def _taps(scale: float) -> float:
    return 1 if scale == 1 else 4 / scale + 1


def _level(level: Level, side: int) -> tuple[float, float, float]:
    """Bytes, operations and point sweeps of a level."""
    points = level.height * level.width
    small = min(level.height, level.width) < SINGLE_SIDE and level.spacing > SINGLE_SPACING
    size = 8 if small else 4
    scale = level.height / side
    between = level.height * side
    passes = _groups()
    planes = (
        3 + 6  # frame resized, field resized
        + 5 + 1  # warp, noise
        + 8 + 4  # tensor, Laplacian
        + 12 * passes  # solver: tensor, Laplacian, increments in and out
        + 4 + 6  # increments back in rows, added
        + (4 if level.spacing <= 1.6 else 0)  # medians of the field
    )  # fmt: skip
    moved = side * side * 4 + 2 * between * size + planes * points * size
    resized = between * _taps(scale) + points * _taps(scale) + 2 * points * 8
    medians = 2 * (1 + (level.spacing <= 1.6)) * OPERATIONS_PER_MEDIAN
    sweeps = points * int(FLOW["iterations"])
    operations = resized + sweeps * OPERATIONS_PER_SWEEP
    operations += points * (passes * OPERATIONS_PER_FOLD + medians + OPERATIONS_PER_PIXEL)
    return moved, operations + points / BLOCK, sweeps


def floor(side: int, quality: str) -> Floor:
    """Count for a frame of side x side pixels, one channel, uint16."""
    levels = pyramid_levels(
        side,
        side,
        eta=float(FLOW["eta"]),
        levels=int(FLOW["levels"]),
        min_level=QUALITIES[quality],
        swapped_spacing=False,
    )
    parts = [_level(level, side) for level in levels]
    moved, operations, sweeps = (math.fsum(column) for column in zip(*parts, strict=True))
    pixels = side * side
    # Raw and smoothed frames; the field in planes, in pairs, for the warp and for the statistics.
    moved += pixels * (2 + 2 + 4 + 4 + 4 + 8 + 16 + 8 + 2 + 8 + 2 + 1)
    carried = pixels * (2 + 8 + 2 + 1)
    return Floor(moved, carried, operations + pixels * OPERATIONS_PER_FRAME_PIXEL, sweeps)


def lanes(capability: int) -> int:
    """Float32 operations per clock and multiprocessor."""
    return LANES.get(capability, 128)
