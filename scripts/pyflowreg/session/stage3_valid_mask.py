"""Stage 3: pixels valid throughout the session, and the videos in the centre's grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.warping import imregister_binary
from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io.fields import iter_masks
from pyflowreg.session.aligned_video import (
    Field,
    align_recording,
    align_sequence_video,
    required,
    saved_field,
)
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.final_files import save_mask_files
from pyflowreg.session.outputs import (
    RecordingPaths,
    find_idx,
    recording_paths,
    session_paths,
)
from pyflowreg.session.records import mask_record
from pyflowreg.session.stage2_between_avgs import (
    load_averages,
    read_field,
)

__all__ = ["align_recording", "align_sequence_video", "compute_final_mask", "run_stage3"]

logger = logging.getLogger(__name__)

Mask = NDArray[np.bool_]


def valid_throughout(path: Path) -> Mask:
    """Pixels valid in every frame of a recording.

    Parameters
    ----------
    path : Path
        `idx.hdf`.

    Returns
    -------
    ndarray of bool
        Shape (H, W).

    Raises
    ------
    InputError
        If the file cannot be read or holds no frame.
    """
    result: Mask | None = None
    for block in iter_masks(path):
        valid: Mask = np.minimum.reduce(block, axis=0) > 0
        result = valid if result is None else result & valid
    if result is None:
        raise InputError(f"{path} holds no frame. Delete it and run stage 1 again.")
    return result


def compute_final_mask(
    config: SessionConfig,
    middle_idx: int | None = None,
    displacement_fields: Sequence[Field] | None = None,
) -> Mask:
    """Intersect the valid masks of all recordings in the centre's grid and save the results.

    Parameters
    ----------
    config : SessionConfig
        The session; stages 1 and 2 must be finished.
    middle_idx : int, optional
        Position of the centre, from 0; by default from the settings.
    displacement_fields : sequence of ndarray, optional
        Field (H, W, 2) of every recording; by default those saved by stage 2.

    Returns
    -------
    ndarray of bool
        Shape (H, W).

    Raises
    ------
    InputError
        If results of stage 1 or 2 are missing or cannot be read.
    ConfigError
        If number or shape of the given fields do not fit.
    """
    return _save_final_mask(config, _load(config, middle_idx, displacement_fields))


def _save_final_mask(config: SessionConfig, session: _Session) -> Mask:
    """Compute the final mask of what was loaded, and write its files."""
    averages = load_averages(config, session.recordings)
    record = mask_record(config, session.names[session.centre], session.names)
    record.withdraw()
    session_paths(config).status.unlink(missing_ok=True)
    own = [_valid_mask(*entry) for entry in zip(session.files, session.fields, strict=True)]
    aligned = [
        imregister_binary(valid, field[..., 0], field[..., 1])
        for valid, field in zip(own, session.fields, strict=True)
    ]
    final: Mask = np.logical_and.reduce(aligned)
    if not final.any():
        logger.warning("No pixel is valid in all recordings; look at the aligned masks.")
    arrays = {
        "final_valid": final,
        "aligned_valid_masks": np.stack(aligned),
        "per_seq_valid_masks": np.stack(own),
        "displacement_fields_u": np.stack([field[..., 0] for field in session.fields]),
        "displacement_fields_v": np.stack([field[..., 1] for field in session.fields]),
        "temporal_averages": np.stack(averages),
        "reference_average": averages[session.centre],
    }
    save_mask_files(config, session.recordings, session.centre, arrays)
    if all(session.saved):
        record.write()
    return final


@dataclass(frozen=True)
class _Session:
    """Recordings, position of the centre, files, fields, and which fields are those saved."""

    recordings: list[Recording]
    centre: int
    files: list[RecordingPaths]
    fields: list[Field]
    saved: list[bool]

    @property
    def names(self) -> list[str]:
        return [recording.name for recording in self.recordings]


def _load(config: SessionConfig, middle_idx: int | None, given: Sequence[Field] | None) -> _Session:
    """Find what stage 3 works on, and check that it belongs together."""
    recordings = discover_recordings(config)
    centre = centre_index(config, recordings)
    if middle_idx is not None:
        count = len(recordings)
        if not isinstance(middle_idx, int | np.integer) or not 0 <= middle_idx < count:
            rule = f"a whole number from 0 to {count - 1}, counted from 0"
            raise ConfigError([f"middle_idx is {middle_idx!r}; it must be {rule}."])
        centre = int(middle_idx)
    files = [recording_paths(config, recording.name) for recording in recordings]
    fields = _given_or_saved(files, given)
    if given is None and fields[centre].any():
        raise InputError(
            f"{files[centre].w_to_reference} is not zero, so the fields lead to another centre "
            f"than {recordings[centre].name}; set center and run stage 2 again."
        )
    saved = [given is None or _is_saved(*entry) for entry in zip(files, fields, strict=True)]
    return _Session(recordings, centre, files, fields, saved)


def _valid_mask(paths: RecordingPaths, field: Field) -> Mask:
    """Pixels valid in every frame of a recording, which must have the size of its field."""
    idx = required(find_idx(paths.folder), paths, "valid masks (idx.hdf)")
    valid = valid_throughout(idx)
    if valid.shape != field.shape[:2]:
        raise InputError(
            f"{idx} holds masks of shape {valid.shape}, the displacement of {paths.name} has "
            f"{field.shape[:2]}; they belong to different recordings. Run stages 1 and 2 again."
        )
    return valid


def _is_saved(paths: RecordingPaths, field: Field) -> bool:
    saved = read_field(paths.w_to_reference)
    return saved is not None and np.array_equal(field, saved)


def _given_or_saved(files: Sequence[RecordingPaths], given: Sequence[Field] | None) -> list[Field]:
    if given is None:
        return [saved_field(entry) for entry in files]
    if len(given) != len(files):
        raise ConfigError(
            [
                f"{len(given)} displacement fields were given for {len(files)} recordings; "
                "give one per recording, as run_stage2 returns them."
            ]
        )
    fields = [np.asarray(field, dtype=np.float64) for field in given]
    problems = [
        f"the displacement field given for {entry.name} has shape {field.shape}; it must be "
        "(H, W, 2), as run_stage2 returns it."
        for entry, field in zip(files, fields, strict=True)
        if field.ndim != 3 or field.shape[2] != 2
    ] or [
        f"the displacement field given for {entry.name} contains NaN or infinite values."
        for entry, field in zip(files, fields, strict=True)
        if not np.isfinite(field).all()
    ]
    if problems:
        raise ConfigError(problems)
    return fields


def run_stage3(
    config: SessionConfig,
    middle_idx: int | None = None,
    displacement_fields: Sequence[Field] | None = None,
) -> Mask:
    """Compute the final mask and write all recordings in the centre's grid.

    Parameters
    ----------
    config : SessionConfig
        The session; stages 1 and 2 must be finished.
    middle_idx : int, optional
        Position of the centre, from 0, as `run_stage2` returns it.
    displacement_fields : sequence of ndarray, optional
        Field (H, W, 2) of every recording, as `run_stage2` returns them; by default those saved.

    Returns
    -------
    ndarray of bool
        Pixels valid in every frame of every recording, shape (H, W).

    Raises
    ------
    InputError
        If results of stage 1 or 2 are missing or cannot be read.
    ConfigError
        If `middle_idx` or the fields do not fit the session.
    """
    session = _load(config, middle_idx, displacement_fields)
    final = _save_final_mask(config, session)
    centre = session.recordings[session.centre]
    for recording, field, saved in zip(
        session.recordings, session.fields, session.saved, strict=True
    ):
        # Of the saved field, an existing video may be kept.
        given = None if saved else field
        align_recording(config, recording, centre=centre, displacement=given)
    return final
