"""How the solver goes through a level on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyflowreg.core.cuda.grid import SOLVER_THREADS
from pyflowreg.core.cuda.skew import Skew

FUSED = 10
"""Most sweeps under way at the same time."""

FEWEST = 2
"""With fewer that fit into shared memory, memory of the device is used."""

SYSTEM_PLANES = {False: 5, True: 9}
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
    ring : int
        Numbers of it per frame in memory of the device.
    kept : int
        Planes of linear systems that are kept, because a later pass needs them again.
    """

    fused: int
    threads: int
    shared: int
    ring: int
    kept: int

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
        planes = SYSTEM_PLANES[robust]
        most = shared_bytes // (skew.length * (planes + 2) * kind.itemsize)
        fused = min(together, FUSED)
        kept = robust or together > fused
        fitting = (most - 2) // 2
        if kept and fitting >= FEWEST:
            # There are several passes between two updates anyway: as many sweeps as fit.
            fused = min(fused, fitting)
        slots = 2 * fused + 2
        numbers = slots * (planes + 2) * skew.length
        threads = min((fused + 1) * skew.length, SOLVER_THREADS)
        shared = numbers * kind.itemsize if slots <= most else 0
        return cls(fused, threads, shared, 0 if shared else numbers, planes if kept else 0)
