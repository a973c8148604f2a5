"""Where a recording rests: its mean position, to which the reference is moved."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_registry import Backend, FlowPlan
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.threads import overlapped
from pyflowreg.core.warping import warp_frame
from pyflowreg.motion_correction.frames import BinnedFrames, FrameRange
from pyflowreg.motion_correction.preprocessing import (
    Chunk,
    Preprocessor,
    gaussian,
    robust_scale,
)
from pyflowreg.motion_correction.statistics import RunningMean

logger = logging.getLogger(__name__)

CENTRING_FRAMES = (8, 40)
CENTRING_SPACING = 3.5
"""Frames with which the mean position of a recording is found, roughly and then well, and the grid
spacing (px) down to which their displacement is computed."""

INVERSE_STEPS = 3


def centred_reference(
    reference: NDArray[np.float64],
    frames: BinnedFrames,
    backend: Backend,
    parameters: FlowParameters,
    sigma: NDArray[np.float64],
    *,
    joint: bool,
    chunk: int,
    threads: int,
) -> NDArray[np.float64]:
    """Move a reference to the mean position of its recording.

    The displacement of frames spread evenly over the recording is found at coarse resolution, of a
    few first and then of more; its mean is smooth, because the noise of single frames averages out.

    Parameters
    ----------
    reference : ndarray
        float64, shape (H, W, C).
    frames : BinnedFrames
        The recording.
    backend : Backend
        Flow implementation.
    parameters : FlowParameters
        As for the recording.
    sigma : ndarray
        Smoothing (y, x, t) per channel, shape (C, 3).
    joint : bool
        One intensity range for all channels.
    chunk, threads : int
        Frames read and registered at a time; neither changes the result.

    Returns
    -------
    ndarray
        float64, shape (H, W, C).
    """
    spatial = sigma * (1, 1, 0)  # the frames chosen are no neighbours in time
    coarse = math.ceil(math.log(CENTRING_SPACING) / -math.log(parameters.eta))
    coarser = replace(parameters, min_level=max(parameters.min_level, coarse))
    moved, offset = reference, np.zeros((*reference.shape[:2], 2))
    for count in CENTRING_FRAMES:
        chosen = _spread(frames, count)
        smooth = gaussian(moved[None], spatial)[0]
        scale = robust_scale(smooth, joint)
        plan = backend.prepare(scale(smooth, np.float64), coarser)
        mean = RunningMean()
        preprocess = Preprocessor(spatial, parameters.dtype, joint, chunk, scale, threads)

        def displaced(chunk: Chunk, plan: FlowPlan = plan) -> tuple[int, NDArray[Any]]:
            start, _, block = chunk
            return start, plan.displacements(block, threads=threads)

        for start, fields in overlapped(displaced, preprocess.chunks(chosen), threads):
            mean.add_all(chosen.checked_fields(start, fields))
        step = _inverse(mean.mean())
        # Composed, so that the reference is interpolated once.
        offset = _inside(step + warp_frame(offset, step, offset))
        moved = warp_frame(reference, offset, reference)
    length = float(np.hypot(offset[..., 0], offset[..., 1]).mean())
    logger.info("The reference is moved by %.2f px to the recording's mean position.", length)
    return moved


def _spread(frames: BinnedFrames, count: int) -> FrameRange:
    """Up to `count` frames spread evenly over a recording."""
    last = frames.shape[0] - 1
    indices = np.linspace(0, last, min(count, last + 1)).round().astype(int)
    return FrameRange.selection(frames, indices.tolist())


def _inside(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shorten a displacement (H, W, 2) where it leads out of the frame."""
    height, width = d.shape[:2]
    x, y = np.arange(width), np.arange(height)[:, None]
    inside = np.empty_like(d)
    np.clip(d[..., 0], -x, width - 1 - x, out=inside[..., 0])
    np.clip(d[..., 1], -y, height - 1 - y, out=inside[..., 1])
    return inside


def _inverse(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Displacement d with d(x) = -w(x + d(x)), kept inside the frame; w is smooth."""
    d = np.zeros_like(w)
    for _ in range(INVERSE_STEPS):
        d = _inside(-warp_frame(w, d, w))
    return d
