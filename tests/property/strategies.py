"""Hypothesis strategies shared by the property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


def movies(
    dtypes: tuple[str, ...] = DTYPES,
    *,
    min_frames: int = 2,
    max_frames: int = 7,
    max_side: int = 9,
    max_channels: int = 3,
) -> st.SearchStrategy[np.ndarray]:
    """Small movies (T, H, W, C) over the whole range of their type, without NaN."""
    shapes = st.tuples(
        st.integers(min_frames, max_frames),
        st.integers(1, max_side),
        st.integers(1, max_side),
        st.integers(1, max_channels),
    )

    def fill(dtype: str) -> st.SearchStrategy[np.ndarray]:
        kind = np.dtype(dtype)
        elements = hnp.from_dtype(kind, allow_nan=False) if kind.kind == "f" else None
        return hnp.arrays(kind, shapes, elements=elements)

    return st.sampled_from(dtypes).flatmap(fill)


def splits(frames: int) -> st.SearchStrategy[list[int]]:
    """Cuts of range(frames) into blocks: sorted frame numbers, first 0, last `frames`."""
    inner = st.lists(st.integers(0, frames), max_size=4)
    return inner.map(lambda cuts: sorted([0, *cuts, frames]))


def frames_of(*, min_side: int, max_side: int) -> st.SearchStrategy[np.ndarray]:
    """Frames (H, W) in [0, 1]: noise, steps, lines and constants of any size."""

    def draw(size: tuple[int, int], seed: int, kind: str) -> np.ndarray:
        rng = np.random.default_rng(seed)
        noise = rng.random(size)
        return {
            "noise": noise,
            "steps": np.round(2 * noise) / 2,
            "lines": np.broadcast_to(noise[:1], size).copy(),
            "constant": np.full(size, noise[0, 0]),
            "spot": np.where(noise == noise.max(), 1.0, 0.0),
        }[kind]

    side = st.integers(min_side, max_side)
    kinds = st.sampled_from(["noise", "steps", "lines", "constant", "spot"])
    return st.builds(draw, st.tuples(side, side), st.integers(0, 2**16), kinds)
