"""Motion with a closed form: smooth fields and scan-line trajectories that are known everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class SmoothField:
    """A sum of plane waves; exact at every point, so scoring needs no interpolation.

    Parameters
    ----------
    wave_vectors : ndarray, float64, shape (M, 2)
        Angular frequency (x, y) of each wave, radians per pixel.
    phases : ndarray, float64, shape (M, 2)
        Phase of the wave in the x and in the y component, radians.
    amplitudes : ndarray, float64, shape (M, 2)
        Amplitude of the wave in the x and in the y component, pixels.
    """

    wave_vectors: Float
    phases: Float
    amplitudes: Float

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Float:
        """Evaluate the field.

        Parameters
        ----------
        x, y : array-like
            Points of any shape, pixels.

        Returns
        -------
        ndarray, float64, shape (..., 2)
            Displacement (x, y) at the points, pixels.
        """
        x_, y_ = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        out = np.zeros((*np.broadcast_shapes(x_.shape, y_.shape), 2))
        for wave, phase, amplitude in zip(
            self.wave_vectors, self.phases, self.amplitudes, strict=True
        ):
            angle = wave[0] * x_ + wave[1] * y_
            for axis in range(2):
                out[..., axis] += amplitude[axis] * np.cos(angle + phase[axis])
        return out

    def scaled(self, factor: float) -> SmoothField:
        """Return the field times `factor`.

        Parameters
        ----------
        factor : float
            Multiplies every amplitude.

        Returns
        -------
        SmoothField
            A new field.
        """
        return SmoothField(self.wave_vectors, self.phases, self.amplitudes * factor)


def random_smooth_field(
    rng: np.random.Generator, height: int, width: int, n_waves: int = 6, wavelength: float = 1.0
) -> SmoothField:
    """Draw a smooth field whose largest vector over the field of view is 1 px long.

    With wavelengths of the field of view, a field of a few pixels stays invertible.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    height, width : int
        Field of view, pixels.
    n_waves : int, default 6
        Number of plane waves.
    wavelength : float, default 1
        Shortest wavelength that can be drawn, as a fraction of the shorter side; the longest is
        2.2 times as long.

    Returns
    -------
    SmoothField
        In pixels.
    """
    shortest = wavelength * min(height, width)
    length = shortest * rng.uniform(1.0, 2.2, n_waves)
    angle = rng.uniform(0.0, 2.0 * np.pi, n_waves)
    waves = 2.0 * np.pi / length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    field = SmoothField(
        waves,
        rng.uniform(0.0, 2.0 * np.pi, (n_waves, 2)),
        rng.standard_normal((n_waves, 2)) * (length / length.max())[:, None],
    )
    x, y = pixel_grid(height, width)
    return field.scaled(1.0 / float(np.linalg.norm(field(x, y), axis=-1).max()))


def pixel_grid(height: int, width: int) -> tuple[Float, Float]:
    """Return the coordinates of all pixel centres.

    Parameters
    ----------
    height, width : int
        Field of view, pixels.

    Returns
    -------
    x, y : ndarray, float64, shape (height, width)
        Pixels, from 0; x to the right, y down.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return x, y


@dataclass(frozen=True)
class Deformation:
    """Between-recording deformation D: shift, rotation and zoom about the centre, smooth part.

    Parameters
    ----------
    shift : ndarray, float64, shape (2,)
        Translation (x, y), pixels.
    matrix : ndarray, float64, shape (2, 2)
        Rotation times zoom, applied about `centre`.
    centre : ndarray, float64, shape (2,)
        Fixed point (x, y) of `matrix`, pixels.
    smooth : SmoothField
        Non-rigid part, pixels.
    """

    shift: Float
    matrix: Float
    centre: Float
    smooth: SmoothField

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Float:
        """Evaluate the deformation.

        Parameters
        ----------
        x, y : array-like
            Points of any shape, pixels.

        Returns
        -------
        ndarray, float64, shape (..., 2)
            D at the points (x, y), pixels.
        """
        x_, y_ = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        out = self.smooth(x_, y_)
        dx, dy = x_ - self.centre[0], y_ - self.centre[1]
        for axis in range(2):
            row = self.matrix[axis]
            out[..., axis] += self.shift[axis] + row[0] * dx + row[1] * dy - (dx, dy)[axis]
        return out


def random_deformation(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    shift: float,
    rotation: float,
    zoom: float,
    nonrigid: float,
) -> Deformation:
    """Draw a deformation within limits.

    Shift and non-rigid part reach 60 to 100 % of their limit, so that no recording of a session
    is trivially easy.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    height, width : int
        Field of view, pixels.
    shift : float
        Limit of the translation, pixels.
    rotation : float
        Limit of the rotation, degrees.
    zoom : float
        Limit of the change of size, fraction.
    nonrigid : float
        Limit of the longest non-rigid vector, pixels.

    Returns
    -------
    Deformation
        About the centre of the field of view.
    """
    direction = rng.uniform(0.0, 2.0 * np.pi)
    length = shift * rng.uniform(0.6, 1.0)
    angle = np.deg2rad(rng.uniform(-rotation, rotation))
    scale = 1.0 + rng.uniform(-zoom, zoom)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return Deformation(
        shift=length * np.array([np.cos(direction), np.sin(direction)]),
        matrix=np.array([[cos, -sin], [sin, cos]]),
        centre=np.array([(width - 1) / 2.0, (height - 1) / 2.0]),
        smooth=random_smooth_field(rng, height, width).scaled(nonrigid * rng.uniform(0.6, 1.0)),
    )


def no_deformation() -> Deformation:
    """Return D = 0, the deformation of the centre recording.

    Returns
    -------
    Deformation
        Zero everywhere.
    """
    nothing = SmoothField(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2)))
    return Deformation(np.zeros(2), np.eye(2), np.zeros(2), nothing)


def line_trajectory(
    rng: np.random.Generator, n_frames: int, height: int, amplitude: float
) -> Float:
    """Draw a rigid trajectory sampled once per scan line.

    Row y of frame f is recorded at the time f + y / height, so fast motion shears a frame as it
    does under a scanning microscope: slow drift, a breathing-like oscillation (mostly along y),
    sudden jumps that decay, and frame-to-frame jitter.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_frames, height : int
        Number of frames and of scan lines per frame.
    amplitude : float
        Length of the largest displacement, pixels.

    Returns
    -------
    ndarray, float64, shape (n_frames, height, 2)
        Displacement (x, y) of each line, pixels; zero mean over the frames for every line.
    """
    time = np.arange(n_frames)[:, None] + np.arange(height)[None, :] / height
    motion = np.zeros((n_frames, height, 2))
    for axis, share in enumerate((0.7, 1.0)):
        for period in rng.uniform(0.7, 2.0, 2) * max(n_frames, 2):
            motion[..., axis] += (
                0.5 * share * np.cos(2 * np.pi * time / period + rng.uniform(0, 2 * np.pi))
            )
        period = rng.uniform(5.0, 9.0)
        motion[..., axis] += (
            0.35 * share**3 * np.sin(2 * np.pi * time / period + rng.uniform(0, 2 * np.pi))
        )
        knots = 0.12 * share * rng.standard_normal(n_frames + 1)
        motion[..., axis] += np.interp(time, np.arange(n_frames + 1), knots)
    for _ in range(max(1, n_frames // 20)):
        start, decay = rng.uniform(0, n_frames), rng.uniform(2.0, 6.0)
        since = np.clip(time - start, 0.0, None)
        # the stage needs about a third of a frame to get there: a visible tear, not a cut
        pulse = (1.0 - np.exp(-since / 0.12)) * np.exp(-since / decay)
        motion += pulse[..., None] * rng.choice([-1.0, 1.0], 2) * rng.uniform(0.5, 1.2, 2)
    motion -= motion.mean(axis=0)
    longest = float(np.linalg.norm(motion, axis=-1).max())
    return motion * (amplitude / longest if longest > 0 else 0.0)


def random_weights(rng: np.random.Generator, n_frames: int, n_fields: int) -> Float:
    """Draw slowly varying weights.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_frames, n_fields : int
        Number of frames and of weights per frame.

    Returns
    -------
    ndarray, float64, shape (n_frames, n_fields)
        Zero mean over the frames.
    """
    steps = rng.standard_normal((n_frames, n_fields))
    weights = np.empty_like(steps)
    state = rng.standard_normal(n_fields)
    for frame in range(n_frames):
        state = 0.8 * state + 0.6 * steps[frame]
        weights[frame] = state
    weights -= weights.mean(axis=0)
    return weights
