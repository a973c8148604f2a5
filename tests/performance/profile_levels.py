"""Where the time of one frame goes: milliseconds per step and pyramid level, one thread.

    python tests/performance/profile_levels.py [--side 512] [--min-level 0] [--repeats 20]

Minima over the repeats. A level is one compiled call of the backend `flowreg`; its steps are called
once more, each by itself, in the same memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from inspect import signature
from types import SimpleNamespace
from typing import Any

import numpy as np
from bench.setup import FLOW
from bench.tables import markdown
from scipy.ndimage import gaussian_filter

from pyflowreg.core.backend_registry import get_backend
from pyflowreg.core.backends import flowreg
from pyflowreg.core.level_kernels import refine_level
from pyflowreg.core.level_solver import solve_alone
from pyflowreg.core.median import median_5x5_into
from pyflowreg.core.motion_tensor import gradient_constancy
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.resize_kernels import resize_planes
from pyflowreg.core.warp_kernels import warp_cubic

NAMES = tuple(signature(refine_level.py_func).parameters)

STEPS = ("resize", "warp", "motion tensor", "solver", "median", "whole level")
SHIFT = (2, -1)
SOLVER = slice(NAMES.index("weights"), len(NAMES))


class Clock:
    """Takes the place of the level's call and keeps the shortest times at each level."""

    def __init__(self) -> None:
        self.seconds: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(lambda: 1e9))
        flowreg.refine_level = self.level

    def _time(self, height: int, step: str, function: Callable[..., Any], *arguments: Any) -> None:
        start = time.perf_counter()
        function(*arguments)
        times = self.seconds[height]
        times[step] = min(times[step], time.perf_counter() - start)

    def level(self, *arguments: Any) -> None:
        """Run a level, then its steps."""
        a = SimpleNamespace(**dict(zip(NAMES, arguments, strict=True)))
        real = a.field.dtype.type
        time_step = partial(self._time, a.fixed.shape[1])
        time_step("whole level", refine_level, *arguments)
        taps = a.frame_rows, a.frame_row_weights, a.frame_columns, a.frame_column_weights
        time_step("resize", resize_planes, a.full, *taps, a.scratch, a.target)
        scale = 1 / a.hx, 1 / a.hy
        time_step("warp", warp_cubic, a.target, *a.field, *scale, a.fixed, a.warped)
        spacing = real(a.hx), real(a.hy), real(a.normaliser)
        images = a.fixed[0], a.warped[0]
        time_step("motion tensor", gradient_constancy, *images, *spacing, a.scratch, a.tensor[0])
        solver = a.tensor.reshape(-1), len(a.fixed), a.padded, a.increment, *arguments[SOLVER]
        time_step("solver", solve_alone, *solver)
        time_step("median", median_5x5_into, a.increment[0], a.plane, a.median_scratch)


def frames(side: int) -> tuple[Any, Any]:
    """Return a fixed frame (side, side, 1) and the same shifted, float32."""
    noise = np.random.default_rng(0).standard_normal((side + 20, side + 20))
    smooth = gaussian_filter(noise, 2)
    image = ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)[..., None]
    y, x = SHIFT
    return image[10 : 10 + side, 10 : 10 + side], image[10 + y :, 10 + x :][:side, :side]


def table(seconds: dict[int, dict[str, float]], whole: float) -> str:
    """Return the table: one row per level, finest first."""
    rows, sums = [], defaultdict(float)
    for height, times in sorted(seconds.items(), reverse=True):
        rows.append([str(height), *(f"{1e3 * times[step]:.2f}" for step in STEPS)])
        for step in STEPS:
            sums[step] += times[step]
    rows.append(["sum", *(f"{1e3 * sums[step]:.2f}" for step in STEPS)])
    return markdown(["level height (px)", *(f"{step} (ms)" for step in STEPS)], rows) + (
        f'\nThe shortest whole frame took {1e3 * whole:.1f} ms. "resize" is that of the frame, '
        '"median" is done two or four times.\n'
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--min-level", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    fixed, moving = frames(given.side)
    parameters = FlowParameters.create(**FLOW, min_level=given.min_level, weight=None)
    plan = get_backend("flowreg").prepare(fixed, parameters)
    plan.displacements(moving[None])  # compiles
    whole = 1e9
    for _ in range(given.repeats):
        start = time.perf_counter()
        plan.displacements(moving[None])
        whole = min(whole, time.perf_counter() - start)
    clock = Clock()
    for _ in range(given.repeats + 1):  # the first compiles
        plan.displacements(moving[None])
    sys.stdout.write(table(clock.seconds, whole))


if __name__ == "__main__":
    main()
