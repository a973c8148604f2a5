"""Resampling of planes on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.cuda.device import DeviceArray, Stream
from pyflowreg.core.cuda.grid import THREADS, parts, suffix
from pyflowreg.core.pyramid import resize_tables

Arrays = dict[str, DeviceArray]


@dataclass(frozen=True)
class Resizing:
    """How planes are brought from one size to another.

    Parameters
    ----------
    source, target : tuple of int
        Heights and widths.
    kind : dtype
        Type of the computation and of the result.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    kind: np.dtype[Any]

    def tables(self, name: str) -> dict[str, NDArray[Any]]:
        """Taps and weights, under names that begin with `name`."""
        keys = ("rows", "row_weights", "columns", "column_weights")
        found = resize_tables(self.source, self.target, self.kind)
        return {
            f"{name} {key}": table.astype(np.int32) if table.dtype.kind == "i" else table
            for key, table in zip(keys, found, strict=True)
        }

    @property
    def middle(self) -> int:
        """Numbers of a plane between the two passes."""
        return self.target[0] * self.source[1]

    def enqueue(
        self,
        stream: Stream,
        planes: DeviceArray,
        varying: DeviceArray,
        tables: Arrays,
        name: str,
        middle: DeviceArray,
        out: DeviceArray,
    ) -> None:
        """Resize planes (n, h, w) to `out`.

        Parameters
        ----------
        stream : Stream
            Where the work is queued.
        planes, varying : DeviceArray
            Planes (n, h, w), and what `mark_varying` says about them.
        tables : dict of str to DeviceArray
            Holds the tables of this object.
        name : str
            Their name.
        middle : DeviceArray
            Bytes for what lies between the two passes.
        out : DeviceArray
            Receives planes (n, h, w).
        """
        (rows, columns), (height, width) = self.source, self.target
        count = planes.shape[0]
        kinds = f"{suffix(planes.dtype)}_{suffix(self.kind)}"
        between = middle.viewed((count, height, columns), self.kind)
        down, across = tables[f"{name} rows"], tables[f"{name} columns"]
        stream.launch(
            f"resize_down_{kinds}", (parts(height * columns), count), THREADS,
            planes, rows, columns, height, down, tables[f"{name} row_weights"], down.shape[1],
            between,
        )  # fmt: skip
        stream.launch(
            f"resize_across_{kinds}", (parts(height * width), count), THREADS,
            planes, rows * columns, varying, between, columns, height, width, across,
            tables[f"{name} column_weights"], across.shape[1], out,
        )  # fmt: skip


def mark_varying(
    stream: Stream, planes: DeviceArray, kind: np.dtype[Any], varying: DeviceArray
) -> None:
    """Tell which planes (n, h, w) are not constant, once they are rounded to a type."""
    count, height, width = planes.shape
    stream.clear(varying)
    stream.launch(
        f"mark_varying_{suffix(planes.dtype)}_{suffix(kind)}", (parts(height * width), count),
        THREADS, planes, height * width, varying,
    )  # fmt: skip
