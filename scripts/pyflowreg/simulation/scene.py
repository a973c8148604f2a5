"""A field of neurons on a fine grid, larger than the field of view, with calcium activity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

from pyflowreg.simulation.motion import Float

OVERSAMPLING = 2
"""Scene samples per pixel; optical blur is wider than a sample, so the spline is faithful."""


@dataclass(frozen=True)
class Cell:
    """One soma: where its patch lies in the scene, and what it looks like.

    Parameters
    ----------
    rows, cols : slice
        Position of the patch in the scene array.
    footprint : ndarray, float64, shape (h, w)
        Brightness of the soma at rest, per channel scaled by `brightness`.
    brightness : ndarray, float64, shape (C,)
        Resting brightness in each channel.
    """

    rows: slice
    cols: slice
    footprint: Float
    brightness: Float


@dataclass(frozen=True)
class Scene:
    """The tissue.

    Parameters
    ----------
    background : ndarray, float64, shape (C, h, w)
        Neuropil, processes and vessels on the fine grid.
    cells : tuple of Cell
        The somata; only channel 0 is active.
    margin : int
        Pixels of tissue beyond each side of the field of view.
    """

    background: Float
    cells: tuple[Cell, ...]
    margin: int

    def image(self, activity: Float, neuropil: float = 1.0) -> Float:
        """Draw the tissue in one state.

        Parameters
        ----------
        activity : ndarray, float64, shape (n_cells,)
            Relative change of brightness (dF/F) of each cell in channel 0.
        neuropil : float
            Factor on the background of channel 0.

        Returns
        -------
        ndarray, float64, shape (C, h, w)
            Cubic spline coefficients on the fine grid.
        """
        state = self.background.copy()
        state[0] *= neuropil
        for cell, change in zip(self.cells, activity, strict=True):
            for channel, brightness in enumerate(cell.brightness):
                gain = brightness * (1.0 + change if channel == 0 else 1.0)
                state[channel, cell.rows, cell.cols] += gain * cell.footprint
        return np.stack([spline_filter(channel, order=3, mode="mirror") for channel in state])

    def sample(self, coefficients: Float, x: Float, y: Float) -> Float:
        """Evaluate the cubic spline at scene points (pixels of the centre recording).

        Parameters
        ----------
        coefficients : ndarray, float64, shape (C, h, w)
            Result of `image`.
        x, y : ndarray, float64, shape (H, W)
            Points, pixels; all must lie inside the tissue.

        Returns
        -------
        ndarray, float64, shape (H, W, C)
            Brightness, never negative.

        Raises
        ------
        ValueError
            If a point lies outside the tissue.
        """
        rows = (y + self.margin) * OVERSAMPLING
        cols = (x + self.margin) * OVERSAMPLING
        height, width = coefficients.shape[1:]
        if rows.min() < 1 or cols.min() < 1 or rows.max() > height - 2 or cols.max() > width - 2:
            raise ValueError(
                f"Motion leaves the simulated tissue, which extends {self.margin} px beyond the "
                "field of view: lower the motion amplitudes."
            )
        planes = [
            map_coordinates(plane, [rows, cols], order=3, mode="mirror", prefilter=False)
            for plane in coefficients
        ]
        sampled: Float = np.clip(np.stack(planes, axis=-1), 0.0, None)
        return sampled


def build_scene(
    rng: np.random.Generator, height: int, width: int, channels: int, margin: int, density: float
) -> Scene:
    """Draw the tissue.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    height, width : int
        Field of view, pixels.
    channels : int
        1 (functional) or 2 (functional and structural).
    margin : int
        Tissue beyond each side, pixels.
    density : float
        Somata per 1000 square pixels.

    Returns
    -------
    Scene
        Mean brightness of the neuropil about 1, of a soma about 1 to 8.
    """
    shape = ((height + 2 * margin) * OVERSAMPLING, (width + 2 * margin) * OVERSAMPLING)
    vessels = _strokes(rng, shape, count=2, length=2.5 * max(shape), radius=3.0)
    shade = 1.0 - 0.75 * np.clip(vessels * 2.0, 0.0, 1.0)
    background = np.stack([_neuropil(rng, shape) * shade for _ in range(channels)])
    background[0] += 1.3 * _strokes(rng, shape, count=14, length=0.5 * max(shape), radius=0.8)
    if channels > 1:
        background[1] *= 0.5
        background[1] += 2.5 * _strokes(rng, shape, count=18, length=0.6 * max(shape), radius=0.8)
    return Scene(background, _somata(rng, shape, channels, density), margin)


def _neuropil(rng: np.random.Generator, shape: tuple[int, int]) -> Float:
    """Fine and coarse texture around 1, never negative."""
    texture = np.ones(shape)
    for sigma, strength in ((1.1, 0.30), (3.0, 0.22), (14.0, 0.15)):
        noise = gaussian_filter(rng.standard_normal(shape), sigma * OVERSAMPLING, mode="reflect")
        texture += strength * noise / noise.std()
    positive: Float = np.clip(texture, 0.1, None)
    return positive


def _strokes(
    rng: np.random.Generator, shape: tuple[int, int], *, count: int, length: float, radius: float
) -> Float:
    """Winding lines of unit height; `radius` in pixels, `length` in scene samples."""
    canvas = np.zeros(shape)
    steps = int(length)
    for _ in range(count):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(0.05 * rng.standard_normal(steps))
        start = rng.uniform(0, 1, 2) * shape
        rows = np.rint(start[0] + np.cumsum(np.sin(heading))).astype(np.intp)
        cols = np.rint(start[1] + np.cumsum(np.cos(heading))).astype(np.intp)
        inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        canvas[rows[inside], cols[inside]] = rng.uniform(0.5, 1.0)
    sigma = radius * OVERSAMPLING
    # a line of unit samples has the height 1 / (sigma sqrt(2 pi)) after the blur
    lines: Float = gaussian_filter(canvas, sigma, mode="constant") * sigma * np.sqrt(2 * np.pi)
    return lines


def _somata(
    rng: np.random.Generator, shape: tuple[int, int], channels: int, density: float
) -> tuple[Cell, ...]:
    """Place somata that hardly overlap; radius 3.5 to 6.5 px."""
    area = shape[0] * shape[1] / OVERSAMPLING**2
    cells: list[Cell] = []
    placed: list[tuple[float, float, float]] = []
    for _ in range(6 * round(density * area / 1000.0)):
        if len(cells) >= density * area / 1000.0:
            break
        radius = OVERSAMPLING * rng.uniform(3.5, 6.5)
        row, col = rng.uniform(0, 1, 2) * shape
        crowded = any(
            np.hypot(row - r, col - c) < 0.85 * (radius + other) for r, c, other in placed
        )
        if crowded:
            continue
        placed.append((row, col, radius))
        cells.append(_soma(rng, shape, channels, (row, col, radius)))
    return tuple(cells)


def _soma(
    rng: np.random.Generator,
    shape: tuple[int, int],
    channels: int,
    place: tuple[float, float, float],
) -> Cell:
    """Draw one soma: an uneven disc whose nucleus is darker, edges as soft as the optics."""
    row, col, radius = place
    reach = int(1.7 * radius) + 2
    rows = slice(max(0, int(row) - reach), min(shape[0], int(row) + reach + 1))
    cols = slice(max(0, int(col) - reach), min(shape[1], int(col) + reach + 1))
    dy, dx = np.mgrid[rows, cols].astype(np.float64)
    dy, dx = dy - row, dx - col
    angle = np.arctan2(dy, dx)
    outline = 1.0 + 0.14 * np.cos(2 * angle + rng.uniform(0, 2 * np.pi))
    outline += 0.07 * np.cos(3 * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(dy, dx) - radius * outline
    softness = 0.45 * OVERSAMPLING
    body = _edge(distance / softness)
    nucleus = _edge((distance + 0.45 * radius) / softness) * rng.uniform(0.35, 0.75)
    brightness = np.exp(rng.normal(0.75, 0.55, channels))
    if channels > 1:  # the structural label marks some of the cells only
        brightness[1] *= rng.choice([0.1, 1.4], p=[0.55, 0.45])
    return Cell(rows, cols, body - nucleus, brightness)


def _edge(x: Float) -> Float:
    soft: Float = 0.5 * (1.0 - np.tanh(x))
    return soft


def calcium_traces(rng: np.random.Generator, n_cells: int, n_frames: int) -> Float:
    """Draw dF/F of every cell: a third is silent, the rest fires transients that decay.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_cells, n_frames : int
        Number of cells and of frames.

    Returns
    -------
    ndarray, float64, shape (n_frames, n_cells)
        Zero at rest; 0.5 to 3 at the peak of a transient.
    """
    rate = rng.exponential(0.03, n_cells) * (rng.uniform(0, 1, n_cells) > 1 / 3)
    size = rng.uniform(0.5, 2.0, n_cells)
    decay = np.exp(-1.0 / rng.uniform(3.0, 9.0, n_cells))
    level = np.zeros(n_cells)
    traces = np.empty((n_frames, n_cells))
    spikes: NDArray[np.int64] = rng.poisson(rate, (n_frames, n_cells))
    for frame in range(n_frames):
        level = np.minimum(level * decay + size * spikes[frame], 3.0)
        traces[frame] = level
    return traces
