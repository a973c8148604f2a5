"""Values of single options: the shapes the toolbox allows, checked and brought to one form."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import ConfigError
from pyflowreg.settings import shown

logger = logging.getLogger(__name__)

RANGE = re.compile(r"\s*(\d+)\s*:\s*(?:(\d+)\s*:\s*)?(\d+)\s*")
DTYPES = {
    "double": "float64",
    "single": "float32",
    "uint8": "uint8",
    "uint16": "uint16",
    "int16": "int16",
}
"""MATLAB's names of the number types a result may have, and NumPy's."""
LARGEST_SIGMA, LARGEST_SIGMA_T = 1000, 100
LARGEST_FRAME_NUMBER = 2**53


def _number(value: Any) -> float:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is not a number" if not isinstance(value, list) else "is nested too deep")  # noqa: TRY004
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("is not finite")
    return number


def _sequence(value: Any) -> list[Any] | None:
    """Return the entries of a list, tuple or array; None for a single value."""
    if isinstance(value, np.ndarray):
        return list(value.tolist()) if value.ndim else None
    return list(value) if isinstance(value, list | tuple) else None


def parse_alpha(value: Any) -> float | tuple[float, float]:
    """Return one smoothness weight, or one for x and one for y."""
    entries = _sequence(value)
    if entries is None or len(entries) == 1:
        entries = [value if entries is None else entries[0]]
    numbers = [_number(entry) for entry in entries]
    if len(numbers) > 2 or not numbers or min(numbers) <= 0:
        raise ValueError("is not allowed")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def parse_exponents(value: Any) -> float | tuple[float, ...]:
    """Return one exponent for all channels, or one per channel."""
    entries = _sequence(value)
    numbers = [_number(entry) for entry in ([value] if entries is None else entries)]
    if not numbers or min(numbers) <= 0 or max(numbers) > 1:
        raise ValueError("is not allowed")
    return numbers[0] if entries is None else tuple(numbers)


def parse_sigma(value: Any) -> tuple[tuple[float, float, float], ...]:
    """Return rows (y, x, t) of standard deviations; one row per channel."""
    entries = _sequence(value)
    if not entries:
        raise ValueError("is not allowed")
    rows = entries if _sequence(entries[0]) is not None else [entries]
    result = []
    for row in rows:
        numbers = [_number(entry) for entry in (_sequence(row) or [])]
        if len(numbers) != 3 or min(numbers) < 0:
            raise ValueError("is not allowed")
        if max(numbers) > LARGEST_SIGMA or numbers[2] > LARGEST_SIGMA_T:
            raise ValueError(
                f"is too large: at most {LARGEST_SIGMA} pixels and {LARGEST_SIGMA_T} frames"
            )
        result.append((numbers[0], numbers[1], numbers[2]))
    return tuple(result)


def parse_weight(value: Any) -> tuple[float, ...] | NDArray[np.float64]:
    """Return the channels' weights with sum 1, or maps (C, H, W) as they are."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("is not made of numbers") from None
    if np.asarray(value).dtype.kind not in "iuf":
        raise ValueError("is not made of numbers")
    if array.ndim not in (0, 1, 3) or not array.size:
        raise ValueError("has the wrong shape")
    if not np.isfinite(array).all() or (array < 0).any() or not array.sum() > 0:
        raise ValueError("must be finite, >= 0, and not all zero")
    if array.ndim == 3:
        return array
    return tuple(float(entry) for entry in np.atleast_1d(array / array.sum()))


def _frame_indices(entries: Iterable[Any]) -> list[int]:
    result = []
    for entry in entries:
        plain = entry.item() if isinstance(entry, np.generic) else entry
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise ValueError(f"contains {shown(plain)}, which is not a whole number")  # noqa: TRY004
        if plain > LARGEST_FRAME_NUMBER:
            raise ValueError(f"contains {shown(plain)}; no recording has so many frames")
        if plain < 0:
            raise ValueError(f"contains {shown(plain)}; frames count from 0")
        result.append(plain)
    if not result:
        raise ValueError("names no frame")
    return result


def parse_range(text: str) -> range | None:
    """Return the 0-based frames of the toolbox's 1-based inclusive "first:last", or None.

    Parameters
    ----------
    text : str
        "50:500" or "first:step:last".

    Returns
    -------
    range or None
        None if `text` is no range.
    """
    match = RANGE.fullmatch(text)
    if match is None:
        return None
    first, step, last = int(match[1]), int(match[2] or 1), int(match[3])
    if max(step, last) > LARGEST_FRAME_NUMBER:
        raise ValueError("is no range: no recording has so many frames")
    if first < 1 or step < 1 or last < first:
        raise ValueError("is no range: the first frame is 1, and first <= last")
    return range(first - 1, last, step)


def parse_reference(value: Any) -> Any:
    """Return frames (int, list of int, or "first:last"), an image file, or an image.

    Parameters
    ----------
    value : object
        See `OFOptions.reference_frames`.

    Returns
    -------
    int, list of int, str, Path or ndarray
        0-based frames, a range as written, an existing file, or an array (H, W) or (H, W, C).
    """
    if isinstance(value, str):
        if parse_range(value) is not None:
            return value.strip()
        value = Path(os.path.expanduser(value))  # noqa: PTH111 - leaves an unknown user as it is
    if isinstance(value, Path):
        if not os.path.isfile(value):  # noqa: PTH113 - also false for impossible names
            raise ValueError("is neither a range of frames nor an existing image file")
        return value
    if isinstance(value, np.ndarray) and value.ndim in (2, 3):
        if not value.size or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise ValueError("is no image: it needs finite numbers")
        return value
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        raise ValueError("is nested: give an image as an array or as a file")
    entries = list(value) if isinstance(value, range) else _sequence(value)
    if entries is None:
        return _frame_indices([value])[0]
    return _frame_indices(entries)


def parse_typename(value: Any) -> str | None:
    """Return MATLAB's name of a number type, or None for the type of the input."""
    if value is None or (isinstance(value, str) and value in ("", "input")):
        return None
    names = {numpy: matlab for matlab, numpy in DTYPES.items()} | {name: name for name in DTYPES}
    if not isinstance(value, str) or value not in names:
        raise ValueError("is not allowed")
    return names[value]


def weight_for(weight: Any, n_channels: int) -> NDArray[np.float64]:
    """Return the weights of `n_channels` channels; see `OFOptions.weight_for`."""
    if isinstance(weight, np.ndarray):
        if len(weight) < n_channels:
            text = f"weight: has {len(weight)} maps for {n_channels} channels; give one for each."
            raise ConfigError([text])
        maps: NDArray[np.float64] = weight[:n_channels]
        return maps
    entries = np.asarray(weight, dtype=np.float64)
    if len(entries) <= n_channels:
        return np.concatenate([entries, np.full(n_channels - len(entries), 1 / n_channels)])
    entries = entries[:n_channels]
    if not entries.sum() > 0:
        text = f"weight: {weight} is 0 for every one of {n_channels} channels; give one for each."
        raise ConfigError([text])
    return np.asarray(entries / entries.sum())


def exponents_for(a_data: float | tuple[float, ...], n_channels: int) -> NDArray[np.float64]:
    """Return the data term's exponent of each channel, float64 (C,)."""
    if not isinstance(a_data, tuple):
        return np.full(n_channels, a_data, dtype=np.float64)
    if len(a_data) < n_channels:
        text = f"a_data: has {len(a_data)} values for {n_channels} channels; give one for each."
        raise ConfigError([text])
    return np.asarray(a_data[:n_channels], dtype=np.float64)


def is_frames(reference: Any) -> bool:
    """Return whether a parsed reference means frames, not an image."""
    if isinstance(reference, np.ndarray):
        return False
    return not isinstance(reference, Path)


def existing_frames(reference: Any, n_frames: int, *, strict: bool) -> list[int]:
    """Return the frames of a parsed reference that exist; see `OFOptions.reference_indices`."""
    if not is_frames(reference):
        raise ConfigError([f"reference_frames: {shown(reference)} is an image, not frames."])
    wanted: Sequence[int]
    if isinstance(reference, str):
        wanted = parse_range(reference) or range(0)
        # A range may be as long as its writer likes; only what exists is ever listed.
        inside = list(range(wanted.start, min(wanted.stop, n_frames), wanted.step))
    else:
        wanted = [reference] if isinstance(reference, int) else list(reference)
        inside = [index for index in wanted if index < n_frames]
    if len(inside) == len(wanted):
        return inside
    text = f"reference_frames: {shown(reference)} reaches beyond the recording's {n_frames} frames"
    if strict:
        raise ConfigError([f"{text}; choose frames that exist, or numerics: standard."])
    if inside:
        logger.warning("%s; the %d that exist are used.", text, len(inside))
        return inside
    logger.warning("%s; all frames are used.", text)
    return list(range(n_frames))
