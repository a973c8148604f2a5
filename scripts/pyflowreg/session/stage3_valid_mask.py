"""Stage 3: pixels valid throughout the session, and the videos in the centre's grid."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.warping import align_sequence, imregister_binary
from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import open_reader, open_writer
from pyflowreg.io.fields import iter_masks
from pyflowreg.motion_correction.progress import Progress
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.final_files import save_mask_files
from pyflowreg.session.outputs import (
    RecordingPaths,
    find_compensated,
    find_idx,
    recording_paths,
    session_paths,
)
from pyflowreg.session.records import Record, is_younger, mask_record, video_record
from pyflowreg.session.stage1_compensate import temporal_average, threads_of
from pyflowreg.session.stage2_between_avgs import (
    field_fingerprint,
    load_averages,
    read_field,
    saved_fingerprint,
)

logger = logging.getLogger(__name__)

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _required(found: Path | None, paths: RecordingPaths, what: str) -> Path:
    if found is None:
        raise InputError(f"{paths.name} has no {what} in {paths.folder}; run stage 1 first.")
    return found


def _field(paths: RecordingPaths) -> Field:
    field = read_field(paths.w_to_reference)
    if field is None or not np.isfinite(field).all():
        fault = "missing or cannot be read" if field is None else "not finite everywhere"
        raise InputError(f"{paths.w_to_reference} is {fault}; run stage 2 again.")
    return field


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
        valid: Mask = np.asarray((block > 0).all(axis=0))
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
    session = _load(config, middle_idx, displacement_fields)
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
    if displacement_fields is None or all(map(_is_saved, session.files, session.fields)):
        record.write()
    return final


@dataclass(frozen=True)
class _Session:
    """Recordings, position of the centre, files and fields of a session."""

    recordings: list[Recording]
    centre: int
    files: list[RecordingPaths]
    fields: list[Field]

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
    return _Session(recordings, centre, files, fields)


def _valid_mask(paths: RecordingPaths, field: Field) -> Mask:
    """Pixels valid in every frame of a recording, which must have the size of its field."""
    idx = _required(find_idx(paths.folder), paths, "valid masks (idx.hdf)")
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
        return [_field(entry) for entry in files]
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


def align_sequence_video(
    compensated: Path,
    output: Path,
    displacement: Field,
    reference_average: NDArray[Any],
    *,
    chunk_size: int = 64,
    output_format: str = "TIFF",
    threads: int = 1,
) -> Path:
    """Write a corrected recording in the centre's grid.

    Parameters
    ----------
    compensated : Path
        Corrected frames of stage 1.
    output : Path
        Video to write; it appears when it is complete.
    displacement : ndarray
        Field of the recording in pixels, (H, W, 2).
    reference_average : ndarray
        The centre's temporal average, (H, W, C): fills samples outside the recording.
    chunk_size : int
        Frames held in memory.
    output_format : {'TIFF', 'HDF5'}
        Format of the video.
    threads : int
        Frames warped at the same time.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    InputError
        If the frames cannot be read or do not fit the field.
    """
    with open_reader(compensated) as reader:
        if reader.shape[1:3] != displacement.shape[:2]:
            raise InputError(
                f"{compensated} holds frames of {reader.shape[1]} x {reader.shape[2]} pixels, the "
                f"displacement has {displacement.shape[0]} x {displacement.shape[1]}; "
                "run stages 1 and 2 again."
            )
        with (
            open_writer(
                output, shape=reader.shape, dtype=reader.dtype, format=output_format
            ) as writer,
            Progress(output.name, reader.shape[0]) as progress,
        ):
            for start in range(0, reader.shape[0], chunk_size):
                frames = reader.read(start, min(start + chunk_size, reader.shape[0]))
                writer.write(
                    align_sequence(frames, displacement, reference_average, "cubic", threads)
                )
                progress.update(start + len(frames))
    return output


def _follows(
    config: SessionConfig, paths: RecordingPaths, middle: RecordingPaths, fixed: NDArray[Any]
) -> bool | None:
    """Whether the saved field is stage 2's for these averages and settings; None: not its own."""
    saved = saved_fingerprint(paths.w_to_reference)
    if saved is None:
        return None
    is_centre = paths.name == middle.name
    return saved == field_fingerprint(config, fixed, temporal_average(paths), is_centre)


def _is_current(
    paths: RecordingPaths, sources: Sequence[Path], record: Record, follows: bool | None
) -> bool:
    """Whether the aligned video is younger than all it is made from, and complete.

    The age of a field that follows from the sources says nothing: it may have been made again.
    """
    if follows and not record.path.is_file():
        return False
    if not is_younger(paths.aligned, sources if follows else [*sources, paths.w_to_reference]):
        return False
    try:
        with open_reader(paths.aligned) as video, open_reader(sources[0]) as frames:
            return bool(video.shape == frames.shape and video.dtype == frames.dtype)
    except InputError:
        return False


def align_recording(
    config: SessionConfig,
    recording: Recording,
    *,
    centre: Recording | None = None,
    displacement: Field | None = None,
    threads: int | None = None,
) -> Path:
    """Write one corrected recording in the session's reference grid.

    Parameters
    ----------
    config : SessionConfig
        The session; with `resume`, a video younger than its sources is left as it is.
    recording : Recording
        One of its recordings.
    centre : Recording, optional
        The centre; by default from the settings.
    displacement : ndarray, optional
        Field (H, W, 2); by default the one saved by stage 2.
    threads : int, optional
        Frames warped at the same time; by default what `config.n_workers` says.

    Returns
    -------
    Path
        The video.

    Raises
    ------
    InputError
        If results of stage 1 or 2 are missing or cannot be read.
    """
    if centre is None:
        recordings = discover_recordings(config)
        centre = recordings[centre_index(config, recordings)]
    paths, middle = (recording_paths(config, entry.name) for entry in (recording, centre))
    compensated = _required(find_compensated(paths.folder), paths, "corrected frames")
    reference = temporal_average(middle)
    record = video_record(config, recording.name, centre.name)
    follows = _follows(config, paths, middle, reference)
    sources = [compensated, middle.temporal_average]
    if config.resume and displacement is None and _is_current(paths, sources, record, follows):
        logger.info("%s is already aligned.", recording.name)
        return paths.aligned
    record.withdraw()
    video = align_sequence_video(
        compensated,
        paths.aligned,
        _field(paths) if displacement is None else displacement,
        reference,
        chunk_size=config.align_chunk_size,
        output_format=config.align_output_format,
        threads=threads or threads_of(config),
    )
    if displacement is not None:
        # Older than its sources: it is not what the saved field gives, and made again with that.
        made = compensated.stat().st_mtime_ns - 1
        os.utime(video, ns=(made, made))
    elif follows is False:
        logger.warning(
            "%s was found with other settings or averages; run stage 2, then stage 3 again.",
            paths.w_to_reference,
        )
    else:
        record.write()
    return video


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
    final = compute_final_mask(config, middle_idx, displacement_fields)
    session = _load(config, middle_idx, displacement_fields)
    centre = session.recordings[session.centre]
    for recording, paths, field in zip(
        session.recordings, session.files, session.fields, strict=True
    ):
        # Of the saved field, an existing video may be kept.
        given = None if _is_saved(paths, field) else field
        align_recording(config, recording, centre=centre, displacement=given)
    return final
