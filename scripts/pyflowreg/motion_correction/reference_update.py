"""A new reference from the frames just corrected (`update_reference`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.warping import compute_batch_valid_masks, warp_frame
from pyflowreg.motion_correction.statistics import RunningMean

LAST_REFERENCE_FRAMES = 101


class ReferenceUpdate:
    """Mean of the last frames of a batch after correction (`update_reference`).

    Outside samples take the mean of the whole batch, which is known only at its end; so valid
    samples are summed and the others counted.

    Parameters
    ----------
    shape : tuple of int
        (H, W, C) of the frames.
    length : int
        Frames of the batch.
    interpolation : str
        How frames are warped.
    """

    def __init__(self, shape: tuple[int, ...], length: int, interpolation: str) -> None:
        self._interpolation = interpolation
        self._from = max(0, length - min(LAST_REFERENCE_FRAMES, length))
        self._mean = RunningMean()
        self._sum = np.zeros(shape)
        self._outside = np.zeros(shape[:2], dtype=np.int64)
        self._count = 0

    def state(self) -> dict[str, NDArray[Any]]:
        """Copy what is needed to go on later."""
        return {
            **self._mean.state("update"),
            "update_last": self._sum.copy(),
            "update_outside": self._outside.copy(),
            "update_last_count": np.array(self._count),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` returned."""
        self._mean = RunningMean.from_state("update", state)
        self._sum = np.array(state["update_last"])
        self._outside = np.array(state["update_outside"])
        self._count = int(state["update_last_count"])

    def add(self, start: int, smooth: NDArray[Any], w: NDArray[Any]) -> None:
        """Take in preprocessed frames and their displacements."""
        zero = np.zeros(self._sum.shape)
        valid = compute_batch_valid_masks(w) > 0
        for position, frame in enumerate(smooth):
            self._mean.add(frame)
            if start + position >= self._from:
                self._sum += warp_frame(frame, w[position], zero, self._interpolation)
                self._outside += ~valid[position]
                self._count += 1

    def reference(self) -> NDArray[np.float64]:
        """The candidate reference, (H, W, C)."""
        total = self._sum + self._outside[..., None] * self._mean.mean()
        return np.asarray(total / self._count, dtype=np.float64)
