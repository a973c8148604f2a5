"""The chain of page headers of a TIFF file, followed without reading tags or values."""

from __future__ import annotations

import struct
from pathlib import Path

from pyflowreg.errors import InputError


def first_missing_page(path: Path) -> int | None:
    """Find where the chain of page headers leaves the file.

    tifffile ends the list of pages there without an error, so a truncated file would pass for a
    shorter recording.

    Parameters
    ----------
    path : Path
        A file that starts like a TIFF.

    Returns
    -------
    int or None
        Number of the first page, counted from 0, whose header does not lie within the file;
        None if the chain is complete. Classic TIFF files beyond 4 GB are not followed: they come
        from old acquisition software whose offsets cannot be trusted, and from ImageJ, which
        writes a single page header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        if not big and size >= 2**32:
            return None
        offset_format, count_format = (
            (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
        )
        offset_size, count_size, tag_size = (8, 8, 20) if big else (4, 2, 12)
        link = head[8:16] if big else head[4:8]
        seen: set[int] = set()
        while True:
            if len(link) < offset_size:
                return len(seen)
            offset = struct.unpack(offset_format, link)[0]
            if offset == 0:
                return None
            if offset in seen:
                raise InputError(
                    f"{path} is damaged: the header after frame {len(seen) - 1} (counted from 0) "
                    "is that of an earlier frame. Copy or export it again"
                )
            file.seek(offset)
            count = file.read(count_size)
            if len(count) < count_size:
                return len(seen)
            end = offset + count_size + struct.unpack(count_format, count)[0] * tag_size
            if end + offset_size > size:
                return len(seen)
            seen.add(offset)
            file.seek(end)
            link = file.read(offset_size)
