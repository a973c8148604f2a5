"""How the solver goes through a level on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyflowreg.core.cuda.grid import SOLVER_THREADS
from pyflowreg.core.cuda.skew import Skew

FUSED = 10
"""Most sweeps under way at the same time."""

PLANES = {False: 5, True: 9}
"""Planes of the linear system without and with a robust smoothness term."""


@dataclass(frozen=True)
class Pass:
    """How the solver goes through a level.

    Parameters
    ----------
    fused : int
        Sweeps under way at the same time, each two anti-diagonals behind the one before.
    threads : int
        Threads of a block; every block solves a frame.
    shared : int
        Bytes of shared memory that hold what is worked on; 0: memory of the device does.
    kept : bool
        Linear systems of the whole level are kept, because a later pass needs them again.
    numbers : int
        Numbers per frame in memory of the device.
    """

    fused: int
    threads: int
    shared: int
    kept: bool
    numbers: int

    @classmethod
    def choose(
        cls,
        skew: Skew,
        kind: np.dtype[Any],
        *,
        robust: bool,
        update_lag: int,
        iterations: int,
        shared_bytes: int,
    ) -> Pass:
        """Choose for a level and a device.

        Parameters
        ----------
        skew : Skew
            Layout of the level.
        kind : dtype
            Type of the computation.
        robust : bool
            Whether `a_smooth` is below 1: the last sweep before an update then goes alone.
        update_lag, iterations : int
            Sweeps between two updates of the robust weights, and in all.
        shared_bytes : int
            Largest shared memory of a block.
        """
        together = min(max(update_lag - 1, 1) if robust else update_lag, iterations)
        fused = min(together, FUSED)
        kept = robust or together > fused
        slots = 2 * fused + 2
        systems = skew.diagonals if kept else slots
        numbers = (slots * 2 + systems * PLANES[robust]) * skew.length
        threads = min((fused + 1) * skew.length, SOLVER_THREADS)
        shared = numbers * kind.itemsize
        if kept or shared > shared_bytes:
            return cls(fused, threads, 0, kept, numbers)
        return cls(fused, threads, shared, kept, 0)
