"""Options files of the MATLAB toolbox: a header line with the date, a blank line, JSON.

Frames count from 1 in these files, as they do in MATLAB; they are converted on the way.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io.safety import read_small
from pyflowreg.motion_correction.option_values import parse_range
from pyflowreg.settings_extent import check_extent

if TYPE_CHECKING:
    from pyflowreg.motion_correction.options import OFOptions

logger = logging.getLogger(__name__)

MAX_BYTES = 16 * 2**20
_OURS = ("constancy_assumption", "numerics", "precision", "flow_backend", "backend_params")
_MAY_BE_EMPTY = ("input_file", "preproc_funct", "output_typename")
_HEADER = "Compensation options {date}"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that can be used")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = sorted(name for name, count in counts.items() if count > 1)
        raise ValueError(f"{', '.join(twice[:10])} is given twice")
    return result


def _parse(text: str) -> Any:
    """Parse JSON, after the header line and the blank line if there are any."""
    body = text.lstrip("\ufeff")
    if not body.lstrip().startswith("{"):
        body = body.partition("\n")[2]
    return json.loads(body, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)


def _frames(value: Any) -> Any:
    """Convert frames counted from 1 to frames counted from 0."""
    entries = value if isinstance(value, list) else [value]
    if any(isinstance(entry, bool) or not isinstance(entry, int | float) for entry in entries):
        return value
    if any(not float(entry).is_integer() or entry < 1 for entry in entries):
        raise ValueError("reference_frames counts frames from 1 in this file")
    zero_based = [int(entry) - 1 for entry in entries]
    return zero_based if isinstance(value, list) else zero_based[0]


def _from_matlab(value: dict[str, Any]) -> dict[str, Any]:
    """Convert what MATLAB writes differently: frames from 1, logicals as 0 and 1, [] for none."""
    from pyflowreg.motion_correction.options import OFOptions

    result = dict(value)
    for name, entry in value.items():
        field = OFOptions.model_fields.get(name)
        if name == "reference_frames":
            result[name] = _frames(entry)
        elif field is not None and field.annotation is bool and entry in (0, 1):
            result[name] = bool(entry)
        elif name in _MAY_BE_EMPTY and isinstance(entry, list | str) and not entry:
            result[name] = None
    return result


def _named(path: Path, text: str) -> str:
    return text if text.startswith(str(path)) else f"{path}: {text}"


def read_options(path: Path) -> dict[str, Any]:
    """Read the options file at `path`.

    Parameters
    ----------
    path : Path
        Toolbox format, or plain JSON.

    Returns
    -------
    dict
        Keys of `OFOptions`, not validated; frames count from 0; the file of a reference image is
        looked for beside `path`.

    Raises
    ------
    ConfigError
        If there is no such file, or it is no such file.
    """
    try:
        value = _parse(read_small(path, MAX_BYTES).decode("utf-8"))
        if not isinstance(value, dict):
            raise ConfigError([f"{path}: holds no keys with values; expected a JSON object."])
        check_extent(value)
        value = _from_matlab(value)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror})."]) from None
    except (ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise ConfigError([_named(path, text) for text in error.problems]) from None
        if isinstance(error, InputError):
            raise ConfigError([f"{error}."]) from None
        raise ConfigError([f"{path}: is no options file in JSON ({error})."]) from None
    reference = value.get("reference_frames")
    if isinstance(reference, str) and os.path.isfile(path.parent / reference):  # noqa: PTH113
        value["reference_frames"] = str(path.parent / reference)
    return value


def write_options(options: OFOptions, path: Path) -> Path:
    """Write `options` in the toolbox's format.

    Parameters
    ----------
    options : OFOptions
        Keys the toolbox does not know are written only if they differ from their defaults. A
        reference given as an array goes to ``reference_frames.tif`` beside the file.
    path : Path
        File to write; it appears complete or not at all.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ConfigError
        If there is a `preproc_funct`, which no file can hold.
    """
    from pyflowreg.io.atomic import atomic_write_text

    if options.preproc_funct is not None:
        raise ConfigError(["preproc_funct: a Python function cannot be saved; set it to None."])
    fields = type(options).model_fields
    data: dict[str, Any] = {}
    for name, field in fields.items():
        value = getattr(options, name)
        default = field.get_default(call_default_factory=True)
        if name in (*_OURS, "input_options") and value == default:
            continue
        data[name] = _plain(value)
    data["output_typename"] = options.output_typename or ""
    data["preproc_funct"] = []
    data["reference_frames"] = _saved_reference(options, path)
    header = _HEADER.format(date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S"))
    atomic_write_text(path, f"{header}\n\n{json.dumps(data, indent=2, allow_nan=False)}\n")
    return path


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def _saved_reference(options: OFOptions, path: Path) -> Any:
    """Return the reference as the file holds it; an array is written beside the file."""
    value = options.reference_frames
    if isinstance(value, str):
        return [index + 1 for index in parse_range(value) or []]
    if isinstance(value, np.ndarray):
        return _write_image(value, path.with_name("reference_frames.tif"))
    if isinstance(value, Path):
        return str(value.absolute())
    return [index + 1 for index in value] if isinstance(value, list) else value + 1


def _write_image(image: np.ndarray[Any, Any], path: Path) -> str:
    """Write an image (H, W) or (H, W, C) as one page and return its name."""
    import tifffile

    from pyflowreg.io.atomic import atomic_path

    # TIFF readers of other programs know no 64-bit integers.
    data = image.astype(np.float64) if image.dtype.itemsize == 8 else image
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            data,
            photometric="minisblack",
            planarconfig="contig" if data.ndim == 3 else None,
        )
    return path.name
