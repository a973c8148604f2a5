"""Shift of one image as a whole against another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.ndimage import gaussian_filter

Image = NDArray[np.float64]

RIGID_BAND = (1.0, 8.0)
"""Standard deviations (px) of the band-pass before the rigid shift is looked for."""


def integer_shift(fixed: NDArray[Any], moving: NDArray[Any]) -> NDArray[np.float64]:
    """Find the shift s with fixed(x) = moving(x + s) as the original does.

    It is the peak of the magnitude of the normalised cross-correlation of frames surrounded by
    zeros, averaged over channels and rounded. Large structures and vignetting mislead it.

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
    from skimage.feature import match_template  # slow to import, and seldom needed

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


def rigid_shift(fixed: Image, moving: Image, upsample: int) -> NDArray[np.float64]:
    """Find the shift between two images by cross-correlation, up to half the image.

    The spectra are flattened by a band-pass instead of the division of phase correlation proper,
    which gives every frequency the same weight and lets noise decide in small or dim averages.
    Correlations are not circular, so that a large shift has no ambiguous sign, and divided by the
    square root of the overlap, so that peaks of large and small shifts are equally significant.
    The part of a pixel is found by matrix-multiplication upsampling (Guizar-Sicairos, Thurman and
    Fienup, Optics Letters 33(2), 2008).

    Parameters
    ----------
    fixed, moving : ndarray
        Image, shape (H, W).
    upsample : int
        The shift is found to 1 / upsample pixel.

    Returns
    -------
    ndarray
        float64 (2,): shift in x and y, pixels, as a constant backward map,
        fixed(x) = moving(x + shift). Zero if one image is constant.
    """
    from skimage.registration import phase_cross_correlation  # slow to import

    fine, coarse = RIGID_BAND
    images = [
        gaussian_filter(image, fine) - gaussian_filter(image, coarse) for image in (fixed, moving)
    ]
    if not all(np.ptp(image) > 0 for image in images):
        return np.zeros(2)
    images = [image - image.mean() for image in images]
    overlap = np.multiply.outer(*(_triangle(side) for side in fixed.shape))
    score = _correlate(images[1], images[0]) / np.sqrt(overlap)
    reach = [side // 2 for side in fixed.shape]
    middle = [side - 1 for side in fixed.shape]
    near = score[tuple(slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True))]
    peak = np.unravel_index(int(np.argmax(near)), near.shape)
    whole = np.array([int(p) - r for p, r in zip(peak, reach, strict=True)])
    a, b = (_overlapping(image, sign * whole) for image, sign in zip(images, (-1, 1), strict=True))
    window = np.outer(*(np.hanning(side + 2)[1:-1] for side in a.shape))
    part, _, _ = phase_cross_correlation(
        a * window, b * window, upsample_factor=upsample, normalization=None
    )
    if np.abs(part).max() > 1.5:  # the overlap alone is no evidence against the whole images
        part = np.zeros(2)
    return np.asarray((whole - part)[::-1], dtype=np.float64)


def _correlate(a: Image, b: Image) -> Image:
    """Full cross-correlation of two images, as scipy.signal.correlate computes it.

    Importing scipy.signal takes longer than everything else in a short job.
    """
    shape = [p + q - 1 for p, q in zip(a.shape, b.shape, strict=True)]
    fast = [next_fast_len(side, real=True) for side in shape]
    full = irfftn(rfftn(a, fast) * rfftn(b[::-1, ::-1], fast), fast)
    return np.asarray(full[: shape[0], : shape[1]])


def _triangle(side: int) -> NDArray[np.float64]:
    """Overlap of an interval of length `side` with itself at every shift."""
    return side - np.abs(np.arange(1 - side, side), dtype=np.float64)


def _overlapping(image: Image, shift: NDArray[np.int64]) -> Image:
    """Part of an image that remains when it is moved by -shift (y, x)."""
    y, x = (slice(max(s, 0), side + min(s, 0)) for s, side in zip(shift, image.shape, strict=True))
    return image[y, x]
