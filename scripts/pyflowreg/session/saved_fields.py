"""Displacement fields that stage 2, or another program, has saved."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError, UnreadableError
from pyflowreg.io.arrays import read_npz
from pyflowreg.session.contents import wrong
from pyflowreg.session.outputs import RecordingPaths
from pyflowreg.session.records import stated_field
from pyflowreg.session.status import file_identity

logger = logging.getLogger(__name__)

_FINGERPRINT_BYTES = 2**12


def read_field(path: Path) -> NDArray[np.float64] | None:
    """Read the field in a `w_to_reference.npz`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray or None
        float64, shape (H, W, 2), pixels, backward map centre(y, x) = recording(y + v, x + u); None
        if there is none to be read.
    """
    try:
        data = read_npz(path, ("u", "v"))
    except (OSError, InputError):
        return None
    if any(array.ndim != 2 or array.dtype.kind not in "fiu" for array in data.values()):
        return None
    if data["u"].shape != data["v"].shape:
        return None
    return np.stack([data["u"], data["v"]], axis=-1).astype(np.float64)


def saved_field(paths: RecordingPaths, size: tuple[int, int] | None = None) -> NDArray[np.float64]:
    """Return the field that stage 2 saved.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.
    size : tuple of int, optional
        Height and width that it must have.

    Returns
    -------
    ndarray
        float64 (H, W, 2), pixels, backward map: centre(y, x) = recording(y + v, x + u).

    Raises
    ------
    InputError
        If it is missing, cannot be read, is not finite, or has another size. It is removed then
        if stage 2 wrote it.
    """
    try:
        data = read_npz(paths.w_to_reference)
        field = np.stack([data["u"], data["v"]], axis=-1).astype(np.float64)
    except FileNotFoundError as error:
        raise _unusable(paths, "does not exist") from error
    except KeyError as error:
        raise _unusable(paths, f"has no array {error}") from error
    except UnreadableError:
        raise
    except ValueError as error:
        problem = str(error).removeprefix(f"{paths.w_to_reference} ")
        raise _unusable(paths, problem) from error
    if "fingerprint" in data:
        check_own_field(paths)
    if field.ndim != 3 or (size is not None and field.shape[:2] != size):
        wanted = "" if size is None else f" instead of {size[0]} x {size[1]}"
        found = " x ".join(map(str, field.shape[:-1]))
        raise _unusable(paths, f"holds a field of {found} pixels{wanted}, of another recording")
    if not np.isfinite(field).all():
        raise _unusable(paths, "is not finite everywhere")
    return field


def check_own_field(paths: RecordingPaths) -> None:
    """Make sure that a field of our own is the one that stage 2 wrote.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording. Fields of other programs have no fingerprint, and are not checked.

    Raises
    ------
    InputError
        If it is not; it is removed then.
    """
    if wrong(paths.folder, stated_field(paths), paths.w_to_reference):
        raise _unusable(paths, "is not the field that stage 2 wrote: it is damaged")


def _unusable(paths: RecordingPaths, problem: str) -> InputError:
    """Make the error for a field that cannot be used; stage 2 has to make it again."""
    field = paths.w_to_reference
    if field.name in stated_field(paths):
        # Our own. Without it, whatever runs next makes it again, and nothing else.
        try:
            field.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", field, error)
    return InputError(f"{field} {problem}; run stage 2 again, which makes it anew.")


def saved_fingerprint(path: Path) -> str | None:
    """Read the fingerprint in a `w_to_reference.npz`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str or None
        See `field_fingerprint`; None without one, as in other programs' files.
    """
    try:
        return str(read_npz(path, ("fingerprint",), _FINGERPRINT_BYTES)["fingerprint"])
    except (OSError, InputError):
        return None


def field_identity(path: Path) -> Any:
    """Tell which field is in a `w_to_reference.npz`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str or list or None
        Its fingerprint; size and time of another program's file, None if there is none.
    """
    return saved_fingerprint(path) or (file_identity(path) if path.is_file() else None)
