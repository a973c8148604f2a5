"""Small scenes that move by known amounts, and sessions of them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

MARGIN = 40
"""Pixels of scene around a frame: the largest displacement it can be seen under."""


@lru_cache(maxsize=32)
def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Texture in [0, 1] with structure of a few pixels, larger than a frame by the margin."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((height + 2 * MARGIN, width + 2 * MARGIN))
    image = gaussian_filter(noise, 1.5) + 4 * gaussian_filter(noise[::-1], 5)
    return (image - image.min()) / np.ptp(image)


def seen(height: int, width: int, dx: float = 0, dy: float = 0, seed: int = 0) -> np.ndarray:
    """Frame (H, W) of a scene, shifted by (dx, dy) px: frame(y, x) = scene(y + dy, x + dx)."""
    y, x = np.mgrid[:height, :width].astype(float)
    image = scene(height, width, seed)
    return map_coordinates(image, [y + MARGIN + dy, x + MARGIN + dx], order=3)


def movie(
    shifts, size=(40, 48), channels: int = 1, dtype="uint16", seed: int = 0, noise: float = 0
) -> np.ndarray:
    """Recording (T, H, W, C): one frame per shift (dx, dy); channels show different scenes.

    Frame k has the displacement -shift[k] from an unshifted one.
    """
    rng = np.random.default_rng(seed)
    frames = np.empty((len(shifts), *size, channels))
    for k, (dx, dy) in enumerate(shifts):
        for c in range(channels):
            frames[k, ..., c] = seen(*size, dx, dy, seed + 100 * c)
    frames += noise * rng.standard_normal(frames.shape)
    if np.dtype(dtype).kind == "f":
        return frames.astype(dtype)
    top = {"uint8": 200, "uint16": 4000, "int16": 2000}[np.dtype(dtype).name]
    low = -2000 if dtype == "int16" else 0
    return np.clip(np.rint(frames * (top - low) + low), low, None).astype(dtype)


def wobble(frames: int, amplitude: float = 2.0, seed: int = 0) -> np.ndarray:
    """Shifts (T, 2) of a sample that moves slowly and stays near its place."""
    t = np.arange(frames)
    return amplitude * np.stack([np.sin(0.9 * t + seed), np.cos(0.7 * t + seed)], axis=-1)


def save_tiff(path: Path, frames: np.ndarray) -> Path:
    """Write (T, H, W, C) as a plain TIFF with the channels as samples of a pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    one = frames.shape[-1] == 1
    tifffile.imwrite(
        path,
        frames[..., 0] if one else frames,
        photometric="minisblack",
        planarconfig=None if one else "contig",
    )
    return path


def save_session(
    root: Path, names, offsets, *, frames: int = 5, pattern: str = "{}.tif", **how
) -> list[Path]:
    """Write recordings of one scene, each displaced by its own offset (dx, dy)."""
    return [
        save_tiff(
            root / pattern.format(name), movie(wobble(frames, 1.0, k) + np.array(offset), **how)
        )
        for k, (name, offset) in enumerate(zip(names, offsets, strict=True))
    ]


def interior(array: np.ndarray, border: int = 8) -> np.ndarray:
    """The array (..., H, W, 2) without its border."""
    return array[..., border:-border, border:-border, :]


def remaining(result, shifts) -> float:
    """Mean error of the fields after removing what is common to all frames, px."""
    error = interior(result.w) + (shifts - np.mean(shifts, axis=0))[:, None, None]
    return float(np.abs(error - error.mean(axis=0)).mean())


def scatter(video: np.ndarray, border: int = 8) -> float:
    """How much the frames differ from their mean, inside."""
    inside = video[:, border:-border, border:-border].astype(float)
    return float(inside.std(axis=0).mean())
