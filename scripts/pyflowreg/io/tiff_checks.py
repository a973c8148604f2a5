"""What a TIFF file asks tifffile and the decoders to do, looked at before they do it.

tifffile trusts what a file says of itself: it opens other files that are named in it, makes lists
as long as they are announced, and hands pixels to whatever decoder is asked for.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path
from typing import Any

import tifffile

from pyflowreg.errors import InputError
from pyflowreg.io.safety import PARSER_ERRORS, check_frame

# What damaged tags, page lists and compressed data make tifffile and the codecs raise.
# imagecodecs' errors and TiffFileError derive from RuntimeError and ValueError.
DAMAGE = (*PARSER_ERRORS, tifffile.TiffFileError, zlib.error)
# Kinds of files by other makers than of two-photon microscopes, and two that consist of several.
_OTHER_KINDS = (
    "avs", "bif", "eer", "indica", "mdgel", "mmstack", "ndpi", "ndtiff", "nih", "philips", "qpi",
    "scn", "sis", "svs",
)  # fmt: skip
# Decoders that are told how much they may write: none, LZW, deflate, PackBits, LZMA, Zstandard.
_BOUNDED = frozenset((1, 5, 8, 32773, 32946, 34925, 34926, 50000, 50013))
_JPEG = frozenset((7, 33007))
_MOST_PLANES = 10_000_000
_MOST_AXES = 32
_OWN_SHAPE = re.compile(r'"shape": *\[([^]]*)')
_PLANES = re.compile(r"<(?:\w+:)?TiffData\b([^>]*)>")
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b([^>]*)>")
_MODULO = re.compile(r"<(?:\w+:)?ModuloAlong\w\b([^>]*)>")
_ROOT = re.compile(r"<(?:\w+:)?OME\b[^>]*\bUUID\s*=\s*[\"']([^\"']*)")
_FILE = re.compile(r"<(?:\w+:)?UUID\b([^>]*)>([^<]*)")
_STEPS = ("Start", "End", "Step")
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


def check_descriptions(path: Path, tif: Any) -> None:
    """Refuse a file whose description makes tifffile do too much, or look at other files.

    Parameters
    ----------
    path : Path
        The file.
    tif : tifffile.TiffFile
        Open, with its first page read. What it should not be taken for is switched off.

    Raises
    ------
    InputError
        If the description cannot be true.
    """
    for kind in _OTHER_KINDS:
        setattr(tif, f"is_{kind}", False)
    first = tif.pages.first
    shaped = first.shaped_description
    for numbers in _OWN_SHAPE.findall(shaped) if shaped else ():
        if numbers.count(",") >= _MOST_AXES or len(numbers) > 20 * _MOST_AXES:
            raise InputError(f"{path} is damaged: its description has a shape that cannot be")
    if tif.is_ome:
        _check_ome(path, first.description, len(tif.pages))


def _check_ome(path: Path, text: str, pages: int) -> None:
    planes = 0
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it defines entities")  # noqa: TRY301
        for found in _PLANES.finditer(text):
            entry = _numbers(found[1])
            count = entry.get("PlaneCount", entry.get("NumPlanes", 1 if "IFD" in entry else pages))
            planes += max(count, 1)
            first = (entry.get(f"First{axis}", 0) for axis in "CTZ")
            if max(planes, *first) > _MOST_PLANES or min(entry.values(), default=0) < 0:
                raise ValueError("it announces more pages than any file has")  # noqa: TRY301
        for found in _PIXELS.finditer(text):
            entry = _numbers(found[1])
            sizes = [entry.get(f"Size{axis}", 1) for axis in "CTZ"]
            if min(sizes) < 1 or math.prod(sizes) > _MOST_PLANES:
                raise ValueError(f"it announces {math.prod(sizes)} pages")  # noqa: TRY301
        for found in _MODULO.finditer(text):
            steps = {
                key: float(value) for key, value in _entries(found[1]).items() if key in _STEPS
            }
            span = abs(steps.get("End", 0) - steps.get("Start", 0))
            if not span / abs(steps.get("Step", 1)) < _MOST_PLANES:
                raise ValueError("an axis has too many steps")  # noqa: TRY301
    except (ValueError, ArithmeticError) as error:
        raise InputError(
            f"{path}: its OME description cannot be true ({error}). Export it again"
        ) from error


def _entries(attributes: str) -> dict[str, str]:
    return {name: one or other for name, one, other in _ATTRIBUTE.findall(attributes)}


def _numbers(attributes: str) -> dict[str, int]:
    """Attributes that are whole numbers; ValueError for one that should be but is not."""
    return {
        name: int(value)
        for name, value in _entries(attributes).items()
        if name.startswith(("First", "Size", "Plane", "NumPlanes", "IFD"))
    }


def check_page(path: Path, page: Any, number: int) -> None:
    """Refuse a page that cannot be decoded within the size that its header gives.

    Parameters
    ----------
    path : Path
        The file.
    page : tifffile.TiffPage or TiffFrame
        The page.
    number : int
        Its frame, counted from 0, for the message.

    Raises
    ------
    InputError
        If its compression is not supported, its strips or tiles are too large, or some are missing.
    """
    key = page.keyframe
    compression = int(key.compression)
    if compression not in _BOUNDED | _JPEG:
        name = getattr(key.compression, "name", compression)
        raise InputError(
            f"{path} is compressed with {name}, which is not supported. Save it uncompressed, or "
            "with LZW, deflate (ZIP) or Zstandard"
        )
    itemsize = max(key.dtype.itemsize, 1)
    check_frame(path, "a page", key.shaped, itemsize)
    pieces = math.prod(key.chunked)
    check_frame(path, "a strip or tile", key.chunks, itemsize)
    if min(len(page.dataoffsets), len(page.databytecounts)) < (1 if key.is_contiguous else pieces):
        raise InputError(
            f"{path}: frame {number} (counted from 0) has {len(page.dataoffsets)} of {pieces} "
            "strips or tiles. The file is incomplete: copy or export it again"
        )


def check_jpeg(path: Path, page: Any, number: int) -> None:
    """Refuse a page with an embedded JPEG that is larger than the page; it is decoded as a whole.

    Parameters
    ----------
    path : Path
        The file.
    page : tifffile.TiffPage or TiffFrame
        The page.
    number : int
        Its frame, counted from 0, for the message.

    Raises
    ------
    InputError
        If one is larger, or has no size.
    """
    key = page.keyframe
    if int(key.compression) not in _JPEG:
        return
    most = math.prod(key.chunks)
    file = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        size = _jpeg_values(file.read(count))
        if size is None or size > 4 * most + 2**20:
            raise InputError(
                f"{path}: frame {number} (counted from 0) cannot be decoded (its JPEG has {size} "
                f"values, not {most}). The file is damaged: copy or export it again"
            )


def _jpeg_values(data: bytes) -> int | None:
    """Largest number of values that a JPEG stream announces; None if it announces none."""
    sizes = []
    # Any marker that looks like the start of a frame counts: there may be several.
    for found in re.finditer(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf](?s:.{8})", data):
        height, width = (int.from_bytes(found[0][k : k + 2], "big") for k in (5, 7))
        sizes.append(height * width * max(found[0][9], 1))
    return max(sizes, default=None)


def other_files(path: Path, text: str) -> bool:
    """Whether OME metadata describe more than the file they are in."""
    if "<BinaryOnly" in text:
        return True
    root = _ROOT.search(text)
    uuid = root[1] if root else None
    names = set()
    for attributes, own in _FILE.findall(text):
        name = _entries(attributes).get("FileName", "")
        names.add(name)
        # Another name is no matter if only the file was renamed.
        if uuid != own.strip() and name.lower() != path.name.lower():
            return True
    return len(names) > 1
