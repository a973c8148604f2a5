"""Small valid files of every kind, to start from."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import scipy.io
import tifffile

from pyflowreg import NUMERICS_REVISION, __version__
from pyflowreg.io import open_writer
from pyflowreg.io.fields import FieldWriter, MaskWriter
from pyflowreg.motion_correction.checkpoint import FORMAT

MOVIE = np.random.default_rng(0).integers(0, 4000, (4, 5, 6)).astype(np.uint16)
IMAGE = MOVIE[0]
_SCANIMAGE = "scanimage.SI.hChannels.channelSave = [1;2]\nSI.VERSION_MAJOR = 5\n"
_OME = {"axes": "TYX"}


def _tiffs(folder: Path) -> Iterator[Path]:
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "plain": (MOVIE, {"metadata": None}),
        "shaped": (MOVIE, {}),
        "bigtiff": (MOVIE, {"bigtiff": True}),
        "big_endian": (MOVIE, {"byteorder": ">", "metadata": None}),
        "imagej": (MOVIE, {"imagej": True, "metadata": {"axes": "TYX"}}),
        "imagej_channels": (
            np.stack([MOVIE, MOVIE], 1),
            {"imagej": True, "metadata": {"axes": "TCYX"}},
        ),
        "ome": (MOVIE, {"ome": True, "metadata": _OME}),
        "scanimage": (MOVIE, {"metadata": None, "description": _SCANIMAGE}),
        "rgb": (np.stack([MOVIE] * 3, -1).astype(np.uint8), {"photometric": "rgb"}),
        "lzw": (MOVIE, {"compression": "lzw", "predictor": True}),
        "deflate": (MOVIE, {"compression": "zlib"}),
        "zstd": (MOVIE, {"compression": "zstd"}),
        "packbits": (MOVIE, {"compression": "packbits"}),
        "lzma": (MOVIE, {"compression": "lzma"}),
        "jpeg": (MOVIE.astype(np.uint8), {"compression": "jpeg"}),
        "tiles": (MOVIE, {"tile": (16, 16), "compression": "zlib"}),
        "strips": (MOVIE, {"rowsperstrip": 2, "compression": "zlib", "metadata": None}),
        "float": (MOVIE.astype(np.float32), {"predictor": True, "compression": "zlib"}),
        "sub_pages": (MOVIE, {"subifds": 1}),
    }
    for name, (movie, options) in ways.items():
        path = folder / f"{name}.tif"
        options = {"photometric": "minisblack", **options}
        if name == "sub_pages":
            with tifffile.TiffWriter(path) as tif:
                tif.write(movie, **options)
                tif.write(movie[:, ::2, ::2], subfiletype=1)
        else:
            tifffile.imwrite(path, movie, **options)
        yield path
    with tifffile.TiffWriter(folder / "appended.tif") as tif:
        for frame in MOVIE:
            tif.write(frame, photometric="minisblack")
    yield folder / "appended.tif"


def _hdf5s(folder: Path) -> Iterator[Path]:
    for name, options in {
        "contiguous": {},
        "chunks": {"chunks": (1, 5, 6)},
        "gzip": {"chunks": (2, 5, 6), "compression": "gzip", "shuffle": True},
        "lzf": {"chunks": (1, 5, 6), "compression": "lzf", "fletcher32": True},
    }.items():
        path = folder / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("mov", data=MOVIE, **options)
            file.create_group("others")["text"] = "a note"
        yield path
    with h5py.File(folder / "latest.h5", "w", libver="latest") as file:
        file.create_dataset("ch1", data=MOVIE, chunks=(1, 5, 6), maxshape=(None, 5, 6))
        file["ch2"] = MOVIE
        file["link"] = h5py.SoftLink("/ch1")
    yield folder / "latest.h5"
    with open_writer(folder / "ours.h5", shape=(4, 5, 6, 1), dtype=np.uint16) as writer:
        writer.write(MOVIE[..., None])
    yield folder / "ours.h5"


def _mat5s(folder: Path) -> Iterator[Path]:
    stored = np.ascontiguousarray(MOVIE.transpose(1, 2, 0))
    for name, compress in (("plain", False), ("compressed", True)):
        path = folder / f"{name}.mat"
        content = {"ch1": stored, "fs": 30.0, "s": {"a": 1}, "c": np.array(["x"], dtype=object)}
        scipy.io.savemat(path, content, do_compression=compress)
        yield path


def _mat73s(folder: Path) -> Iterator[Path]:
    stored = np.ascontiguousarray(MOVIE.transpose(1, 2, 0))
    path = folder / "matlab.mat"
    hdf5storage.savemat(str(path), {"ch1": stored, "s": {"a": 1.0}}, format="7.3")
    yield path
    with open_writer(folder / "ours.mat", shape=(4, 5, 6, 1), dtype=np.uint16, format="MAT") as w:
        w.write(MOVIE[..., None])
    yield folder / "ours.mat"


def _masks(folder: Path) -> Iterator[Path]:
    with MaskWriter(folder / "idx.hdf", MOVIE.shape) as writer:
        writer.write(MOVIE > 100)
    yield folder / "idx.hdf"


def _fields(folder: Path) -> Iterator[Path]:
    with FieldWriter(folder / "w.h5", MOVIE.shape) as writer:
        writer.write(np.stack([MOVIE, MOVIE], -1).astype(np.float32))
    yield folder / "w.h5"


def _npys(folder: Path) -> Iterator[Path]:
    for name, array in {"c": IMAGE / 3, "fortran": np.asfortranarray(IMAGE), "u": IMAGE}.items():
        np.save(folder / f"{name}.npy", array)
        yield folder / f"{name}.npy"


def _displacements(folder: Path) -> Iterator[Path]:
    for name, save in (("c", np.savez_compressed), ("s", np.savez)):
        path = folder / f"{name}.npz"
        save(path, u=IMAGE / 7, v=-IMAGE / 7, fingerprint="f" * 64)
        yield path


def _records(folder: Path) -> Iterator[Path]:
    software = f"{__version__}, {NUMERICS_REVISION}, {FORMAT}"
    arrays: dict[str, Any] = {"of input": "abc", "of software": software, "next": 3}
    np.savez(folder / "record.npz", **arrays, statistics=np.zeros((3, 4)), average_count=3)
    yield folder / "record.npz"


def _pictures(folder: Path) -> Iterator[Path]:
    from PIL import Image

    eight = (IMAGE >> 4).astype(np.uint8)
    images = {
        "deep.png": Image.fromarray(IMAGE),
        "grey.png": Image.fromarray(eight),
        "grey.jpg": Image.fromarray(eight),
        "grey.bmp": Image.fromarray(eight),
        "grey.gif": Image.fromarray(eight),
        "grey.pgm": Image.fromarray(eight),
        "grey.jp2": Image.fromarray(eight),
        "colour.png": Image.fromarray(eight).convert("RGB"),
        "palette.png": Image.fromarray(eight).convert("P"),
        "colour.webp": Image.fromarray(eight).convert("RGB"),
    }
    for name, image in images.items():
        image.save(folder / name)
        yield folder / name


def _single_tiffs(folder: Path) -> Iterator[Path]:
    for name, image, options in (
        ("one", IMAGE, {}),
        ("deflate", IMAGE.astype(np.float32), {"compression": "zlib"}),
        ("channels", IMAGE[None, :, :], {"metadata": {"axes": "CYX"}}),
    ):
        tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack", **options)
        yield folder / f"{name}.tif"


SETTINGS = """\
root: data
pattern: "*.tif"
center: rec_2.tif
output_root: out
sigma_smooth: 6.0
align_output_format: HDF5
input_options: {axes: TYX, channels: [0]}
flow_options: &flow
  alpha: [4, 4.5]
  quality_setting: balanced
  sigma: [[1, 1, 0.1], [1, 1, 0.1]]
  weight: [0.5, 0.5]
  reference_frames: "50:500"
backend_params: {}
"""
TOML = """\
root = "data"
pattern = "*.tif"
sigma_smooth = 6.0
[flow_options]
alpha = [4.0, 4.5]
sigma = [[1, 1, 0.1], [1, 1, 0.1]]
reference_frames = [1, 2]
[backend_params]
precision = "double"
"""
_OPTIONS: dict[str, Any] = {
    "alpha": [4, 4],
    "weight": [[[0.5]], [[0.5]]],
    "levels": 100,
    "sigma": [[1, 1, 0.1]],
    "reference_frames": [1, 2, 3],
    "preproc_funct": [],
    "save_w": 0,
    "output_typename": "",
    "verbose": False,
    "naming_convention": "default",
}
_HEADER = {
    "path": "a.tif", "shape": [4, 5, 6, 1], "frames": 4, "height": 5, "width": 6, "channels": 1,
    "dtype": "uint16", "itemsize": 2, "bytes": 240,
}  # fmt: skip


def _texts(target: str) -> list[bytes]:
    toolbox = f"Compensation options 2024-01-01\n\n{json.dumps(_OPTIONS, indent=2)}\n"
    status = {"stage1": "done", "fingerprint": "f" * 64, "frames": 4}
    texts = {
        "flow_options": [toolbox, json.dumps(_OPTIONS)],
        "status": [json.dumps(status, indent=2)],
        "header": [json.dumps(_HEADER, indent=2)],
        "yaml": [SETTINGS],
        "workflow": [SETTINGS],
        "toml": [TOML],
        "of_params": ["alpha=[1, 2]\x01quality_setting=fast\x01sigma=[1,1,0.1]\x01save_w=true"],
    }
    return [text.encode() for text in texts[target]]


_MAKERS = {
    "tiff": _tiffs,
    "hdf5": _hdf5s,
    "mat5": _mat5s,
    "mat73": _mat73s,
    "masks": _masks,
    "fields": _fields,
    "average": _npys,
    "displacement": _displacements,
    "record": _records,
    "reference_npy": _npys,
    "reference_tiff": _single_tiffs,
    "reference_image": _pictures,
}


def seeds(target: str) -> list[bytes]:
    """Contents of valid files for a target."""
    if target not in _MAKERS:
        return _texts(target)
    with tempfile.TemporaryDirectory() as folder:
        return [path.read_bytes() for path in _MAKERS[target](Path(folder))]


def mapping_of(text: str) -> Any:
    """Settings as Snakemake would hand them over."""
    import yaml

    return yaml.safe_load(io.StringIO(text))
