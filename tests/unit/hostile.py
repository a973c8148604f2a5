"""Files made to do harm: small ones that stand for gigabytes, go in circles or lead elsewhere."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

ZEROS = 128 * 2**20
FRAME = (24, 32)


def _zeros(compress: Any) -> bytes:
    """So many zeros, compressed piece by piece."""
    piece = bytes(2**20)
    return b"".join(compress.compress(piece) for _ in range(ZEROS // len(piece))) + compress.flush()


def _entry(code: int, kind: int, count: int, value: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHII", code, kind, count, value)


def _header(tags: dict[int, tuple[int, int, int]], link: int) -> bytes:
    """A page header: tags by code as (type, count, value or offset), and the next header."""
    entries = b"".join(_entry(code, *tags[code]) for code in sorted(tags))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", link)


def _tags(**changes: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """Tags of a page of 32 x 24 bytes that begins at byte 8."""
    names = {"width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262,
             "offsets": 273, "rows": 278, "counts": 279, "tile_width": 322, "tile_height": 323,
             "tile_offsets": 324, "tile_counts": 325, "sub_pages": 330}  # fmt: skip
    plain = {
        "width": (4, 1, 32), "height": (4, 1, 24), "bits": (3, 1, 8), "compression": (3, 1, 1),
        "photometric": (3, 1, 1), "offsets": (4, 1, 8), "rows": (4, 1, 24), "counts": (4, 1, 768),
    }  # fmt: skip
    return {names[name]: entry for name, entry in {**plain, **changes}.items()}


_PIXELS = bytes(768)


def tiff_of_pages(count: int, last: int = 0) -> bytes:
    """A file of many pages, which all show the same pixels; the last links to `last`."""
    size = len(_header(_tags(), 0))
    start = 8 + len(_PIXELS)
    links = [start + size * (k + 1) for k in range(count - 1)] + [last]
    headers = b"".join(_header(_tags(), link) for link in links)
    return b"II*\0" + struct.pack("<I", start) + _PIXELS + headers


def tiff_loop() -> bytes:
    return tiff_of_pages(3, last=8 + len(_PIXELS))


def tiff_bomb(compression: str, stream: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(
            file, iter([stream] * 2), shape=(2, *FRAME), dtype=np.uint8, compression=compression,
            photometric="minisblack",
        )  # fmt: skip
        return file.getvalue()

    return make


def tiff_of_size(**tags: tuple[int, int, int]) -> bytes:
    start = 8 + len(_PIXELS)
    header = _header(_tags(**tags), start + len(_header(_tags(**tags), 0)))
    return b"II*\0" + struct.pack("<I", start) + _PIXELS + header + _header(_tags(**tags), 0)


def tiff_sub_pages(levels: int) -> bytes:
    """Two pages below every page, both of which are the next."""
    tags = _tags(sub_pages=(4, 2, 0))
    size = len(_header(tags, 0)) + 8
    out, start = b"", 8 + len(_PIXELS)
    for level in range(levels):
        here = start + level * size
        following = start + (level + 1) * size if level + 1 < levels else start
        tags[330] = (4, 2, here + size - 8)
        out += _header(tags, 0) + struct.pack("<II", following, following)
    return b"II*\0" + struct.pack("<I", start) + _PIXELS + out


def tiff_overlapping() -> bytes:
    """Headers of 60,000 tags each that begin within each other."""
    count, step = 20_000, 6
    body = bytearray(count * step + 60_000 * 12 + 16)
    for k in range(count):
        struct.pack_into("<H", body, k * step, 60_000)
    return b"II*\0" + struct.pack("<I", 8) + bytes(body)


def tiff_described(description: str) -> bytes:
    file = io.BytesIO()
    movie = np.zeros((2, *FRAME), np.uint8)
    tifffile.imwrite(file, movie, photometric="minisblack", metadata=None, description=description)
    return file.getvalue()


def ome(pixels: str = "", data: str = "", head: str = "") -> bytes:
    size = 'SizeX="32" SizeY="24" SizeC="1" SizeZ="1" SizeT="2"'
    return tiff_described(
        f'{head}<OME UUID="urn:uuid:1"><Image ID="Image:0"><Pixels DimensionOrder="XYCZT" '
        f'Type="uint8" {pixels or size}>{data or "<TiffData/>"}</Pixels></Image></OME>'
    )


_TENFOLD = "".join(f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in pairwise("abcdefghij"))
LAUGHS = f"<!DOCTYPE x [<!ENTITY a 'ha'>{_TENFOLD}]>"

DEFLATED = _zeros(zlib.compressobj(1))

TIFFS: dict[str, Callable[[], bytes]] = {
    "deflate": tiff_bomb("zlib", DEFLATED),
    "page loop": tiff_loop,
    "5,000 pages": lambda: tiff_of_pages(5000),
    "no width": lambda: tiff_of_size(width=(4, 1, 0)),
    "2^32 x 2^32": lambda: tiff_of_size(width=(4, 1, 2**32 - 1), height=(4, 1, 2**32 - 1)),
    "negative": lambda: tiff_of_size(width=(9, 1, 2**32 - 5)),
    "compressed 2^31": lambda: tiff_of_size(width=(4, 1, 2**31), compression=(3, 1, 8)),
    "large tiles": lambda: tiff_of_size(
        tile_width=(4, 1, 2**31), tile_height=(4, 1, 2**31), tile_offsets=(4, 1, 8),
        tile_counts=(4, 1, 768), compression=(3, 1, 8),
    ),
    "a tile per pixel": lambda: tiff_of_size(
        width=(4, 1, 30_000), height=(4, 1, 30_000), tile_width=(4, 1, 16),
        tile_height=(4, 1, 16), tile_offsets=(4, 1, 8), tile_counts=(4, 1, 768),
    ),
    "2^31 strips": lambda: tiff_of_size(offsets=(4, 2**31, 8), counts=(4, 2**31, 8)),
    "a page below itself": lambda: tiff_sub_pages(1),
    "2^60 ways": lambda: tiff_sub_pages(60),
    "overlapping headers": tiff_overlapping,
    "OME planes": lambda: ome(data='<TiffData IFD="0" PlaneCount="999999999999"/>'),
    "OME first": lambda: ome(data='<TiffData FirstT="99999999999"/>'),
    "OME size": lambda: ome('SizeX="32" SizeY="24" SizeC="99999" SizeZ="99999" SizeT="99999"'),
    "OME negative": lambda: ome('SizeX="32" SizeY="24" SizeC="-1" SizeZ="1" SizeT="2"'),
    "OME entities": lambda: ome(head=LAUGHS, data="&j;"),
    "OME without end": lambda: tiff_described("<OME><Image>" * 20_000 + "</OME>"),
    "OME elsewhere": lambda: ome(
        data='<TiffData><UUID FileName="/dev/stdin">urn:uuid:2</UUID></TiffData>'
    ),
    "shape of many axes": lambda: tiff_described(f'{{"shape": [{"9, " * 200_000}9]}}'),
    "shape of large numbers": lambda: tiff_described(f'{{"shape": [{"9" * 4000}, 24, 32]}}'),
    "ImageJ frames": lambda: tiff_described(f"ImageJ=1.53\nimages={10**18}\nframes={10**18}\n"),
    "deep ScanImage": lambda: tiff_described("SI.VERSION_MAJOR = 5\nSI.x = " + "[" * 50_000),
}  # fmt: skip


def _hdf5(fill: Callable[[Any], Any], **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        memory = io.BytesIO()
        with h5py.File(memory, "w", **options) as file:
            fill(file)
        return memory.getvalue()

    return make


def _chunk_bomb(file: Any, *, twice: bool = False) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, *FRAME))
    plist.set_deflate(1)
    if twice:
        plist.set_filter(h5py.h5z.FILTER_SHUFFLE, 0)
        plist.set_filter(h5py.h5z.FILTER_LZF, 0)
    space = h5py.h5s.create_simple((2, *FRAME))
    dataset = h5py.h5d.create(file.id, b"mov", h5py.h5t.NATIVE_UINT8, space, plist)
    for frame in range(2):
        dataset.write_direct_chunk((frame, 0, 0), DEFLATED)


def _of_type(dtype: Any) -> Callable[[], bytes]:
    return _hdf5(lambda file: file.create_dataset("mov", (3, 4, 5), dtype=dtype))


def _raw_type(make: Callable[[], Any]) -> Callable[[], bytes]:
    def fill(file: Any) -> None:
        space = h5py.h5s.create_simple((3, 4, 5))
        h5py.h5d.create(file.id, b"mov", make(), space)

    return _hdf5(fill)


def _twelve_bits() -> Any:
    kind = h5py.h5t.NATIVE_UINT16.copy()
    kind.set_precision(12)
    return kind


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 4, 5), np.uint8)
    layout[:] = h5py.VirtualSource("/etc/passwd", "mov", (3, 4, 5))
    file.create_virtual_dataset("mov", layout)


def _links(file: Any) -> None:
    file["mov"] = h5py.ExternalLink("/etc/passwd", "/mov")
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    file["idx"] = h5py.SoftLink("/idx")
    group = file.create_group("group")
    group["itself"] = group


def _deep(file: Any) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group("g")
    group["mov"] = np.zeros((3, 4, 5))


def _sparse(shape: tuple[int, ...], chunks: tuple[int, ...] | bool) -> Callable[[], bytes]:
    return _hdf5(lambda file: file.create_dataset("mov", shape, np.uint8, chunks=chunks))


def _many(file: Any) -> None:
    for number in range(300):
        file[f"{'x' * 200}{number}"] = 1


HDF5S: dict[str, Callable[[], bytes]] = {
    "gzip": _hdf5(_chunk_bomb),
    "compressed twice": _hdf5(lambda file: _chunk_bomb(file, twice=True)),
    "2^40 x 2^40 x 2^40": _sparse((2**40, 2**40, 2**40), (1, 16, 16)),
    "2^60 frames": _sparse((2**60, 16, 16), (1, 16, 16)),
    "nothing written": _hdf5(lambda file: file.create_dataset("mov", (5, 6, 7), np.uint8)),
    "a chunk of 3 GiB": _sparse((3, 2**15, 2**15), (3, 2**15, 2**15)),
    "no rows": _hdf5(lambda file: file.create_dataset("mov", (5, 0, 7), np.uint8)),
    "other file": _hdf5(
        lambda file: file.create_dataset(
            "mov", (3, 4, 5), np.uint8, external=[("/etc/passwd", 0, 60)]
        )
    ),
    "virtual": _hdf5(_virtual),
    "links": _hdf5(_links),
    "deep": _hdf5(_deep),
    "deep and latest": _hdf5(_deep, libver="latest"),
    "many names": _hdf5(_many),
    "compound": _of_type([("a", "u1"), ("b", "u1")]),
    "text": _of_type("S3"),
    "ragged text": _of_type(h5py.string_dtype()),
    "ragged": _of_type(h5py.vlen_dtype(np.uint8)),
    "references": _of_type(h5py.ref_dtype),
    "complex": _of_type("c16"),
    "bool": _of_type(bool),
    "enumeration": _of_type(h5py.enum_dtype({"a": 1}, "u1")),
    "array": _of_type(("u1", (2,))),
    "opaque": _of_type(h5py.opaque_dtype(np.dtype("M8[s]"))),
    "bits": _raw_type(lambda: h5py.h5t.STD_B8LE),
    "twelve bits": _raw_type(_twelve_bits),
    "nothing": _hdf5(lambda file: file.create_dataset("mov", data=h5py.Empty("u1"))),
}


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content.ljust(-(-len(content) // 8) * 8, b"\0")


def mat5(
    dims: tuple[int, ...] = (4, 5, 3), matlab_class: int = 9, data: bytes = b"", flags: int = 0
) -> bytes:
    """A MATLAB 5 file with the variable ch1."""
    head = _element(6, struct.pack("<II", matlab_class | flags, 0))
    head += _element(5, struct.pack(f"<{len(dims)}i", *dims)) + _element(1, b"ch1")
    return _mat5_file(_element(14, head + data))


def _mat5_file(*variables: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + b"".join(variables)


def _mat5_bomb() -> bytes:
    head = _element(6, struct.pack("<II", 9, 0)) + _element(5, struct.pack("<3i", 4, 5, 3))
    head += _element(1, b"ch1") + struct.pack("<II", 2, ZEROS)
    compress = zlib.compressobj(1)
    stream = compress.compress(struct.pack("<II", 14, ZEROS + len(head)) + head)
    stream += _zeros(compress)
    return _mat5_file(struct.pack("<II", 15, len(stream)) + stream)


MATS: dict[str, Callable[[], bytes]] = {
    "deflate": _mat5_bomb,
    "2^31 x 2^31 x 2^31": lambda: mat5((2**31 - 1,) * 3),
    "negative": lambda: mat5((-1, 5, 3)),
    "zero": lambda: mat5((0, 5, 3)),
    "no data": lambda: mat5(),
    "too much data": lambda: mat5(data=_element(2, bytes(1000))),
    "doubles as bytes": lambda: mat5(data=_element(9, bytes(480))),
    **{
        name: (lambda code=code: mat5(matlab_class=code, data=_element(2, bytes(60))))
        for code, name in enumerate(
            ("nothing", "cell", "struct", "object", "char", "sparse", "", "", "", "", "", "", "",
             "", "", "", "function", "opaque", "unknown")
        )
        if name
    },
    "complex": lambda: mat5(flags=0x800, data=_element(2, bytes(60))),
    "logical": lambda: mat5(flags=0x200, data=_element(2, bytes(60))),
    "zeros": lambda: _mat5_file(bytes(2**23)),
    "2^17 variables": lambda: _mat5_file(_element(14, b"") * 2**17),
    "4 GiB of variable": lambda: _mat5_file(struct.pack("<II", 15, 2**32 - 1)),
    "version 4": lambda: struct.pack("<5i", 0, 2**30, 2**30, 0, 4) + b"ch1\0",
}  # fmt: skip


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
