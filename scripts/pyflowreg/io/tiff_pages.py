"""The chain of page headers of a TIFF file, followed without reading values."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyflowreg.errors import InputError

# Tags that decide how the values of a page are understood: size, type, compression, samples,
# strips, tiles, predictor; not where they are.
_LAYOUT = frozenset(
    (256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 347, 32997, 32998)
)
_SUB_PAGES = 330
_MOST_TAGS = 2**16


def _page_tags(path: Path) -> Iterator[dict[int, bytes] | None]:
    """Yield the tag entries of each page as stored, by code; None for a header not in the file.

    Classic TIFF files beyond 4 GB are not followed: they come from old acquisition software whose
    offsets cannot be trusted, and from ImageJ, which writes a single page header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        if not big and size >= 2**32:
            return
        offset_format, count_format = (
            (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
        )
        offset_size, count_size, tag_size = (8, 8, 20) if big else (4, 2, 12)
        link = head[8:16] if big else head[4:8]
        seen: set[int] = set()
        total = 0
        while True:
            if len(link) < offset_size:
                yield None
                return
            offset = struct.unpack(offset_format, link)[0]
            if offset == 0:
                return
            if offset in seen:
                raise InputError(
                    f"{path} is damaged: the header after frame {len(seen) - 1} (counted from 0) "
                    "is that of an earlier frame. Copy or export it again"
                )
            file.seek(offset)
            count = file.read(count_size)
            length = (
                struct.unpack(count_format, count)[0] * tag_size if len(count) == count_size else 0
            )
            if len(count) < count_size or offset + count_size + length + offset_size > size:
                yield None
                return
            seen.add(offset)
            total += length
            if total > size:
                raise InputError(f"{path} is damaged: the headers of its pages overlap")
            tags, link = file.read(length), file.read(offset_size)
            yield {
                struct.unpack_from(f"{order}H", tags, start)[0]: tags[start : start + tag_size]
                for start in range(0, length, tag_size)
            }


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
        None if the chain is complete, or is not followed (classic TIFF beyond 4 GB).

    Raises
    ------
    InputError
        If the chain goes in circles, headers overlap, or pages below pages have some themselves.
    """
    below = _SubPages(path)
    for page, tags in enumerate(_page_tags(path)):
        if tags is None:
            return page
        if _SUB_PAGES in tags:
            below.check(tags[_SUB_PAGES])
    return None


def doubtful_pages(path: Path, pages: int) -> list[int]:
    """Find pages whose header does not show at once that they are laid out as the first page.

    Parameters
    ----------
    path : Path
        A TIFF file whose chain of page headers is complete.
    pages : int
        How many pages it has.

    Returns
    -------
    list of int
        Their numbers, counted from 0. A page that is not listed has the size, type and
        compression of the first; the others have to be looked at.
    """
    first, doubtful, count = None, [], 0
    for count, tags in enumerate(filter(None, _page_tags(path)), start=1):
        layout = {code: entry for code, entry in tags.items() if code in _LAYOUT}
        first = first or layout
        if layout != first:
            doubtful.append(count - 1)
    return doubtful if count == pages else list(range(1, pages))


class _SubPages:
    """Refuses a file whose pages have pages below them that have some as well.

    tifffile follows every way down. Two links on each of fifty levels are 2**50 ways.

    Parameters
    ----------
    path : Path
        A file that starts like a TIFF.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[int] = set()

    def check(self, entry: bytes) -> None:
        """Look at the list of pages below a page, as its tag gives it."""
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            head = file.read(4)
            order = "<" if head[:2] == b"II" else ">"
            layout = _Layout(order, struct.unpack(f"{order}H", head[2:4])[0] == 43)
            for offset in layout.offsets(file, entry, size):
                if offset not in self._seen and _SUB_PAGES in layout.codes(file, offset):
                    raise InputError(f"{self._path}: its pages have pages on more than one level")
                self._seen.add(offset)


@dataclass(frozen=True)
class _Layout:
    """How a file stores its tags: byte order, and whether it is a BigTIFF."""

    order: str
    big: bool

    def offsets(self, file: IO[bytes], entry: bytes, size: int) -> tuple[int, ...]:
        """Values of a tag of offsets."""
        head = "HHQ" if self.big else "HHI"
        _, kind, count = struct.unpack_from(f"{self.order}{head}", entry)
        code = {4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
        length = count * struct.calcsize(f"={code}") if code else size + 1
        if length > size:
            raise InputError(f"{file.name} is damaged: a list of pages lies beyond its end")
        place = entry[struct.calcsize(f"={head}") :]
        if length > len(place):
            file.seek(struct.unpack(f"{self.order}{'Q' if self.big else 'I'}", place)[0])
            place = file.read(length)
        if len(place) < length:
            raise InputError(f"{file.name} is damaged: a list of pages lies beyond its end")
        return struct.unpack_from(f"{self.order}{count}{code}", place)

    def codes(self, file: IO[bytes], offset: int) -> set[int]:
        """Codes of the tags of the page whose header is at `offset`."""
        file.seek(offset)
        head, tag_size = ("Q", 20) if self.big else ("H", 12)
        count = file.read(struct.calcsize(f"={head}"))
        if len(count) < struct.calcsize(f"={head}"):
            return set()
        number = min(struct.unpack(f"{self.order}{head}", count)[0], _MOST_TAGS)
        tags = file.read(number * tag_size)
        return {
            struct.unpack_from(f"{self.order}H", tags, start)[0]
            for start in range(0, len(tags) - 1, tag_size)
        }
