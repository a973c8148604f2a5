"""The two numerics profiles, and the only way from floating point to integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class Numerics:
    """The switches in which the profiles differ; everything else is shared code.

    Parameters
    ----------
    swapped_spacing : bool
        Exchange the row and column grid spacing of non-square pyramid levels.
    warp_coarsest : bool
        Warp the moving frame by the initial field at the coarsest level too.
    first_channel_starts : bool
        Until the first update of the robust weights, let only channel 0 drive the data term.
    batch_range : bool
        Scale every batch by its own intensity range, twice, instead of one range per recording.
    last_channel_reference : bool
        Standardise an external reference on its last channel only.
    first_frame_range : bool
        With `separate` normalisation, scale the reference by the range of the first frame only.
    stage2_rigid_start : bool
        Between recordings, use the rigid shift only as the initial field, with the default
        parameters of `get_displacement`, instead of warping by it first.
    drop_short_bin : bool
        Treat an incomplete last bin as the original does: darker, or dropped.
    shift_counts_twice : bool
        With `cc_initialization`, start later frames from the whole displacement of earlier ones
        although they are shifted first.
    plain_correlation : bool
        With `cc_initialization`, shift frames to the peak of their correlation with zeros around
        them, which large structures and vignetting mislead, instead of that between recordings.
    centred_reference : bool
        Move a reference made from frames to the mean position of the whole recording: the mean
        displacement is then about zero, and the fewest pixels leave the frame.
    double_coarse_levels : bool
        With `precision: single`, compute every level of a grid spacing above 4 px in float64, not
        only the small ones: with the original's parameters rounding grows on all of them.
    data_normaliser : float
        Squared image gradient (per px, images in [0, 1]) below which the normalised data term
        fades out. The original's 1e-6 lets photon noise weigh as much as structure.
    noise_normaliser : float
        How much of the squared gradient that noise adds to a moving frame (`pyflowreg.core.noise`)
        is added to `data_normaliser`: the displacement then does not follow what is weaker than
        the noise.
    smoothness_epsilon : float
        Squared displacement gradient below which a sub-quadratic smoothness penalty is quadratic.
        With the original's 1e-5 the weights become so stiff that the sweeps do not converge.
    flow_median_spacing : float
        Levels with a grid spacing up to this (px) median filter the displacement too, not only
        its increment (Sun et al. 2010): the 5 x 5 window then spans at most 8 px.
    """

    swapped_spacing: bool
    warp_coarsest: bool
    first_channel_starts: bool
    batch_range: bool
    last_channel_reference: bool
    first_frame_range: bool
    stage2_rigid_start: bool
    drop_short_bin: bool
    shift_counts_twice: bool
    plain_correlation: bool
    centred_reference: bool
    double_coarse_levels: bool
    data_normaliser: float
    noise_normaliser: float
    smoothness_epsilon: float
    flow_median_spacing: float


PROFILES = {
    "standard": Numerics(
        swapped_spacing=False,
        warp_coarsest=True,
        first_channel_starts=False,
        batch_range=False,
        last_channel_reference=False,
        first_frame_range=False,
        stage2_rigid_start=False,
        drop_short_bin=False,
        shift_counts_twice=False,
        plain_correlation=False,
        centred_reference=True,
        double_coarse_levels=False,
        data_normaliser=1e-4,
        noise_normaliser=50.0,
        smoothness_epsilon=3e-2,
        flow_median_spacing=1.6,
    ),
    "matlab": Numerics(
        swapped_spacing=True,
        warp_coarsest=False,
        first_channel_starts=True,
        batch_range=True,
        last_channel_reference=True,
        first_frame_range=True,
        stage2_rigid_start=True,
        drop_short_bin=True,
        shift_counts_twice=True,
        plain_correlation=True,
        centred_reference=False,
        double_coarse_levels=True,
        data_normaliser=1e-6,
        noise_normaliser=0.0,
        smoothness_epsilon=1e-5,
        flow_median_spacing=0.0,
    ),
}
"""`standard` is the default; `matlab` reproduces the original toolbox."""

MIN_SIDE = 8
"""Smallest height and width of a frame (pixels): the cubic kernel with its border rule and the
5 x 5 median need this much at every level."""

LARGEST = 1e15
"""Largest intensity accepted: squares of products of larger ones overflow in single precision."""

PRECISIONS: dict[str, type[np.floating[Any]]] = {"single": np.float32, "double": np.float64}


def to_dtype(x: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Convert to `dtype`; integers are rounded half away from zero and saturate.

    Parameters
    ----------
    x : ndarray
        Floating point or integer values, any shape.
    dtype : dtype-like
        Target type.

    Returns
    -------
    ndarray
        `x` in `dtype`; the same array if it has that type already.

    Raises
    ------
    ValueError
        If a NaN would have to become an integer.
    """
    target = np.dtype(dtype)
    if x.dtype == target or not np.issubdtype(target, np.integer):
        return x.astype(target, copy=False)
    info = np.iinfo(target)
    if np.issubdtype(x.dtype, np.integer):
        return np.asarray(np.clip(x, info.min, info.max), dtype=target)
    if np.isnan(x).any():
        raise ValueError(f"NaN cannot be stored as {target}.")
    # Clipped first, because infinity minus infinity is no number. float64 holds every integer of
    # up to 32 bits exactly, so the bounds are exact. x + 0.5 is not used because it rounds
    # 0.49999999999999994 up.
    value = np.clip(np.asarray(x, dtype=np.float64), info.min, info.max)
    whole = np.trunc(value)
    whole += np.copysign(np.abs(value - whole) >= 0.5, value)
    return np.asarray(whole, dtype=target)
