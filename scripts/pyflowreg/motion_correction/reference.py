"""The reference a recording is registered to: where it comes from and how it is scaled."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_registry import Backend
from pyflowreg.core.frame_warp import warp_frames
from pyflowreg.core.interruption import uninterrupted
from pyflowreg.core.numerics import LARGEST, Numerics
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.threads import overlapped
from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io.image import read_image
from pyflowreg.motion_correction.centring import centred_reference
from pyflowreg.motion_correction.frames import BinnedFrames, FrameRange
from pyflowreg.motion_correction.preprocessing import (
    Chunk,
    Preprocessor,
    RangeFinder,
    Scale,
    gaussian,
    robust_scale,
)
from pyflowreg.motion_correction.statistics import ChannelMoments, RunningMean

logger = logging.getLogger(__name__)

EXTRA_SIGMA = np.array([1.0, 1.0, 0.5])
"""Added to the smoothing (y, x, t) while the reference frames are registered to each other."""

EXTRA_ALPHA = 2.0
"""Added to both smoothness weights while the reference frames are registered to each other."""


@dataclass(frozen=True)
class Reference:
    """The reference of a recording.

    Parameters
    ----------
    raw : ndarray
        float64, shape (H, W, C), in the recording's intensities.
    external : bool
        It was given from outside, so its intensities are adapted to the recording.
    """

    raw: NDArray[np.float64]
    external: bool


def as_reference(image: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Check an image given as reference and bring it to (H, W, C), float64.

    Raises
    ------
    ConfigError
        If it is not made of real numbers, its shape is not that of the recording's frames, or a
        value is not finite or huge.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "fiub":
        raise ConfigError(
            [f"the reference {name} has dtype {array.dtype}; give an image of real numbers."]
        )
    array = array.astype(np.float64)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape != shape:
        raise ConfigError(
            [
                f"the reference {name} has shape {array.shape}, the recording's frames {shape}; "
                "give one of the same height, width and channels."
            ]
        )
    if not np.isfinite(array).all():
        raise ConfigError([f"the reference {name} contains NaN or infinite values; replace them."])
    if np.abs(array).max() > LARGEST:
        raise ConfigError(
            [f"the reference {name} contains values beyond +-{LARGEST:g}; replace them."]
        )
    return array


def read_reference_image(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Read a reference image (.npy, .tif, .png or another common format) as (H, W, C).

    Raises
    ------
    ConfigError
        If it cannot be read or does not fit the recording.
    """
    try:
        image = read_image(path, math.prod(shape))
    except FileNotFoundError:
        raise ConfigError(
            [f"the reference image {path} does not exist; check reference_frames."]
        ) from None
    except (InputError, OSError) as error:
        raise ConfigError([f"the reference image {str(error).rstrip('.')}."]) from error
    if image.ndim == 3 and image.shape != shape and np.moveaxis(image, 0, -1).shape == shape:
        image = np.moveaxis(image, 0, -1)
    return as_reference(image, shape, str(path))


class ReferenceProgress:
    """Frames registered to make a reference, and their mean.

    Parameters
    ----------
    state : mapping, optional
        What `state` returned in a run that was interrupted.
    on_frames : callable, optional
        Called after frames were taken in.
    """

    def __init__(
        self,
        state: Mapping[str, NDArray[Any]] | None = None,
        on_frames: Callable[[ReferenceProgress], None] | None = None,
    ) -> None:
        self.registered = RunningMean()
        self.done = 0
        if state is not None:
            self.registered = RunningMean.from_state("registered", state)
            self.done = int(state["registered_count"])
        self._on_frames = on_frames

    def add(self, frames: NDArray[np.float64]) -> None:
        """Take in the next registered frames, (n, H, W, C)."""
        uninterrupted(partial(self._count, frames))
        if self._on_frames is not None:
            self._on_frames(self)

    def _count(self, frames: NDArray[np.float64]) -> None:
        self.registered.add_all(frames)
        self.done += len(frames)

    def state(self) -> dict[str, NDArray[Any]]:
        """Copy what is needed to go on later."""
        return self.registered.state("registered")


def register_reference_frames(
    frames: FrameRange,
    backend: Backend,
    parameters: FlowParameters,
    sigma: NDArray[np.float64],
    *,
    joint: bool,
    chunk: int,
    threads: int,
    progress: ReferenceProgress | None = None,
) -> NDArray[np.float64]:
    """Mean of frames after registering them to their own mean.

    Parameters
    ----------
    frames : FrameRange
        The frames.
    backend : Backend
        Flow implementation.
    parameters : FlowParameters
        As for the recording, with more smoothness.
    sigma : ndarray
        Smoothing (y, x, t) per channel, shape (C, 3); raised by (1, 1, 0.5) here.
    joint : bool
        One intensity range for all channels.
    chunk, threads : int
        Frames read and registered at a time; neither changes the result.
    progress : ReferenceProgress, optional
        Frames registered before; it takes in the others.

    Returns
    -------
    ndarray
        float64, shape (H, W, C), raw intensities.
    """
    progress = progress or ReferenceProgress()
    channels = len(sigma)
    found = RangeFinder(channels, joint)
    smooth_mean, raw_mean = RunningMean(), RunningMean()
    identity = Scale(np.zeros(channels), np.ones(channels))
    smoother = Preprocessor(sigma + EXTRA_SIGMA, np.float64, joint, chunk, identity, threads)
    for _, raw, smooth in smoother.chunks(frames):
        found.add(smooth)
        raw_mean.add_all(raw)
        smooth_mean.add_all(smooth)
    scale = found.scale(clip=True)
    plan = backend.prepare(scale(smooth_mean.mean(), np.float64), parameters)
    outside = raw_mean.mean()

    def corrected(chunk: Chunk) -> NDArray[np.float64]:
        start, raw, smooth = chunk
        fields = plan.displacements(scale(smooth, parameters.dtype), threads=threads)
        frames.checked_fields(start, fields)
        return warp_frames(raw, fields, outside, np.float64, threads).frames

    for warped in overlapped(corrected, smoother.chunks(frames, progress.done), threads):
        progress.add(warped)
    return progress.registered.mean()


def standardise(
    reference: Reference,
    first_batch: FrameRange,
    sigma: NDArray[np.float64],
    chunk: int,
    switches: Numerics,
) -> NDArray[np.float64]:
    """Give an external reference the mean and spread of the first batch.

    Parameters
    ----------
    reference : Reference
        The reference as given.
    first_batch : FrameRange
        First frames of the recording.
    sigma : ndarray
        Smoothing (y, x, t) per channel, shape (C, 3).
    chunk : int
        Frames read at a time.
    switches : Numerics
        `last_channel_reference` leaves all channels but the last as they are.

    Returns
    -------
    ndarray
        float64, shape (H, W, C).
    """
    channels = len(sigma)
    target, own = ChannelMoments(channels), ChannelMoments(channels)
    for frame in smoothed_raw(first_batch, sigma, chunk):
        target.add(frame)
    own.add(gaussian(reference.raw[None], sigma)[0])
    adapted = (reference.raw - own.mean) / np.where(own.std > 0, own.std, 1) * target.std
    adapted += target.mean
    if switches.last_channel_reference:
        adapted[..., :-1] = reference.raw[..., :-1]
    return np.asarray(adapted, dtype=np.float64)


def smoothed_raw(frames: FrameRange, sigma: NDArray[np.float64], chunk: int) -> Any:
    """Iterate over smoothed frames (H, W, C) in the recording's own number type."""
    from pyflowreg.motion_correction.preprocessing import temporal_radius

    for start, before, block in frames.chunks(chunk, temporal_radius(sigma)):
        stop = before + min(chunk, frames.length - start)
        yield from gaussian(block, sigma)[before:stop]


def reference_scale(
    raw: NDArray[np.float64],
    first_batch: FrameRange,
    sigma: NDArray[np.float64],
    *,
    joint: bool,
    chunk: int,
    switches: Numerics,
) -> Scale:
    """Intensity range that scales the reference.

    Parameters
    ----------
    raw : ndarray
        Reference, float64, shape (H, W, C).
    first_batch : FrameRange
        First frames of the recording; used by the matlab profile only.
    sigma : ndarray
        Smoothing (y, x, t) per channel, shape (C, 3).
    joint : bool
        One range for all channels.
    chunk : int
        Frames read at a time.
    switches : Numerics
        `batch_range` takes the first batch's range, `first_frame_range` that of its first frame
        when channels are scaled separately.

    Returns
    -------
    Scale
    """
    if not switches.batch_range:
        return robust_scale(gaussian(raw[None], sigma)[0], joint)
    found = RangeFinder(raw.shape[-1], joint)
    for frame in smoothed_raw(first_batch, sigma, chunk):
        found.add(frame[None])
        if switches.first_frame_range and not joint:
            break
    return found.scale(clip=False)


def load_reference(
    options: Any,
    frames: BinnedFrames,
    given: NDArray[Any] | None,
    backend: Backend,
    parameters: FlowParameters,
    sigma: NDArray[np.float64],
    *,
    chunk: int,
    threads: int,
    progress: ReferenceProgress | None = None,
) -> Reference:
    """Find the reference of a recording: given, an image, one frame, or registered frames.

    Raises
    ------
    ConfigError
        If it cannot be read or does not fit the recording.
    """
    shape = frames.shape[1:]
    if given is not None:
        return Reference(as_reference(given, shape, "given as an array"), external=True)
    source = options.reference_frames
    if isinstance(source, np.ndarray):
        return Reference(as_reference(source, shape, "in reference_frames"), external=False)
    if not options.reference_is_frames:
        return Reference(read_reference_image(Path(source), shape), external=True)
    indices = options.reference_indices(frames.shape[0])
    chosen = FrameRange.selection(frames, indices)
    if len(indices) == 1:
        return Reference(chosen.read(0, 1)[0].astype(np.float64), external=False)
    logger.info("Registering %d frames to make the reference.", len(indices))
    joint = options.channel_normalization == "joint"
    alpha_x, alpha_y = parameters.alpha
    stiffer = replace(parameters, alpha=(alpha_x + EXTRA_ALPHA, alpha_y + EXTRA_ALPHA))
    settings: dict[str, Any] = {"joint": joint, "chunk": chunk, "threads": threads}
    raw = register_reference_frames(chosen, backend, stiffer, sigma, progress=progress, **settings)
    if parameters.switches.centred_reference:
        raw = centred_reference(raw, frames, backend, parameters, sigma, **settings)
    return Reference(raw, external=False)
