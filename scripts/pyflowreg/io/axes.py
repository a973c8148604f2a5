"""From the axes a file declares to (T, H, W, C)."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from pyflowreg.errors import InputError
from pyflowreg.io.base import Frames, Shape4, show_shape

logger = logging.getLogger(__name__)

SINGLETON = "."
"""Stands for an axis of length 1 that carries nothing."""


def _describe(axes: str, shape: tuple[int, ...]) -> str:
    return f"{show_shape(shape)} (axes {axes})"


def user_axes(path: Path, wanted: str, shape: tuple[int, ...]) -> str:
    """Apply `input_options.axes` to a stored array.

    Parameters
    ----------
    path : Path
        Named in messages.
    wanted : str
        Letters of T, Y, X, C, Z, S, one per axis. Axes of length 1 may be left out.
    shape : tuple of int
        Stored shape.

    Returns
    -------
    str
        One of T, Y, X, C or `SINGLETON` for each stored axis.
    """
    letters = list(wanted.replace("S", "C"))
    if len(letters) == len(shape) + 1:  # a single frame, for example one part of a folder
        letters.remove("T")
    if len(letters) != len(shape):
        long = [i for i, n in enumerate(shape) if n > 1]
        if len(letters) != len(long):
            raise InputError(
                f"{path} has {len(shape)} axes, {show_shape(shape)}; input_options.axes = "
                f"{wanted!r} names {len(letters)}. Name one letter per axis"
            )
        named = dict(zip(long, letters, strict=True))
        letters = [named.get(i, SINGLETON) for i in range(len(shape))]
    for i, letter in enumerate(letters):
        if letter == "Z":
            if shape[i] > 1:
                raise InputError(
                    f"{path}: input_options.axes = {wanted!r} says Z has {shape[i]} planes; a "
                    "recording has one. If these are time points name the axis T, else export "
                    "one plane per file"
                )
            letters[i] = SINGLETON
    return "".join(letters)


def guess_axes(path: Path, axes: str, shape: tuple[int, ...]) -> str:
    """Interpret the axes a TIFF file declares.

    Rows Y and columns X are taken as they are, C or S is the channel. The one remaining axis
    longer than 1 is time; a Z axis without T is a time axis that was saved as a stack.

    Parameters
    ----------
    path : Path
        Named in messages.
    axes : str
        Letters as tifffile gives them.
    shape : tuple of int
        Stored shape.

    Returns
    -------
    str
        One of T, Y, X, C or `SINGLETON` for each stored axis.
    """
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise InputError(
            f"{path}: {_describe(axes, shape)} has no single row and column axis. Name the axes "
            "with input_options.axes"
        )
    long = [i for i, n in enumerate(shape) if n > 1 and axes[i] not in "YX"]
    channels = [i for i in long if axes[i] in "CS"]
    others = [i for i in long if axes[i] not in "CS"]
    if len(channels) > 1 or len(others) > 1:
        raise InputError(
            f"{path}: {_describe(axes, shape)} has more axes than time, rows, columns and "
            "channels, so which one is time is not known. Name them with input_options.axes if "
            "the others have length 1, else export one plane per file"
        )
    letters = [a if a in "YX" else SINGLETON for a in axes]
    for i in channels:
        letters[i] = "C"
    for i in others:
        letters[i] = "T"
        if axes[i] == "Z":
            logger.info(
                "%s: its %d planes along Z are read as time points, since it has no time axis",
                path,
                shape[i],
            )
    return "".join(letters)


def canonical_shape(letters: str, shape: tuple[int, ...]) -> Shape4:
    """Shape (T, H, W, C) of a stored array whose axes are `letters`."""
    sizes = dict(zip(letters, shape, strict=True))
    return sizes.get("T", 1), sizes["Y"], sizes["X"], sizes.get("C", 1)


def to_canonical(block: Frames, letters: str) -> Frames:
    """View a block with the stored axes as (n, H, W, C)."""
    kept = [i for i, letter in enumerate(letters) if letter != SINGLETON]
    block = block.reshape([block.shape[i] for i in kept])
    names = "".join(letters[i] for i in kept)
    for missing in "TC":
        if missing not in names:
            block, names = block[np.newaxis], missing + names
    return block.transpose([names.index(letter) for letter in "TYXC"])
