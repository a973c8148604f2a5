"""How much more noise a frame has than the fixed one.

Noise adds to the squared gradient of a frame wherever it is, structure and activity only where they
are. So the flattest blocks of two frames are compared: a lower quartile, of either frame for
itself, so that neither motion nor active cells pass for noise, and a change of brightness only by
what it does to the flattest blocks.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from pyflowreg.core.jit import inline_kernel, kernel

BLOCK = 8
"""Side of a block, pixels."""

QUANTILE = 0.25
FEWEST_BLOCKS = 16
"""Levels with fewer blocks are so coarse that noise has been averaged out."""

TOLERANCE = 0.05
"""Excess that is not taken for noise: interpolation makes one frame a little smoother."""


@inline_kernel()
def _block_energies(plane, cx, cy, sums, out):
    """Mean squared gradient of blocks; rows and columns at the rim are left out."""
    height, width = plane.shape
    rows, columns = (height - 2) // BLOCK, (width - 2) // BLOCK
    inner = columns * BLOCK
    scale = plane.dtype.type(0.5 / (BLOCK * BLOCK))
    column_sums = sums[:inner]
    for row in range(rows):
        for x in range(inner):
            column_sums[x] = 0
        for y in range(1 + row * BLOCK, 1 + (row + 1) * BLOCK):
            above, here, below = plane[y - 1], plane[y], plane[y + 1]
            for x in range(inner):
                gx = (here[x + 2] - here[x]) * cx
                gy = (below[x + 1] - above[x + 1]) * cy
                column_sums[x] += gx * gx + gy * gy
        for column in range(columns):
            first = column * BLOCK
            total = column_sums[first]
            for k in range(1, BLOCK):
                total += column_sums[first + k]
            out[row * columns + column] = total * scale


def block_count(shape: tuple[int, ...]) -> int:
    """Return how many blocks planes of this shape (..., H, W) have."""
    return ((shape[-2] - 2) // BLOCK) * ((shape[-1] - 2) // BLOCK)


def noise_scratch_size(shape: tuple[int, ...]) -> int:
    """Elements that `flat_energy` needs as scratch for planes of this shape (..., H, W)."""
    return shape[-1] + block_count(shape)


@inline_kernel()
def _nth_smallest(values, n):
    """Number `n`, from 0, of the values in ascending order, which are rearranged (Hoare 1961)."""
    first, last = 0, values.shape[0] - 1
    while first < last:
        pivot = values[(first + last) // 2]
        i, j = first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if n <= j:
            last = j
        elif n >= i:
            first = i
        else:
            break
    return values[n]


@kernel()
def flat_energy(plane, hx, hy, scratch):
    """Squared gradient in the flatter parts of a frame.

    Parameters
    ----------
    plane : ndarray
        float32 or float64, shape (H, W).
    hx, hy : float
        Grid spacing in x and y, full-resolution pixels.
    scratch : ndarray
        One-dimensional, dtype of the plane, at least `noise_scratch_size` elements.

    Returns
    -------
    float
        Lower quartile over blocks of half the squared gradient (intensity per px); 0 with less than
        `FEWEST_BLOCKS` blocks.
    """
    height, width = plane.shape
    count = ((height - 2) // BLOCK) * ((width - 2) // BLOCK)
    if count < FEWEST_BLOCKS:
        return 0.0
    real = plane.dtype.type
    energies = scratch[width : width + count]
    _block_energies(plane, real(0.5 / hx), real(0.5 / hy), scratch, energies)
    return float(_nth_smallest(energies, int(count * QUANTILE)))


@inline_kernel()
def excess_noise(fixed_energy, moving_energy):
    """Return by how much the energy of the moving frame exceeds that of the fixed one, or 0."""
    return max(0.0, moving_energy - (1 + TOLERANCE) * fixed_energy)
