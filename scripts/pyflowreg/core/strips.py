"""The memory layout of a level while it is solved.

A lexicographic sweep needs the new left and upper and the old right and lower neighbour, so the
points of one anti-diagonal are independent. A level is therefore cut into strips of as many rows as
a vector has lanes, and lane r of a strip is shifted to the right by r: the vector at position p
holds the points (r, p - r), all on one anti-diagonal. Its left neighbours are the vector at p - 1
and its upper ones the same, one lane further; so a sweep runs along a strip with everything new
still in registers.

All planes of one position lie next to each other (a record), which makes one stream of memory out
of many. In front of the first strip and after the last lies an unused one.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pyflowreg.core.jit import inline_kernel, inner_kernel, kernel
from pyflowreg.core.simd import (
    VECTOR_BYTES,
    Kernel,
    Vector,
    index,
    one_down,
    one_up,
    transposed,
    vector_code,
)

# Of NumPy: numba would compile `move_strip` for either constant of Python.
PACK, UNPACK = np.bool_(True), np.bool_(False)
"""Directions of `move_strip`."""


@inline_kernel()
def lanes_of(array):
    """Rows of a strip of the level that an array belongs to."""
    return VECTOR_BYTES // array.itemsize


@inline_kernel()
def strip_count(height, lanes):
    """Number of strips of a level."""
    return -(-height // lanes)


def level_size(height: int, width: int, lanes: int) -> int:
    """Numbers in one plane of a level, with what is read beyond its ends."""
    return ((-(-height // lanes) + 2) * (width + lanes) + 4 * lanes) * lanes


@inline_kernel()
def first_position(strip, width, lanes):
    """Position of column 0 in lane 0 of a strip."""
    return 2 * lanes + (strip + 1) * (width + lanes)


@inline_kernel()
def element(y, x, width, lanes, per_record, number):
    """Where a point of a plane lies; up to one pixel outside the frame."""
    strip = (y + lanes) // lanes - 1  # rounds down from -1, too
    lane = y - strip * lanes
    return ((first_position(strip, width, lanes) + x + lane) * per_record + number) * lanes + lane


class Neighbours(NamedTuple):
    """A vector of points and what lies around them."""

    centre: Vector
    left: Vector
    right: Vector
    up: Vector
    down: Vector


class Border(NamedTuple):
    """Masks of the lanes whose neighbour lies outside the frame, and of those inside.

    `left` and `right` are None where no lane is in the first or last column.
    """

    left: Any
    right: Any
    up: Any
    down: Any
    inside: Any

    def replace(self, found: Neighbours, outside: Vector) -> Neighbours:
        """Put another value where the neighbour lies outside."""
        pairs = zip(found[1:], (self.left, self.right, self.up, self.down), strict=True)
        around = [value if mask is None else outside.where(mask, value) for value, mask in pairs]
        return Neighbours(found.centre, *around)


@dataclass(frozen=True)
class Records:
    """Planes of a level, in a kernel that is being written.

    Parameters
    ----------
    kernel : Kernel
        Writes the operations.
    data : llvmlite.ir.Value
        Address of the first number.
    planes : llvmlite.ir.Value
        Planes per position.
    width : llvmlite.ir.Value
        Width of the level.
    """

    kernel: Kernel
    data: Any
    planes: Any
    width: Any

    def _address(self, position: Any, plane: Any) -> Any:
        builder = self.kernel.builder
        vector = builder.add(builder.mul(position, self.planes), plane)
        return self.kernel.offset(self.data, builder.mul(vector, index(self.kernel.lanes)))

    def load(self, position: Any, plane: Any, shift: int = 0) -> Vector:
        """Read a plane `shift` positions further on; `plane` is a number or a value."""
        place = self.kernel.builder.add(position, index(shift)) if shift else position
        return self.kernel.load(self._address(place, self._plane(plane)))

    def store(self, vector: Vector, position: Any, plane: Any) -> None:
        """Write a plane."""
        self.kernel.store(vector, self._address(position, self._plane(plane)))

    @staticmethod
    def _plane(plane: Any) -> Any:
        return index(plane) if isinstance(plane, int) else plane

    @property
    def pitch(self) -> Any:
        """Positions from one strip to the next."""
        return self.kernel.builder.add(self.width, index(self.kernel.lanes))

    def first(self, strip: Any) -> Any:
        """Position of column 0 in lane 0; see `first_position`."""
        builder = self.kernel.builder
        passed = builder.mul(builder.add(strip, index(1)), self.pitch)
        return builder.add(passed, index(2 * self.kernel.lanes))

    def above(self, position: Any, plane: int) -> Vector:
        """The vector of the strip above whose last lane lies above lane 0."""
        place = self.kernel.builder.sub(position, self.pitch)
        return self.load(place, plane, self.kernel.lanes - 1)

    def below(self, position: Any, plane: int) -> Vector:
        """The vector of the strip below whose first lane lies below the last lane."""
        place = self.kernel.builder.add(position, self.pitch)
        return self.load(place, plane, 1 - self.kernel.lanes)

    def neighbours(self, position: Any, plane: int, left: Vector | None = None) -> Neighbours:
        """Points and what lies around them; `left` if the vector before is known already."""
        before = self.load(position, plane, -1) if left is None else left
        after = self.load(position, plane, 1)
        return Neighbours(
            self.load(position, plane),
            before,
            after,
            one_down(self.above(position, plane), before),
            one_up(after, self.below(position, plane)),
        )


class Strip:
    """One strip of a level, in a kernel that is being written.

    Parameters
    ----------
    records : Records
        Any planes of the level.
    height : llvmlite.ir.Value
        Height of the level.
    number : llvmlite.ir.Value
        Which strip, from 0.
    """

    def __init__(self, records: Records, height: Any, number: Any) -> None:
        self._kernel = records.kernel
        self._width = records.width
        builder, lanes = self._kernel.builder, self._kernel.lanes
        self.first = records.first(number)
        self.length = builder.add(records.width, index(lanes - 1))
        self._rows = builder.sub(height, builder.mul(number, index(lanes)))
        self.is_first = builder.icmp_signed("==", number, index(0))
        self.is_last = builder.icmp_signed("<=", self._rows, index(lanes))
        top = builder.select(self.is_first, index(0), index(-1))
        # Made here, because they do not change along the strip.
        self._up = self._kernel.lanes_equal(self._kernel.lane_numbers, top)
        self._down = self._kernel.lanes_equal(
            self._kernel.lane_numbers, builder.sub(self._rows, index(1))
        )
        rows = self._kernel.lane_splat(self._rows)
        self._within = builder.icmp_signed("<", self._kernel.lane_numbers, rows)

    def border(self, position: Any) -> Border:
        """Masks at a position, counted from the beginning of the strip."""
        kernel, builder = self._kernel, self._kernel.builder
        columns = builder.sub(kernel.lane_splat(position), kernel.lane_numbers)
        width = kernel.lane_splat(self._width)
        # Unsigned: a column left of the frame is a very large number.
        inside = builder.and_(self._within, builder.icmp_unsigned("<", columns, width))
        last = builder.sub(self._width, index(1))
        return Border(
            kernel.lanes_equal(columns, index(0)),
            kernel.lanes_equal(columns, last),
            self._up,
            self._down,
            inside,
        )

    def rows_border(self) -> Border:
        """Masks at positions whose lanes are all neither in the first nor in the last column."""
        return Border(None, None, self._up, self._down, self._within)


def along(
    kernel: Kernel, strips: list[Strip], step: Callable[[Any, list[Border] | None], None]
) -> None:
    """Write a loop along strips of one level, all at the same position.

    Parameters
    ----------
    kernel : Kernel
        Writes the operations.
    strips : list of Strip
        The strips.
    step : callable
        Called with the position, counted from the beginning of the strip, and the masks of every
        strip; without masks where every lane of every strip has all its neighbours.
    """
    builder = kernel.builder
    length = strips[0].length
    rim = index(0)
    for strip in strips:
        rim = builder.select(builder.or_(strip.is_first, strip.is_last), index(1), rim)
    begin = kernel.smaller(index(kernel.lanes), length)
    end = kernel.larger(begin, builder.sub(length, index(kernel.lanes)))
    # Twice: both ends in one piece of code, which takes half as long to compile as two.
    with kernel.loop(index(0), index(2)) as part:
        is_first = builder.icmp_signed("==", part, index(0))
        start = builder.select(is_first, index(0), end)
        stop = builder.select(is_first, begin, length)
        with kernel.loop(start, stop) as position:
            step(position, [strip.border(position) for strip in strips])
        away = builder.icmp_signed("==", rim, index(0))
        with builder.if_then(is_first), builder.if_else(away) as (inner, outer):
            with inner, kernel.loop(begin, end) as position:
                step(position, None)
            with outer, kernel.loop(begin, end) as position:
                step(position, [strip.rows_border() for strip in strips])


@vector_code
def _pack_square(kernel, records, plane, planes, number, position, source, stride):
    """Copy a square of a row-major plane, skewed; its first point is plane[source]."""
    rows = kernel.offset(plane, source)
    target = Records(kernel, records, planes, index(0))
    # One row down and one column to the left.
    step = kernel.builder.sub(stride, index(1))
    lines = []
    for _ in range(kernel.lanes):
        lines.append(kernel.load(rows))
        rows = kernel.offset(rows, step)
    for shift, vector in enumerate(transposed(lines)):
        target.store(vector, kernel.builder.add(position, index(shift)), number)


@vector_code
def _unpack_square(kernel, records, plane, planes, number, position, source,
                   stride):  # fmt: skip
    """Copy a skewed square back to a row-major plane."""
    rows = kernel.offset(plane, source)
    origin = Records(kernel, records, planes, index(0))
    step = kernel.builder.sub(stride, index(1))
    vectors = [origin.load(position, number, shift) for shift in range(kernel.lanes)]
    for line in transposed(vectors):
        kernel.store(line, rows)
        rows = kernel.offset(rows, step)


@inline_kernel()
def _squares_end(strip, height, width, lanes):
    """Position up to which a strip is made of whole squares."""
    if (strip + 1) * lanes > height:
        return lanes - 1
    return lanes - 1 + max(width - lanes + 1, 0) // lanes * lanes


@inner_kernel()
def move_strip(planes, origin, stride, size, count, height, width, records, per_record, number,
               strip, direction):  # fmt: skip
    """Copy one strip of row-major planes to the planes from `number` on of records, or back.

    planes : flat; row y of plane k begins at `origin + k size + y stride`. In records, points
    outside the frame become 0.
    """
    lanes = lanes_of(records)
    zero = records.dtype.type(0)
    first = first_position(strip, width, lanes)
    end = _squares_end(strip, height, width, lanes)
    top = origin + strip * lanes * stride
    for p in range(lanes - 1, end, lanes):
        # All planes of a record at once: it is written to memory once.
        for k in range(count):
            source = top + k * size + p
            if direction:
                _pack_square(records, planes, per_record, number + k, first + p, source, stride)
            else:
                _unpack_square(records, planes, per_record, number + k, first + p, source, stride)
    for p in range(width + lanes - 1):
        if p >= lanes - 1 and p < end:
            continue
        for k in range(count):
            place = ((first + p) * per_record + number + k) * lanes
            for lane in range(lanes):
                x = p - lane
                inside = strip * lanes + lane < height and x >= 0 and x < width
                source = top + k * size + lane * stride + x
                if direction:
                    records[place + lane] = planes[source] if inside else zero
                elif inside:
                    planes[source] = records[place + lane]


@kernel()
def pack(planes, origin, stride, size, count, height, width, records, per_record, number):
    """Copy row-major planes to records; see `move_strip`."""
    for strip in range(strip_count(height, lanes_of(records))):
        move_strip(planes, origin, stride, size, count, height, width, records, per_record,
                   number, strip, PACK)  # fmt: skip


@kernel()
def unpack(records, per_record, number, planes, origin, stride, size, count, height, width):
    """Copy records to row-major planes; see `move_strip`."""
    for strip in range(strip_count(height, lanes_of(records))):
        move_strip(planes, origin, stride, size, count, height, width, records, per_record,
                   number, strip, UNPACK)  # fmt: skip


@inner_kernel()
def pack_rim(planes, height, width, records, per_record, number):
    """Copy what lies one pixel around the frame, corners left out, to the lanes outside it.

    planes : (n, H + 2, W + 2); go to the planes from `number` on.
    """
    lanes = lanes_of(records)
    for k in range(planes.shape[0]):
        plane = planes[k]
        for y in range(height):
            records[element(y, -1, width, lanes, per_record, number + k)] = plane[y + 1, 0]
            records[element(y, width, width, lanes, per_record, number + k)] = plane[
                y + 1, width + 1
            ]
        for x in range(width):
            records[element(-1, x, width, lanes, per_record, number + k)] = plane[0, x + 1]
            records[element(height, x, width, lanes, per_record, number + k)] = plane[
                height + 1, x + 1
            ]
