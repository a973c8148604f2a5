"""5 x 5 median filter of many frames at a time, with the networks of `core.median`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Pairs = Sequence[tuple[int, int]]

_SORT_5: Pairs = ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2))
_MERGE_5_5: Pairs = (
    *((0, 5), (4, 9), (4, 5), (2, 7), (2, 4), (5, 7)),
    *((1, 6), (3, 8), (3, 6)),
    *((1, 2), (3, 4), (5, 6), (7, 8)),
)
_ORDER: Pairs = ((0, 1), (2, 3), (4, 5))


def _exchanged(values: Sequence[torch.Tensor], pairs: Pairs) -> list[torch.Tensor]:
    """Put pairs of places in order, at every pixel."""
    found = list(values)
    for i, k in pairs:
        found[i], found[k] = torch.minimum(found[i], found[k]), torch.maximum(found[i], found[k])
    return found


def _mirrored(planes: torch.Tensor) -> torch.Tensor:
    """Add two pixels around planes, mirrored including the edge."""
    for axis in (-2, -1):
        size = planes.shape[axis]
        at = torch.tensor([1, 0, *range(size), size - 1, size - 2], device=planes.device)
        planes = planes.index_select(axis, at)
    return planes


def _sixth_of_11(six: Sequence[torch.Tensor], five: Sequence[torch.Tensor]) -> torch.Tensor:
    """Median of sorted values: the smallest of the pairs' larger values."""
    smaller, larger = torch.minimum, torch.maximum
    a, b, c, d, e, f = six
    p, q, r, s, t = five
    low = smaller(larger(e, p), larger(d, q))
    high = smaller(larger(b, s), larger(a, t))
    return smaller(smaller(f, low), smaller(larger(c, r), high))


def median_5x5(planes: torch.Tensor) -> torch.Tensor:
    """Median of the 5 x 5 neighbourhood of planes (T, C, h, w), both sides at least 2."""
    # One after the other, because what is sorted takes the memory of some fifty planes.
    return torch.stack([_median(planes[:, c]) for c in range(planes.shape[1])], 1)


def _median(planes: torch.Tensor) -> torch.Tensor:
    height, width = planes.shape[-2:]
    around = _mirrored(planes)
    rows = _exchanged([around[..., k : k + width] for k in range(5)], _SORT_5)
    pairs = _exchanged(
        [row[..., k : k + height + 2, :] for k in (0, 1) for row in rows], _MERGE_5_5
    )
    first, second = ([pair[..., k : k + height, :] for pair in pairs] for k in (0, 2))
    # Of the first four rows, the six values that can be a median have ranks 8 to 13 of 20.
    odd = _exchanged([*first[::2], *second[::2]], _MERGE_5_5)
    even = _exchanged([*first[1::2], *second[1::2]], _MERGE_5_5)
    six = _exchanged((even[3], odd[4], even[4], odd[5], even[5], odd[6]), _ORDER)
    return _sixth_of_11(six, [row[..., 4:, :] for row in rows])
