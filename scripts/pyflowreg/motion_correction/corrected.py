"""Corrected frames, and frames as a function of the user changes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.frame_warp import WarpedFrames
from pyflowreg.errors import ConfigError


@dataclass(frozen=True)
class CorrectedChunk:
    """Consecutive corrected frames.

    Parameters
    ----------
    start : int
        Number of the first frame, from 0.
    frames : ndarray
        Corrected frames, (n, H, W, C).
    w : ndarray
        Displacements in pixels, backward map, (n, H, W, 2).
    valid : ndarray
        255 where a sample lay inside its frame, uint8, (n, H, W).
    statistics : ndarray
        mean_disp, max_disp, mean_div, mean_translation; float64, (n, 4).
    """

    start: int
    frames: NDArray[Any]
    w: NDArray[Any]
    valid: NDArray[np.uint8]
    statistics: NDArray[np.float64]


def described(start: int, w: NDArray[Any], warped: WarpedFrames) -> CorrectedChunk:
    """Put displacements and the frames warped by them together."""
    return CorrectedChunk(start, warped.frames, w, warped.valid, warped.statistics)


def by_user(function: Callable[..., Any], raw: NDArray[Any]) -> NDArray[Any]:
    """Raw frames after a function applied to every plane."""
    planes = [[np.asarray(function(plane)) for plane in np.moveaxis(f, -1, 0)] for f in raw]
    for plane in (plane for frame in planes for plane in frame):
        if plane.shape != raw.shape[1:3] or plane.dtype.kind not in "fiub":
            raise ConfigError(
                [
                    f"preproc_funct returned an array of shape {plane.shape} and type "
                    f"{plane.dtype}; it must return numbers of shape {raw.shape[1:3]}, as "
                    "it is given."
                ]
            )
        if not np.isfinite(plane).all():
            raise ConfigError(["preproc_funct returned NaN or infinite values; replace them."])
    return np.moveaxis(np.asarray(planes), 1, -1)
