"""Whole-pixel shifts by normalised cross-correlation (`cc_initialization`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.feature import match_template


def integer_shift(fixed: NDArray[Any], moving: NDArray[Any]) -> NDArray[np.float64]:
    """Find the shift s with fixed(x) = moving(x + s), averaged over channels and rounded.

    Parameters
    ----------
    fixed, moving : ndarray
        Frames, shape (H, W, C).

    Returns
    -------
    ndarray
        float64 (2,): shift in x and y, whole pixels, at most half the frame; a channel of
        constant intensity in either frame counts as not shifted.
    """
    height, width, channels = fixed.shape
    reach_y, reach_x = height // 2, width // 2
    shifts = []
    for channel in range(channels):
        if not all(np.ptp(frame[..., channel]) > 0 for frame in (fixed, moving)):
            # Only the zeros around the frame would correlate.
            shifts.append((0, 0))
            continue
        padded = np.pad(
            np.asarray(moving[..., channel], np.float64),
            ((reach_y, reach_y), (reach_x, reach_x)),
        )
        score = np.abs(match_template(padded, np.asarray(fixed[..., channel], np.float64)))
        y, x = np.unravel_index(int(np.argmax(score)), score.shape)
        shifts.append((x - reach_x, y - reach_y))
    return np.asarray(np.round(np.mean(shifts, axis=0)), dtype=np.float64)


def shift_field(shift: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Constant displacement field (H, W, 2) in pixels."""
    return np.broadcast_to(shift, (height, width, 2)).copy()
