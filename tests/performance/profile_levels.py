"""Where the time of one frame goes: milliseconds per step and pyramid level, one thread.

    python tests/performance/profile_levels.py [--side 512] [--min-level 0] [--repeats 20]

Minima over the repeats. The steps are the compiled calls of the backend `flowreg`; what Python adds
between them is "the rest".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from bench.setup import FLOW
from bench.tables import markdown
from scipy.ndimage import gaussian_filter

from pyflowreg.core.backend_registry import get_backend
from pyflowreg.core.backends import flowreg
from pyflowreg.core.parameters import FlowParameters

STEPS = {
    "_enter_level": "resize and warp",
    "motion_tensor_into": "motion tensor",
    "solve_into": "solver",
    "_leave_level": "medians",
}
SHIFT = (2, -1)


class Clock:
    """Wraps the steps of the backend and keeps the shortest time of each at each level."""

    def __init__(self) -> None:
        self.seconds: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(lambda: 1e9))
        self._level = 0
        for name in STEPS:
            setattr(flowreg, name, self._timed(name, getattr(flowreg, name)))

    def _timed(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> None:
            if name == "_enter_level":
                self._level = arguments[1].shape[1]  # height of the fixed frame at this level
            start = time.perf_counter()
            step(*arguments)
            taken = time.perf_counter() - start
            times = self.seconds[self._level]
            times[name] = min(times[name], taken)

        return timed


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
    total = sum(sums.values())
    return markdown(["level height (px)", *(f"{title} (ms)" for title in STEPS.values())], rows) + (
        f"\nSum {1e3 * total:.1f} ms; the shortest whole frame took {1e3 * whole:.1f} ms.\n"
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
    clock = Clock()
    plan.displacements(moving[None])  # compiles
    clock.seconds.clear()
    whole = 1e9
    for _ in range(given.repeats):
        start = time.perf_counter()
        plan.displacements(moving[None])
        whole = min(whole, time.perf_counter() - start)
    sys.stdout.write(table(clock.seconds, whole))


if __name__ == "__main__":
    main()
