"""Planes stored by anti-diagonals, so that a sweep is a sequence of operations on tensors.

In a lexicographic sweep a point needs the new values to the left and above and the old ones to the
right and below, so all points of an anti-diagonal can be computed at the same time; the next sweep
can follow two anti-diagonals behind. Hence several sweeps advance together, with one operation on
every other diagonal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

RIM = 1
"""Diagonals and points around what is stored; their values are never changed, and zero."""


class Front(NamedTuple):
    """Where several sweeps are: views of the same diagonals in all that is stored so."""

    own: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    before_aside: torch.Tensor
    after_aside: torch.Tensor
    planes: tuple[torch.Tensor, ...]


class Skewed:
    """Geometry of frames stored by anti-diagonals: (..., diagonals, T, points).

    The shorter side runs along the points of a diagonal.

    Parameters
    ----------
    count, height, width : int
        Number of frames and their size.
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        self._count, self._height, self._width = count, height, width
        self.is_tall = height > width
        self.points = min(height, width)
        self.diagonals = height + width - 1

    def planes(self, number: int, like: torch.Tensor, rim: int = 0) -> torch.Tensor:
        """Zeros for some planes, (number, diagonals, T, points), with a rim of zeros."""
        size = (number, self.diagonals + 2 * rim, self._count, self.points + 2 * rim)
        return like.new_zeros(size)

    def as_frames(self, planes: torch.Tensor, rim: int = 0) -> torch.Tensor:
        """View planes (n, diagonals, T, points) as frames (n, T, h, w)."""
        number, diagonals, count, points = planes.shape
        along = count * points
        y, x = (along, along + 1) if self.is_tall else (along + 1, along)
        return planes.as_strided(
            (number, count, self._height, self._width),
            (diagonals * along, points, y, x),
            planes.storage_offset() + rim * (along + 1),
        )

    def fronts(
        self, unknowns: torch.Tensor, planes: tuple[torch.Tensor, ...], sweeps: int
    ) -> list[Front]:
        """All steps of several sweeps that advance together.

        Parameters
        ----------
        unknowns : Tensor
            With a rim.
        planes : tuple of Tensor
            Without one.
        sweeps : int
            Each two diagonals behind the one before.
        """
        longer = self.diagonals - self.points + 1
        found = []
        for front in range(self.diagonals + 2 * (sweeps - 1)):
            # Sweep s is at diagonal front - 2 s.
            first = max(0, (front - self.diagonals + 2) // 2)
            last = min(sweeps - 1, front // 2)
            low, high = front - 2 * last, front - 2 * first
            # Points outside the frame are left out where all the diagonals have them.
            begin = max(0, low - longer + 1)
            end = min(self.points - 1, high) + 1
            found.append(self._front(unknowns, planes, low, high, begin, end))
        return found

    @staticmethod
    def _front(
        unknowns: torch.Tensor,
        planes: tuple[torch.Tensor, ...],
        low: int,
        high: int,
        begin: int,
        end: int,
    ) -> Front:
        def shifted(diagonal: int, point: int) -> torch.Tensor:
            rows = slice(RIM + low + diagonal, RIM + high + diagonal + 1, 2)
            return unknowns[:, rows, :, RIM + begin + point : RIM + end + point]

        return Front(
            shifted(0, 0),
            shifted(-1, 0),
            shifted(1, 0),
            shifted(-1, -1),
            shifted(1, 1),
            tuple(plane[:, low : high + 1 : 2, :, begin:end] for plane in planes),
        )
