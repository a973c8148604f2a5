"""Memory in which the displacement of one frame is computed.

It is laid out once for the levels of a pyramid and used for one frame after the other: nothing is
allocated per frame, and the levels share the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.level_solver import LevelScratch, scratch_sizes
from pyflowreg.core.median import median_scratch_size
from pyflowreg.core.motion_tensor import COMPONENTS, tensor_scratch_size
from pyflowreg.core.noise import noise_scratch_size
from pyflowreg.core.pyramid import Level, resize_scratch_size, resize_tables

_ALIGNMENT = 64

_STEP = (
    "target", "warped", "padded", "tensor", "increment", "filtered", "scratch", "median_scratch",
)  # fmt: skip


class _Memory:
    """Named pieces of one block of memory, each as large as the largest array asked for.

    It is one block, so that the system can give it large pages.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._pieces: dict[str, NDArray[np.uint8]] = {}

    def reserve(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        size = math.prod(shape) * dtype.itemsize
        self._sizes[name] = max(size, self._sizes.get(name, 0))

    def allocate(self) -> None:
        rounded = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in self._sizes.values()]
        block = np.empty(sum(rounded) + _ALIGNMENT, np.uint8)
        first = -block.ctypes.data % _ALIGNMENT
        for name, size in zip(self._sizes, rounded, strict=True):
            self._pieces[name] = block[first : first + size]
            first += size

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        size = math.prod(shape) * dtype.itemsize
        return self._pieces[name][:size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class LevelArrays:
    """Arrays of one level; all but `field` and the taps are used again by the next.

    Parameters
    ----------
    field : ndarray
        Displacement u, v in full-resolution pixels, (2, h, w).
    scratch : ndarray
        For resizing to this level, noise and tensors; flat.
    taps : tuple of ndarray
        How to resize a frame to this level.
    coarse_taps : tuple of ndarray
        How to resize the field of the level before to this one.
    step : tuple of ndarray
        What `refine_level` works in: field; moving frame before and after warping, (C, h, w); field
        with a replicated border, (2, h + 2, w + 2); motion tensors, (C, 6, h, w); what is added to
        the field, (2, h, w), and one filtered plane of it, (h, w); scratch, also for medians.
    solver : tuple of ndarray
        Memory of the solver, see `LevelScratch.arrays`.
    """

    field: NDArray[Any]
    scratch: NDArray[Any]
    taps: tuple[NDArray[Any], ...]
    coarse_taps: tuple[NDArray[Any], ...]
    step: tuple[NDArray[Any], ...]
    solver: tuple[NDArray[Any] | None, ...]


class Workspace:
    """Memory for one frame at a time.

    Parameters
    ----------
    levels : tuple of (Level, dtype)
        Levels from coarsest to finest, and the types they are computed in.
    shape : tuple of int
        Channels, height and width of the frames.
    dtype : dtype
        Type of the frames and of the result.
    data_term : str
        Constancy assumption, see `motion_tensor`.
    robust : bool
        Whether `a_smooth` is below 1.
    update_lag : int
        Sweeps between two updates of the robust weights.
    """

    def __init__(
        self,
        levels: tuple[tuple[Level, np.dtype[Any]], ...],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        data_term: str,
        robust: bool,
        update_lag: int,
    ) -> None:
        channels, height, width = shape
        memory = _Memory()
        plans = []
        previous = (2, height, width)
        for number, (level, kind) in enumerate(levels):
            size = (level.height, level.width)
            scratch = max(
                resize_scratch_size(shape, size),
                resize_scratch_size(previous, size),
                tensor_scratch_size(size, data_term),
                noise_scratch_size(size),
            )
            shapes: dict[str, tuple[int, ...]] = {
                # The field of the level before is still needed.
                f"field{number % 2}": (2, *size),
                "target": (channels, *size),
                "warped": (channels, *size),
                "tensor": (channels, COMPONENTS, *size),
                "padded": (2, level.height + 2, level.width + 2),
                "scratch": (scratch,),
                "increment": (2, *size),
                "filtered": size,
                "median_scratch": (median_scratch_size(size),),
            }
            sizes = scratch_sizes(channels, *size, robust, update_lag, kind)
            shapes |= {name: (count,) for name, count in sizes.items()}
            needs = {name: (needed, kind) for name, needed in shapes.items()}
            for name, (needed, type_) in needs.items():
                memory.reserve(name, needed, type_)
            taps = resize_tables(shape, size, kind), resize_tables(previous, size, kind)
            plans.append((size, needs, tuple(sizes), taps))
            previous = (2, *size)
        last = resize_scratch_size(previous, shape)
        whole = (2, height, width)
        for name, needed in (("full", shape), ("whole", whole), ("last", (last,))):
            memory.reserve(name, needed, dtype)
        memory.allocate()
        self.full = memory.array("full", shape, dtype)
        """The moving frame, (C, H, W)."""
        self.whole = memory.array("whole", whole, dtype)
        """The resulting displacement, (2, H, W)."""
        self.last = memory.array("last", (last,), dtype)
        """Scratch for the last resizing of the displacement."""
        self.levels = []
        for number, (size, needs, solver_names, taps) in enumerate(plans):
            arrays = {name: memory.array(name, *needed) for name, needed in needs.items()}
            solver = LevelScratch(**{name: arrays[name] for name in solver_names})
            field, *others = (arrays[name] for name in (f"field{number % 2}", *_STEP))
            self.levels.append(
                LevelArrays(field, arrays["scratch"], *taps, (field, *others), solver.arrays(*size))
            )


_lock = Lock()
_idle: dict[tuple[Any, ...], list[Workspace]] = {}


@contextmanager
def borrowed_workspace(*layout: Any) -> Iterator[Workspace]:
    """Lend a workspace with the arguments of `Workspace` to the calling thread.

    As many come into being as threads work at the same time. They are kept for the next frames of
    the same layout, of this plan or another, because giving fresh memory to a process takes as long
    as some of the computing; those of another layout are let go.
    """
    with _lock:
        for other in [key for key in _idle if key != layout]:
            del _idle[other]
        kept = _idle.setdefault(layout, [])
        workspace = kept.pop() if kept else None
    if workspace is None:
        workspace = Workspace(*layout)
    try:
        yield workspace
    finally:
        with _lock:
            if layout in _idle:
                _idle[layout].append(workspace)
