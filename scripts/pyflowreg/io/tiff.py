"""Recordings in one TIFF file: plain pages, BigTIFF, ImageJ, OME, ScanImage; reading and writing.

tifffile finds the pages and their meaning; frames are then read page by page or, when the values
lie one after the other and uncompressed, straight from their place in the file. The latter also
serves ImageJ stacks beyond 4 GB, which describe only their first page.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from pyflowreg.errors import InputError
from pyflowreg.io import scanimage
from pyflowreg.io.axes import canonical_shape, guess_axes, to_canonical, user_axes
from pyflowreg.io.base import (
    ALLOWED_DTYPES,
    BaseReader,
    Frames,
    InputOptions,
    Shape4,
    check_dtype,
    show_shape,
)
from pyflowreg.io.storage import StoredWriter
from pyflowreg.io.tiff_checks import DAMAGE, check_descriptions, check_jpeg, check_page, other_files
from pyflowreg.io.tiff_pages import doubtful_pages, first_missing_page

logger = logging.getLogger(__name__)

# The shape that tifffile notes in the description of the first page of a series.
_OWN_SHAPE = re.compile(r'"shape": *(\[[0-9, ]+\])')


class _Demote(logging.Filter):
    """Passes tifffile's remarks on to this module at level DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        logger.debug("tifffile: %s", record.getMessage())
        return False


@contextlib.contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep remarks on odd tags out of the log; what matters is checked and raised here."""
    source, demote = logging.getLogger("tifffile"), _Demote()
    source.addFilter(demote)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        source.removeFilter(demote)


class TiffReader(BaseReader):
    """Recording in one TIFF file.

    Parameters
    ----------
    path : Path
        The file.
    options : InputOptions
        Axes, interleaved channels, channels to keep.
    part : bool
        The file is one part of a folder: a multi-file OME header is then ignored, the pages of
        this file are read.
    """

    def __init__(self, path: Path, options: InputOptions, part: bool = False) -> None:
        super().__init__(path, options)
        self._size = path.stat().st_size
        with quiet_tifffile():
            self._tif = self._open_file(part)
            try:
                self._find_frames()
            except DAMAGE as error:
                self._tif.close()
                raise error if isinstance(error, InputError) else self._damaged(error) from error
        self._file = path.open("rb") if self._offset is not None else None

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.path} cannot be read as TIFF: {error}. Copy or export it again")

    def _open_file(self, part: bool) -> Any:
        try:
            tif = tifffile.TiffFile(self.path, _multifile=False)
        except DAMAGE as error:
            raise self._damaged(error) from error
        if len(tif.pages) == 0:
            tif.close()
            raise InputError(f"{self.path} has no readable page: it is truncated or empty")
        try:
            check_descriptions(self.path, tif)
            if tif.is_ome and other_files(self.path, tif.pages.first.description):
                if not part:
                    raise InputError(
                        f"{self.path} is one part of an OME-TIFF in several files. Put the parts "
                        "into a folder of their own and give that folder as the recording"
                    )
                tif.is_ome = False
        except DAMAGE as error:
            tif.close()
            raise error if isinstance(error, InputError) else self._damaged(error) from error
        return tif

    def _find_frames(self) -> None:
        """Learn which pages, axes and place in the file make up the movie."""
        self._check_imagej()
        self._check_page_chain()
        self._pages, axes, shape, dtype, self._offset = self._choose_series()
        channels = self.options.n_channels
        saved = scanimage.saved_channels(self._tif) if self._tif.is_scanimage else None
        if saved is not None and self.options.axes is None:
            page = self._pages[0]
            axes = "T" + page.axes
            shape = (len(self._pages), *page.shape)
            scanimage.check_single_plane(self.path, self._tif)
            channels = channels or saved
        self._letters = (
            user_axes(self.path, self.options.axes, shape)
            if self.options.axes is not None
            else guess_axes(self.path, axes, shape)
        )
        self._stored = shape
        self._page_values = math.prod(self._pages[0].shape)
        self._raw_dtype = np.dtype(dtype).newbyteorder(self._tif.byteorder)
        self._set_layout(canonical_shape(self._letters, shape), np.dtype(dtype), channels)
        time = self._letters.find("T")
        self._before = math.prod(shape[:time]) if time >= 0 else 1
        self._after = math.prod(shape[time + 1 :]) if time >= 0 else math.prod(shape)
        if self._offset is None and self._after % self._page_values:
            raise InputError(
                f"{self.path}: the time axis of {show_shape(shape)} lies inside a page of "
                f"{show_shape(self._pages[0].shape)}. Correct input_options.axes"
            )
        self._check_last_page()

    def _check_imagej(self) -> None:
        """Refuse an ImageJ stack with less data than its header promises.

        tifffile would fall back to the one page that has a header.
        """
        meta = self._tif.imagej_metadata if self._tif.is_imagej else None
        if not meta or self._tif.pages.is_multipage:
            return
        page = self._tif.pages.first
        images = int(meta.get("images", 1))
        end = page.dataoffsets[0] + images * page.nbytes
        if images > 1 and page.is_final and end > self._size:
            whole = (self._size - page.dataoffsets[0]) // page.nbytes
            raise InputError(
                f"{self.path} is truncated: its header promises {images} frames, the data end in "
                f"frame {whole} (counted from 0). Copy or export it again"
            )

    def _check_page_chain(self) -> None:
        """Refuse a file whose list of pages goes on beyond its end."""
        missing = first_missing_page(self.path)
        if missing is None:
            return
        page = self._tif.pages.first
        layout = self._tif.shaped_metadata if missing == 1 and page.is_final else None
        if layout:
            # The page headers stood behind the values, which tell in which frame the file ends.
            declared = math.prod(layout[0]["shape"]) // math.prod(page.shape)
            whole = (self._size - page.dataoffsets[0]) // page.nbytes
            missing = max(1, min(whole, declared - 1))
        raise InputError(
            f"{self.path} is truncated: frame {missing} (counted from 0) or its header lies beyond "
            "the end of the file. Copy or export it again"
        )

    def _choose_series(self) -> tuple[Any, str, tuple[int, ...], Any, int | None]:
        """Pages, axes, shape, dtype and offset (None if not contiguous) of the movie."""
        tif = self._tif
        if not self._is_page_per_series():
            series = tif.series
            self._check_own_pages(series)
            if len(series) == 1:
                one = series[0]
                return one.pages, one.axes, tuple(one.shape), one.dtype, one.dataoffset
        # Frames that were appended one by one, or several images of different size.
        first, pages = tif.pages.first, tif.pages
        self._check_same_layout()
        return pages, "I" + first.axes, (len(pages), *first.shape), first.dtype, None

    def _is_page_per_series(self) -> bool:
        """Whether tifffile wrote each page as an image of its own.

        It would make a series of every page, keep them all, and take the square of their number.
        """
        tif = self._tif
        if not tif.is_shaped or tif.is_ome or tif.is_imagej or tif.is_scanimage:
            return False
        first = tif.pages.first
        # Not `shaped_metadata`, which asks for the series.
        described = _OWN_SHAPE.search(first.shaped_description)
        if not described or math.prod(json.loads(described[1])) != math.prod(first.shape):
            return False
        second = tif.pages.get(1, aspage=True) if tif.pages.is_multipage else None
        return second is not None and second.is_shaped

    def _check_same_layout(self) -> None:
        """Refuse pages of differing shape or type; read them all by the first page's header."""
        pages, first = self._tif.pages, self._tif.pages.first
        alike = True
        for index in doubtful_pages(self.path, len(pages)):
            page = pages.get(index, aspage=True)
            if page.shape != first.shape or page.dtype != first.dtype:
                raise InputError(
                    f"{self.path}: page {index} is {show_shape(page.shape)} {page.dtype}, page 0 "
                    f"is {show_shape(first.shape)} {first.dtype} (counted from 0). All frames of "
                    "a recording need the same shape and type"
                )
            alike = alike and page.hash == first.hash
        pages.set_keyframe(0)
        pages.useframes = alike

    def _check_own_pages(self, series: list[Any]) -> None:
        """Refuse an OME-TIFF that lacks pages."""
        if not self._tif.is_ome:
            return
        for one in series:
            missing = sum(page is None for page in one.pages)
            if missing:
                raise InputError(
                    f"{self.path} is incomplete: its OME header promises {len(one.pages)} pages, "
                    f"{missing} are missing. Export it again"
                )

    def _check_last_page(self) -> None:
        """Refuse a file that ends before its last page does (nothing is decoded)."""
        if self._offset is not None:
            end = self._offset + math.prod(self._stored) * self._raw_dtype.itemsize
        else:
            last = self._pages[len(self._pages) - 1]
            check_page(self.path, last, self.shape[0] - 1)
            offsets, counts = last.dataoffsets, last.databytecounts
            if not offsets or len(offsets) != len(counts):
                raise InputError(
                    f"{self.path}: frame {self.shape[0] - 1} (counted from 0) has no data. The "
                    "file is incomplete: copy or export it again"
                )
            end = max(o + n for o, n in zip(offsets, counts, strict=True))
        if end > self._size:
            raise InputError(
                f"{self.path} is truncated: frame {self.shape[0] - 1} (counted from 0) ends at "
                f"byte {end}, the file has {self._size}. Copy or export it again"
            )

    def _read_stored(self, start: int, stop: int) -> Frames:
        time = self._letters.find("T")
        count, steps = stop - start, self._stored[time] if time >= 0 else 1
        parts = [
            self._read_values((k * steps + start) * self._after, count * self._after)
            for k in range(self._before)
        ]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        shape = list(self._stored)
        if time >= 0:
            shape[time] = count
        return to_canonical(values.reshape(shape), self._letters)

    def _frame_of(self, value: int) -> int:
        """Number of the frame, as the user counts, that holds a stored value."""
        time = self._letters.find("T")
        steps = self._stored[time] if time >= 0 else 1
        return (value // self._after) % steps // self._interleaved

    def _read_values(self, first: int, count: int) -> Frames:
        """Read `count` values of the movie from number `first` on, flat."""
        if self._file is None:
            return self._read_pages(first // self._page_values, count // self._page_values)
        assert self._offset is not None
        self._file.seek(self._offset + first * self._raw_dtype.itemsize)
        try:
            values: Frames = np.fromfile(self._file, self._raw_dtype, count)
        except OSError as error:
            frame = self._frame_of(first)
            raise InputError(
                f"{self.path}: frames from {frame} on cannot be read: {error}"
            ) from error
        if values.size < count:
            frame = self._frame_of(first + values.size)
            raise InputError(
                f"{self.path}: frame {frame} (counted from 0) is incomplete. The file became "
                "shorter while it was read"
            )
        return values

    def _read_pages(self, first: int, count: int) -> Frames:
        out = np.empty((count, self._page_values), self.dtype)
        for k in range(count):
            frame = self._frame_of((first + k) * self._page_values)
            try:
                page = self._pages[first + k]
                check_page(self.path, page, frame)
                check_jpeg(self.path, page, frame)
                out[k] = page.asarray(maxworkers=1).reshape(-1)
            except DAMAGE as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"{self.path}: frame {frame} (counted from 0) cannot be decoded ({error}). "
                    "The file is damaged: copy or export it again"
                ) from error
        return out.reshape(-1)

    def close(self) -> None:
        """Release the file."""
        self._tif.close()
        if self._file is not None:
            self._file.close()


class TiffImage(TiffReader):
    """A single image in one TIFF file, also of types that recordings do not have."""

    dtypes = (*ALLOWED_DTYPES, "bool", "int8", "uint32", "int32", "uint64", "int64", "float16")


class TiffWriter(StoredWriter):
    """One page per frame, C samples per pixel; BigTIFF when classic TIFF would be too small.

    The samples of a page are stored one channel after the other (planar), which ImageJ opens for
    any number of channels. The axes and the shape stand in the description of the first page.
    """

    def _open(self, temporary: list[Path]) -> None:
        file: Any = self._make_storage(temporary[0])
        self._tif = tifffile.TiffWriter(file, bigtiff=needs_bigtiff(self.shape, self.dtype))
        frames, height, width, channels = self.shape
        layout = {"shape": [frames, height, width], "axes": "TYX"}
        if channels > 1:
            layout = {"shape": [frames, channels, height, width], "axes": "TCYX"}
        self._description: str | None = json.dumps(layout)

    def _payloads(self, frame: Frames) -> list[Frames]:
        page = frame.transpose(2, 0, 1) if self.shape[3] > 1 else frame[..., 0]
        return [np.ascontiguousarray(page)]

    def _blank(self, values: NDArray[np.uint8]) -> Frames:
        _, height, width, channels = self.shape
        page = (channels, height, width) if channels > 1 else (height, width)
        return values.view(self.dtype).reshape(page)

    def _put(self, stream: int, number: int, payload: Frames) -> None:
        self._tif.write(
            payload,
            photometric="minisblack",
            planarconfig="separate" if self.shape[3] > 1 else None,
            contiguous=True,
            metadata=None,
            description=self._description,
        )
        self._description = None

    def _payload_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _close(self) -> None:
        self._tif.close()
        self._storage.finish()


def needs_bigtiff(shape: Shape4, dtype: np.dtype[Any]) -> bool:
    """Whether a movie (T, H, W, C) passes the 4 GB that a classic TIFF can address."""
    values = math.prod(shape) * check_dtype(Path("output"), dtype).itemsize
    per_page = 256 + 16 * shape[3]  # its tags
    return values + shape[0] * per_page > 2**32 - 2**20
