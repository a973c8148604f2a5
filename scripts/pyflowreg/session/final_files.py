"""The files of the final mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.io import imsave

from pyflowreg.io.atomic import atomic_path, atomic_save_npz
from pyflowreg.io.mat import cell, save_mat
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording
from pyflowreg.session.outputs import find_compensated, session_paths


def save_png(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask (H, W) as a picture, white where it is true."""
    with atomic_path(path) as temporary:
        imsave(temporary, mask.astype(np.uint8) * 255, check_contrast=False)


def save_bundle(
    config: SessionConfig, recordings: Sequence[Recording], centre: int, arrays: dict[str, Any]
) -> None:
    """Write final_valid_idx.npz and .mat: the same content, indices and cells as each expects."""
    paths = session_paths(config)
    files = [paths.recording(recording.name) for recording in recordings]
    compensated = [str(find_compensated(entry.folder) or entry.compensated) for entry in files]
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
        mat[key] = cell(list(arrays[key]))
    mat["compensated_h5_paths"] = cell(compensated)
    mat["recording_names"] = cell(names)
    save_mat(paths.final_mat, mat)
