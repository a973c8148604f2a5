"""Backward warping of frames and masks, and the valid masks that go with it.

Everywhere a displacement (u, v) is a backward map in pixels: out(y, x) = in(y + v, x + u). A sample
is valid when it lies in the closed image box, 0 <= x + u <= W - 1 and 0 <= y + v <= H - 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.frame_warp import DTYPES, warp_frames
from pyflowreg.core.numerics import to_dtype
from pyflowreg.core.threads import available_threads, for_each
from pyflowreg.core.warp_kernels import sample_is_inside, warp_cubic, warp_linear, warp_nearest

INTERPOLATIONS = {"cubic": warp_cubic, "linear": warp_linear, "nearest": warp_nearest}
SMALLEST = {"cubic": 4, "linear": 2, "nearest": 1}
"""Pixels along an axis that the kernel reads; it would look beyond a smaller frame."""


def _native(w: NDArray[Any]) -> NDArray[Any]:
    """Bring a displacement to a type the kernels take: native float32 or float64."""
    if w.dtype.kind not in "fiu":
        raise ValueError(f"the displacement has dtype {w.dtype}; it must be a real number type.")
    small = w.dtype.kind == "f" and w.dtype.itemsize <= 4
    return np.ascontiguousarray(w, dtype=np.float32 if small else np.float64)


def _check_field(w: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if w.shape != (*shape, 2):
        raise ValueError(
            f"the displacement has shape {w.shape}, the frame {shape}; "
            f"the displacement must have shape {(*shape, 2)}."
        )
    return _native(w)


def _check_size(shape: tuple[int, ...], interpolation: str) -> None:
    smallest = SMALLEST[interpolation]
    if min(shape) < smallest:
        raise ValueError(
            f"the frame has {shape[0]} x {shape[1]} pixels; {interpolation} interpolation needs "
            f"at least {smallest} along both sides."
        )


def warp_frame(
    moving: NDArray[Any],
    w: NDArray[Any],
    fill: NDArray[Any],
    interpolation: str = "cubic",
) -> NDArray[Any]:
    """Warp one frame.

    Parameters
    ----------
    moving : ndarray
        Shape (H, W, C), any real dtype.
    w : ndarray
        Displacement in pixels, shape (H, W, 2).
    fill : ndarray
        Values of the samples outside the image, shape (H, W, C).
    interpolation : {'cubic', 'linear', 'nearest'}
        Kernel; cubic is Keys' (a = -1/2).

    Returns
    -------
    ndarray
        Shape (H, W, C): float32 if `moving` is float32, otherwise float64.

    Raises
    ------
    ValueError
        If the shapes do not fit, the frame is smaller than the kernel, or the interpolation is
        unknown.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation is {interpolation!r}; it must be one of {', '.join(INTERPOLATIONS)}."
        )
    field = _check_field(w, moving.shape[:2])
    _check_size(moving.shape[:2], interpolation)
    dtype = np.float32 if moving.dtype == np.float32 else np.float64
    planes, outside = (
        np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=dtype) for image in (moving, fill)
    )
    if outside.shape != planes.shape:
        raise ValueError(f"fill has shape {fill.shape}; it must be {moving.shape} as the frame.")
    out = np.empty_like(planes)
    # Contiguous, because kernels are compiled anew for other arrays.
    u, v = np.ascontiguousarray(np.moveaxis(field, -1, 0))
    INTERPOLATIONS[interpolation](planes, u, v, 1.0, 1.0, outside, out)
    return np.moveaxis(out, 0, -1)


def backward_valid_mask(u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell where a backward warp samples inside the image.

    Parameters
    ----------
    u, v : ndarray
        Displacement in x and y, pixels, shape (H, W).

    Returns
    -------
    ndarray of bool
        Shape (H, W); False also where the displacement is NaN.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if u.ndim != 2 or u.shape != v.shape:
        raise ValueError(f"u has shape {u.shape}, v {v.shape}; both must be the same (H, W).")
    out = np.empty(u.shape, np.bool_)
    field = _native(np.stack([u, v], axis=-1))
    sample_is_inside(field[..., 0], field[..., 1], out)
    return out


def imregister_binary(mask: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.bool_]:
    """Warp a mask with nearest-neighbour sampling; samples outside the image are False.

    Parameters
    ----------
    mask : ndarray
        Shape (H, W); non-zero is True.
    u, v : ndarray
        Displacement in x and y, pixels, shape (H, W).

    Returns
    -------
    ndarray of bool
        Shape (H, W).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    field = _check_field(np.stack([u, v], axis=-1), mask.shape)
    planes = (np.asarray(mask) != 0)[None].astype(np.uint8)
    out = np.empty_like(planes)
    warp_nearest(planes, field[..., 0], field[..., 1], 1.0, 1.0, np.zeros_like(planes), out)
    return np.asarray(out[0], dtype=np.bool_)


def compute_batch_valid_masks(w: NDArray[Any]) -> NDArray[np.uint8]:
    """Valid mask of every frame of a batch.

    Parameters
    ----------
    w : ndarray
        Displacements in pixels, shape (T, H, W, 2).

    Returns
    -------
    ndarray of uint8
        Shape (T, H, W): 255 where the sample lies inside the image, else 0.

    Raises
    ------
    ValueError
        If `w` is not of shape (T, H, W, 2).
    """
    if w.ndim != 4 or w.shape[-1] != 2:
        raise ValueError(f"w has shape {w.shape}; it must be (T, H, W, 2).")
    inside = np.empty(w.shape[:3], np.bool_)
    for frame, out in zip(w, inside, strict=True):
        field = _native(frame)
        sample_is_inside(field[..., 0], field[..., 1], out)
    return inside * np.uint8(255)


def _check_sizes(frames: NDArray[Any], fields: NDArray[Any], fill: NDArray[Any]) -> None:
    """Refuse fields and fill values of another size than the frames, and too small frames."""
    expected = (*frames.shape[1:3], 2)
    if fields.shape not in (expected, (len(frames), *expected)):
        raise ValueError(f"the displacement has shape {fields.shape}; it must be {expected}.")
    _check_size(frames.shape[1:3], "cubic")
    if fill.shape != frames.shape[1:]:
        raise ValueError(
            f"fill has shape {fill.shape}; it must be {frames.shape[1:]} as the frame."
        )


def warp_sequence(
    frames: NDArray[Any],
    fields: NDArray[Any],
    fill: NDArray[Any],
    interpolation: str = "cubic",
    threads: int = 1,
) -> NDArray[Any]:
    """Warp every frame of a sequence and return it in its own dtype.

    Parameters
    ----------
    frames : ndarray
        Shape (T, H, W, C).
    fields : ndarray
        Displacements in pixels, shape (H, W, 2) for all frames or (T, H, W, 2).
    fill : ndarray
        Values of the samples outside the image, shape (H, W, C).
    interpolation : {'cubic', 'linear', 'nearest'}
        Kernel.
    threads : int
        Frames warped at the same time; the result does not depend on it.

    Returns
    -------
    ndarray
        Shape and dtype of `frames`; integers are rounded and saturated.
    """
    if interpolation == "cubic" and frames.dtype.isnative and frames.dtype.name in DTYPES:
        _check_sizes(frames, fields, fill)
        return warp_frames(frames, _native(fields), fill, frames.dtype, threads).frames
    out = np.empty_like(frames)

    def one(index: int) -> None:
        field = fields if fields.ndim == 3 else fields[index]
        out[index] = to_dtype(warp_frame(frames[index], field, fill, interpolation), frames.dtype)

    for_each(one, len(frames), threads)
    return out


def align_sequence(
    batch: NDArray[Any],
    displacement: NDArray[Any],
    reference: NDArray[Any],
    interpolation_method: str = "cubic",
    n_workers: int | None = None,
) -> NDArray[Any]:
    """Bring frames into the grid of a reference with one displacement field.

    Parameters
    ----------
    batch : ndarray
        Frames, shape (T, H, W) or (T, H, W, C).
    displacement : ndarray
        Displacement in pixels, shape (H, W, 2).
    reference : ndarray
        Values of the samples outside the image, shape (H, W) or (H, W, C).
    interpolation_method : {'cubic', 'linear', 'nearest'}
        Kernel.
    n_workers : int, optional
        Threads, -1 for all cores; 1 by default. The result does not depend on it.

    Returns
    -------
    ndarray
        Shape and dtype of `batch`; integers are rounded and saturated.

    Raises
    ------
    ValueError
        If the shapes do not fit, frames are smaller than the kernel, or the interpolation or
        `n_workers` is none that exists.
    """
    if batch.ndim not in (3, 4):
        raise ValueError(f"batch has shape {batch.shape}; it must be (T, H, W) or (T, H, W, C).")
    workers = 1 if n_workers is None else n_workers
    if workers != -1 and workers < 1:
        raise ValueError(f"n_workers is {n_workers}; it must be at least 1, or -1 for all cores.")
    frames = batch[..., None] if batch.ndim == 3 else batch
    _check_field(displacement, frames.shape[1:3])
    fill = reference[..., None] if reference.ndim == 2 else reference
    threads = available_threads() if workers == -1 else workers
    aligned = warp_sequence(frames, displacement, fill, interpolation_method, threads)
    return aligned.reshape(batch.shape)
