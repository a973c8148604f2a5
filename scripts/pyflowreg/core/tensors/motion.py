"""Motion tensors and noise of many frames at a time; see `core.motion_tensor` and `core.noise`."""

from __future__ import annotations

from typing import Any

import torch

from pyflowreg.core.motion_tensor import CENSUS_EPSILON
from pyflowreg.core.noise import BLOCK, FEWEST_BLOCKS, QUANTILE, TOLERANCE
from pyflowreg.core.tensors.resampling import padded

Tensors = tuple[torch.Tensor, ...]
"""J11, J22, J33, J12, J13, J23, each of shape (T, C, h, w)."""


def _across(planes: torch.Tensor) -> torch.Tensor:
    """Difference of the neighbours in x, of padded planes, without the border."""
    return planes[..., 1:-1, 2:] - planes[..., 1:-1, :-2]


def _down(planes: torch.Tensor) -> torch.Tensor:
    return planes[..., 2:, 1:-1] - planes[..., :-2, 1:-1]


def gradient_constancy(
    fixed: torch.Tensor, moving: torch.Tensor, hx: float, hy: float, eps: torch.Tensor
) -> Tensors:
    """Normalised gradient constancy; `eps` (T, C, 1, 1) is added to squared gradients."""
    total, change = padded(fixed + moving), padded(moving - fixed)
    inner = total[..., 1:-1, 1:-1]
    twice = inner + inner
    fxx = (total[..., 1:-1, 2:] - twice + total[..., 1:-1, :-2]) * (0.5 / (hx * hx))
    fyy = (total[..., 2:, 1:-1] - twice + total[..., :-2, 1:-1]) * (0.5 / (hy * hy))
    lower = total[..., 2:, 2:] - total[..., 2:, :-2]
    upper = total[..., :-2, 2:] - total[..., :-2, :-2]
    fxy = (lower - upper) * (0.125 / (hx * hy))
    fxt = _across(change) * (0.5 / hx)
    fyt = _down(change) * (0.5 / hy)
    squared = fxy * fxy + eps
    nx = 1 / (fxx * fxx + squared)
    ny = 1 / (fyy * fyy + squared)
    ax, bx, cx = nx * fxx, nx * fxy, nx * fxt
    ay, by, cy = ny * fxy, ny * fyy, ny * fyt
    return (
        ax * fxx + ay * fxy,
        bx * fxy + by * fyy,
        cx * fxt + cy * fyt,
        ax * fxy + ay * fyy,
        ax * fxt + ay * fyt,
        bx * fxt + by * fyt,
    )


def _brightness(total: torch.Tensor, change: torch.Tensor, hx: float, hy: float) -> Tensors:
    fx = _across(padded(total)) * (0.25 / hx)
    fy = _down(padded(total)) * (0.25 / hy)
    return fx * fx, fy * fy, change * change, fx * fy, fx * change, fy * change


def brightness_constancy(
    fixed: torch.Tensor, moving: torch.Tensor, hx: float, hy: float
) -> Tensors:
    """Brightness constancy."""
    return _brightness(fixed + moving, moving - fixed, hx, hy)


def _codes(image: torch.Tensor, dy: int, dx: int, distance: float) -> torch.Tensor:
    """Smoothed step of the difference of all pixels to a neighbour."""
    around = padded(image)
    height, width = image.shape[-2:]
    neighbour = around[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
    r = (neighbour - image) / distance
    return 0.5 * (1 + r / (r * r + CENSUS_EPSILON**2).sqrt())


def census_constancy(fixed: torch.Tensor, moving: torch.Tensor, hx: float, hy: float) -> Tensors:
    """Brightness constancy of the images' eight census codes, one for every neighbour."""
    sums: list[Any] = [0.0] * 6
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy or dx:
                distance = float((dx * dx * hx * hx + dy * dy * hy * hy) ** 0.5)
                first, second = (_codes(image, dy, dx, distance) for image in (fixed, moving))
                terms = _brightness(first + second, second - first, hx, hy)
                sums = [total + 0.25 * term for total, term in zip(sums, terms, strict=True)]
    return tuple(sums)


def flat_energy(planes: torch.Tensor, hx: float, hy: float) -> torch.Tensor:
    """Squared gradient in the flatter parts of frames (T, C, h, w): (T, C, 1, 1)."""
    height, width = planes.shape[-2:]
    rows, columns = (height - 2) // BLOCK, (width - 2) // BLOCK
    if rows * columns < FEWEST_BLOCKS:
        return planes.new_zeros((*planes.shape[:2], 1, 1))
    inner = planes[..., : rows * BLOCK + 2, : columns * BLOCK + 2]
    gx, gy = _across(inner) * (0.5 / hx), _down(inner) * (0.5 / hy)
    squares = (gx * gx + gy * gy).unflatten(-2, (rows, BLOCK)).unflatten(-1, (columns, BLOCK))
    sums = squares[..., 0, :, :]
    for k in range(1, BLOCK):
        sums = sums + squares[..., k, :, :]
    energies = sums[..., 0]
    for k in range(1, BLOCK):
        energies = energies + sums[..., k]
    energies = (energies * (0.5 / (BLOCK * BLOCK))).flatten(2)
    quartile = energies.sort(-1).values[..., int(rows * columns * QUANTILE)]
    return quartile[..., None, None]


def excess_noise(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """By how much the energy of moving frames exceeds that of the fixed one, or 0."""
    return (moving - (1 + TOLERANCE) * fixed).clamp(min=0)
