"""Per-frame numbers that describe a displacement field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.frame_warp import field_statistics
from pyflowreg.motion_correction.frame_kernels import add_frames

STATISTICS = ("mean_disp", "max_disp", "mean_div", "mean_translation")


def frame_statistics(w: NDArray[Any]) -> tuple[float, float, float, float]:
    """Summarise one field.

    Parameters
    ----------
    w : ndarray
        Displacement in pixels, shape (H, W, 2).

    Returns
    -------
    mean_disp, max_disp : float
        Mean and maximum length of the displacement (px).
    mean_div : float
        Mean divergence, un-normalised Sobel (8 times the derivative per px), as in the toolbox.
    mean_translation : float
        Length of the mean displacement (px).
    """
    single = w.dtype == np.float32
    return field_statistics(np.ascontiguousarray(w, dtype=np.float32 if single else np.float64))


class RunningMean:
    """Mean of arrays added one by one, in float64; the same however they are chunked."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | None = None
        self._count = 0

    def add(self, array: NDArray[Any]) -> None:
        """Take in one array."""
        self.add_all(array[np.newaxis])

    def add_all(self, arrays: NDArray[Any]) -> None:
        """Take in arrays (n, ...) in their order; none is allowed."""
        if len(arrays) == 0:
            return
        if self._sum is None:
            self._sum = np.zeros(arrays.shape[1:])
        flat = np.ascontiguousarray(arrays).reshape(len(arrays), -1)
        add_frames(flat, self._sum.reshape(-1))
        self._count += len(arrays)

    def state(self, name: str) -> dict[str, NDArray[Any]]:
        """Copy what is needed to go on later, as arrays whose names begin with `name`."""
        count = {f"{name}_count": np.array(self._count)}
        return count if self._sum is None else {**count, f"{name}_sum": self._sum.copy()}

    @classmethod
    def from_state(cls, name: str, state: Mapping[str, NDArray[Any]]) -> Self:
        """Go on with what `state` returned."""
        result = cls()
        result._count = int(state[f"{name}_count"])
        if result._count:
            result._sum = np.array(state[f"{name}_sum"])
        return result

    def mean(self) -> NDArray[np.float64]:
        """The mean so far."""
        if self._sum is None:
            raise ValueError("no array was added.")
        return self._sum / self._count


class ChannelMoments:
    """Mean and standard deviation (N - 1) per channel over frames added one by one."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._mean = np.zeros(channels)
        self._m2 = np.zeros(channels)

    def add(self, frame: NDArray[Any]) -> None:
        """Take in one frame (H, W, C)."""
        values = frame.reshape(-1, frame.shape[-1]).astype(np.float64)
        count = len(values)
        mean = values.mean(axis=0)
        m2 = ((values - mean) ** 2).sum(axis=0)
        total = self._count + count
        delta = mean - self._mean
        self._m2 += m2 + delta**2 * self._count * count / total
        self._mean += delta * count / total
        self._count = total

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean per channel, shape (C,)."""
        return self._mean

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation per channel, shape (C,)."""
        return np.sqrt(self._m2 / max(self._count - 1, 1))
