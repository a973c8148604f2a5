"""Resizing and warping of many frames at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyflowreg.core.pyramid import resize_tables


def to_tensor(array: NDArray[Any], like: torch.Tensor) -> torch.Tensor:
    """Copy an array to the device of a tensor, in its own type."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)


class Resizer:
    """Resamples as `pyramid.resize_planes` does.

    Parameters
    ----------
    shape_in, shape_out : tuple of int
        Height and width.
    dtype : dtype
        Type of the computation and the result.
    device : torch.device
        Where the frames are.
    """

    def __init__(
        self,
        shape_in: tuple[int, int],
        shape_out: tuple[int, int],
        dtype: np.dtype[Any],
        device: torch.device,
    ) -> None:
        tables = resize_tables(shape_in, shape_out, dtype)
        # One row per tap: (number of taps, output size). Copies, because the tables are read-only.
        moved = [torch.from_numpy(table.T.copy()).to(device) for table in tables]
        self._rows, self._row_weights, self._columns, self._column_weights = moved

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        """Resample planes (..., H, W); a constant one stays exactly constant."""
        if planes.element_size() > self._row_weights.element_size():
            planes = planes.to(self._row_weights.dtype)
        rows = _weighted(planes, -2, self._rows, self._row_weights[..., None])
        out = _weighted(rows, -1, self._columns, self._column_weights)
        corner = planes[..., :1, :1]
        constant = (planes == corner).flatten(-2).all(-1)[..., None, None]
        return torch.where(constant, corner.to(out.dtype), out)


def _weighted(
    planes: torch.Tensor, axis: int, taps: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    total = planes.index_select(axis, taps[0]) * weights[0]
    for tap, weight in zip(taps[1:], weights[1:], strict=True):
        total += planes.index_select(axis, tap) * weight
    return total


def padded(planes: torch.Tensor) -> torch.Tensor:
    """Add one replicated pixel around planes (..., H, W)."""
    planes = torch.cat([planes[..., :1, :], planes, planes[..., -1:, :]], -2)
    return torch.cat([planes[..., :1], planes, planes[..., -1:]], -1)


def _extrapolated(planes: torch.Tensor) -> torch.Tensor:
    """Add one pixel around planes, f(-1) = 3 f(0) - 3 f(1) + f(2) (Keys 1981, eq. 19 and 25)."""
    for axis in (-2, -1):
        size = planes.shape[axis]
        ends = [
            [planes.narrow(axis, k, 1) for k in at]
            for at in ((0, 1, 2), (size - 1, size - 2, size - 3))
        ]
        first, last = (3 * a - 3 * b + c for a, b, c in ends)
        planes = torch.cat([first, planes, last], axis)
    return planes


def _cells(shift: torch.Tensor, size: int) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """First of the two pixels around samples, Keys' four weights, and whether they are inside.

    `shift` is the distance of a sample from its pixel along the last axis, in pixels. It is split
    into whole pixels and a rest before the pixel's position is added, which would cost digits.
    """
    at = torch.arange(size, device=shift.device)
    inside = (shift >= -at) & (shift <= size - 1 - at)
    shift = torch.where(inside, shift, 0.0)
    whole = shift.floor()
    moved = at + whole.long()
    cell = moved.clamp(0, size - 2)
    t = (shift - whole) + (moved - cell)
    weights = [
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]
    return cell, weights, inside


def warp_cubic(
    moving: torch.Tensor, field: torch.Tensor, hx: float, hy: float, fill: torch.Tensor
) -> torch.Tensor:
    """Sample frames (T, C, h, w) at (x + u / hx, y + v / hy); outside samples take `fill`.

    Parameters
    ----------
    moving : Tensor
        Shape (T, C, h, w).
    field : Tensor
        Displacements u, v in full-resolution pixels, (T, 2, h, w).
    hx, hy : float
        Grid spacing in full-resolution pixels.
    fill : Tensor
        Shape (C, h, w).
    """
    count, channels, height, width = moving.shape
    wide = torch.float64 if moving.device.type != "mps" else torch.float32
    x, wx, inside_x = _cells(field[:, 0].to(wide) * (1 / hx), width)
    y, wy, inside_y = _cells((field[:, 1].to(wide) * (1 / hy)).transpose(1, 2), height)
    y, inside_y = y.transpose(1, 2), inside_y.transpose(1, 2)
    wx = [weight.to(moving.dtype) for weight in wx]
    wy = [weight.transpose(1, 2).to(moving.dtype) for weight in wy]
    source = _extrapolated(moving).flatten(2)
    first = (y * (width + 2) + x).flatten(1)
    planes = []
    for c in range(channels):
        plane = source[:, c]
        total = None
        for j in range(4):
            row = None
            for k in range(4):
                taken = plane.gather(1, first + (j * (width + 2) + k)).view(count, height, width)
                row = taken * wx[k] if row is None else row.addcmul(taken, wx[k])
            total = row * wy[j] if total is None else total.addcmul(row, wy[j])
        planes.append(total)
    return torch.where((inside_x & inside_y)[:, None], torch.stack(planes, 1), fill)
