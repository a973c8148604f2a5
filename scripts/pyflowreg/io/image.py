"""Single images given as reference: .npy, TIFF, and the common formats that Pillow reads."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError
from pyflowreg.io.arrays import read_npy
from pyflowreg.io.safety import PARSER_ERRORS, check_regular

# Formats of which Pillow decodes the pixels itself. It hands others, such as PostScript, to
# programs of this machine.
_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "GIF", "PPM", "WEBP")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DAMAGE = (*PARSER_ERRORS, Warning)


def read_image(path: Path, values: int) -> NDArray[Any]:
    """Read an image that has a known number of values; one of another size is not decoded.

    Parameters
    ----------
    path : Path
        The file; its content decides what it is, but for .npy.
    values : int
        Rows x columns x channels.

    Returns
    -------
    ndarray
        (H, W), (H, W, C), or as a TIFF file has it.

    Raises
    ------
    OSError
        If there is none.
    InputError
        If it cannot be read, or has another size.
    """
    check_regular(path)
    if path.suffix == ".npy":
        image = read_npy(path)
    else:
        with path.open("rb") as file:
            is_tiff = file.read(4) in _TIFF
        from PIL import Image

        try:
            with warnings.catch_warnings():
                # Pillow warns of images that are larger than one is likely to be.
                warnings.simplefilter("error")
                image = _read_tiff(path, values) if is_tiff else _read_common(path, values)
        except (*_DAMAGE, Image.DecompressionBombError) as error:
            if isinstance(error, InputError):
                raise
            reason = str(error).rstrip(".") or "it is damaged"
            raise InputError(f"{path} cannot be read: {reason[:300]}") from error
    return image


def _check_size(path: Path, shape: tuple[int, ...], values: int) -> None:
    if math.prod(shape) != values:
        raise InputError(
            f"{path} has shape {shape}, the recording's frames have {values} values; give one of "
            "the same height, width and channels"
        )


def _read_tiff(path: Path, values: int) -> NDArray[Any]:
    from pyflowreg.io.base import InputOptions
    from pyflowreg.io.tiff import TiffImage

    with TiffImage(path, InputOptions()) as reader:
        pages, height, width, channels = reader.shape
        size = (height, width, channels) if pages == 1 else reader.shape
        _check_size(path, size, values)
        image = reader.read(0, pages)
    # Pages of one value per pixel are channels.
    return image[0] if pages == 1 else np.moveaxis(image[..., 0], 0, -1)


def _read_common(path: Path, values: int) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path, formats=_FORMATS) as image:
        # Indexed colours are looked up below, in one to four bytes.
        mode = image.palette.mode if image.palette is not None else image.mode
        bands = len(Image.new(mode, (1, 1)).getbands())
        size = (image.height, image.width) + ((bands,) if bands > 1 else ())
        _check_size(path, size, values)
        return np.asarray(image if mode == image.mode else image.convert(mode))
