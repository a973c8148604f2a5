"""The files of the final mask."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.interruption import uninterrupted
from pyflowreg.io.atomic import atomic_save_npz, atomic_write_bytes
from pyflowreg.io.mat_results import cell, save_mat
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording
from pyflowreg.session.outputs import ALIGNED_SUFFIX, session_paths
from pyflowreg.session.sources import shown_path
from pyflowreg.session.status import write_status

logger = logging.getLogger(__name__)


def save_png(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask (H, W) as a picture, white where it is true.

    Parameters
    ----------
    path : Path
        The PNG to write.
    mask : ndarray of bool, shape (H, W)
        The mask.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    # A part of scikit-image; slow to import, and not needed to align a recording.
    from imageio.v3 import imwrite

    # In memory: on a full disk the library closes its file twice, with a traceback.
    values = mask.astype(np.uint8) * 255
    # Interrupted while it is made, imageio's writer complains about itself when it goes.
    picture: bytes = uninterrupted(lambda: imwrite("<bytes>", values, extension=".png"))
    atomic_write_bytes(path, picture)


def mask_files(config: SessionConfig, recordings: Sequence[Recording]) -> list[Path]:
    """Return all files that `save_mask_files` writes.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recordings : sequence of Recording
        Its recordings.

    Returns
    -------
    list of Path
        They need not exist.
    """
    paths = session_paths(config)
    entries = [paths.recording(recording.name) for recording in recordings]
    pictures = [path for entry in entries for path in (entry.valid_png, entry.aligned_valid_png)]
    return [*pictures, paths.final_png, paths.final_npz, paths.final_mat, paths.status]


def save_mask_files(
    config: SessionConfig, recordings: Sequence[Recording], centre: int, arrays: dict[str, Any]
) -> list[Path]:
    """Write everything that belongs to the final mask but its record.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recordings : sequence of Recording
        Its recordings, in the order of the arrays.
    centre : int
        Position of the centre, from 0.
    arrays : dict
        Named as in final_valid_idx.npz. Masks, fields and averages of all recordings are stacks.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    paths = session_paths(config)
    masks = zip(
        recordings, arrays["per_seq_valid_masks"], arrays["aligned_valid_masks"], strict=True
    )
    made = [paths.final_npz, paths.final_mat, paths.final_png]
    for recording, own, aligned in masks:
        files = paths.recording(recording.name)
        save_png(files.valid_png, own)
        save_png(files.aligned_valid_png, aligned)
        made += [files.valid_png, files.aligned_valid_png]
    save_png(paths.final_png, arrays["final_valid"])
    _save_bundle(config, recordings, centre, arrays)
    valid = int(np.count_nonzero(arrays["final_valid"]))
    write_status(paths.status, "stage3", recordings=len(recordings), valid_pixels=valid)
    _name_leftovers(config, recordings)
    return made


def _name_leftovers(config: SessionConfig, recordings: Sequence[Recording]) -> None:
    """Warn of results in the folder that no recording of the session has."""
    paths = session_paths(config)
    ours = {paths.final_png}
    for recording in recordings:
        files = paths.recording(recording.name)
        ours |= {files.valid_png, files.aligned_valid_png}
        ours |= {files.aligned.with_suffix(suffix) for suffix in ALIGNED_SUFFIX.values()}
    found = [*paths.final_results.glob("aligned_*"), *paths.final_results.glob("*_valid_idx*.png")]
    others = sorted(path.name for path in found if path not in ours)
    if others:
        logger.warning(
            "%s holds results of recordings that are not in this session: %s.",
            paths.final_results,
            ", ".join(others),
        )


def _save_bundle(
    config: SessionConfig, recordings: Sequence[Recording], centre: int, arrays: dict[str, Any]
) -> None:
    """Write final_valid_idx.npz and .mat: the same content, indices and cells as each expects."""
    paths = session_paths(config)
    files = [paths.recording(recording.name) for recording in recordings]
    compensated = [str(shown_path(entry)) for entry in files]
    names = [recording.name for recording in recordings]
    atomic_save_npz(
        paths.final_npz,
        **arrays,
        compensated_h5_paths=np.array(compensated),
        middle_idx=np.int64(centre),
        recording_names=np.array(names),
    )
    mat: dict[str, Any] = {
        "final_valid": arrays["final_valid"],
        "reference_average": arrays["reference_average"],
        "middle_idx": float(centre + 1),
    }
    for key in (
        "aligned_valid_masks",
        "per_seq_valid_masks",
        "displacement_fields_u",
        "displacement_fields_v",
        "temporal_averages",
    ):
        mat[key] = arrays[key]
    mat["compensated_h5_paths"] = cell(compensated)
    mat["recording_names"] = cell(names)
    save_mat(paths.final_mat, mat)
