"""Stage 3: pixels valid throughout the session, and the videos in the centre's grid."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.warping import imregister_binary
from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io.arrays import read_npz
from pyflowreg.io.atomic import remove_leftovers
from pyflowreg.io.failures import remove_file
from pyflowreg.io.fields import iter_masks
from pyflowreg.io.stack import Stack
from pyflowreg.session.aligned_video import (
    Field,
    align_recording,
    align_sequence_video,
    check_warping,
    field_follows,
    required,
)
from pyflowreg.session.averages import common_shape, temporal_average
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.contents import contents_of, wrong
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.final_files import mask_files, save_mask_files
from pyflowreg.session.locks import mask_lock, session_lock
from pyflowreg.session.outputs import (
    RecordingPaths,
    recording_paths,
    session_paths,
)
from pyflowreg.session.path_safety import check_paths
from pyflowreg.session.records import Record, keep_younger, mask_record
from pyflowreg.session.saved_fields import field_identity, read_field, saved_field
from pyflowreg.session.sources import corrected, is_same_mask, mask_sources
from pyflowreg.session.stage1_files import Stage1Files, check_other_programs

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
    session = _load(config, middle_idx, displacement_fields)
    with mask_lock(config):
        return _final_mask(config, session)


@dataclass(frozen=True)
class _Session:
    """What stage 3 works on; fields are read when they are asked for, one at a time."""

    recordings: list[Recording]
    centre: int
    files: list[RecordingPaths]
    given: Sequence[Field] | None

    def field(self, number: int, size: tuple[int, int] | None = None) -> Field:
        """Field of a recording, given or saved, then of this height and width."""
        if self.given is None:
            return saved_field(self.files[number], size)
        return np.asarray(self.given[number], dtype=np.float64)

    def is_saved(self, number: int) -> bool:
        """Whether the field of a recording is the one that stage 2 saved."""
        if self.given is None:
            return True
        saved = read_field(self.files[number].w_to_reference)
        return saved is not None and np.array_equal(self.field(number), saved)


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
    check_paths(config, recordings)
    files = [recording_paths(config, recording.name) for recording in recordings]
    session = _Session(recordings, centre, files, given)
    if given is not None:
        _check_given(files, given)
    elif session.field(centre).any():
        raise InputError(
            f"{files[centre].w_to_reference} is not zero, so the fields lead to another centre "
            f"than {recordings[centre].name}; set center and run stage 2 again."
        )
    return session


def _check_given(files: Sequence[RecordingPaths], given: Sequence[Field]) -> None:
    if len(given) != len(files):
        raise ConfigError(
            [
                f"{len(given)} displacement fields were given for {len(files)} recordings; "
                "give one per recording, as run_stage2 returns them."
            ]
        )
    problems = []
    for paths, values in zip(files, given, strict=True):
        field = np.asarray(values, dtype=np.float64)
        if field.ndim != 3 or field.shape[2] != 2:
            problems.append(
                f"the displacement field given for {paths.name} has shape {field.shape}; it must "
                "be (H, W, 2), as run_stage2 returns it."
            )
        elif not np.isfinite(field).all():
            problems.append(
                f"the displacement field given for {paths.name} contains NaN or infinite values."
            )
    if problems:
        raise ConfigError(problems)


class _PackedMasks:
    """Masks of all recordings, compressed: usually about a thousandth of an average each."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._packed: list[bytes] = []

    def add(self, mask: Mask) -> None:
        self._packed.append(zlib.compress(np.packbits(mask).tobytes()))

    def _mask(self, number: int) -> Mask:
        bits = np.frombuffer(zlib.decompress(self._packed[number]), np.uint8)
        return np.unpackbits(bits, count=math.prod(self._size)).reshape(self._size).astype(bool)

    def stack(self) -> Stack:
        return Stack(len(self._packed), self._size, np.dtype(bool), self._mask)


def _valid_mask(paths: RecordingPaths, field: Field, size: tuple[int, int]) -> Mask:
    """Pixels valid in every frame of a recording, which must have the size of all else."""
    files = Stage1Files(paths)
    idx = required(files.idx(), paths, "valid masks (idx.hdf)")
    with files.faults():
        valid = valid_throughout(idx)
    others = {"displacement": field.shape[:2], "temporal average": size}
    for name, other in others.items():
        if valid.shape != other:
            raise InputError(
                f"{idx} holds masks of shape {valid.shape}, the {name} of {paths.name} has "
                f"{other}; they belong to different recordings. Run stages 1 and 2 again."
            )
    return valid


@dataclass(frozen=True)
class _Origin:
    """Record of the final mask, what is to stand in it, and whether it may be written."""

    record: Record
    sources: dict[str, Any]
    is_certain: bool


def _origin(config: SessionConfig, session: _Session) -> _Origin:
    """Find out what the final mask is made from."""
    files, names = session.files, [recording.name for recording in session.recordings]
    middle = files[session.centre]
    reference = temporal_average(middle)
    parts, certain = [], True
    for number, paths in enumerate(files):
        follows = field_follows(config, paths, middle, reference)
        certain = certain and follows is not False and session.is_saved(number)
        parts.append((paths, corrected(paths), field_identity(paths.w_to_reference)))
    sources = mask_sources(session_paths(config).output_root, parts)
    return _Origin(mask_record(config, middle.name, names), sources, certain)


def _kept_mask(config: SessionConfig, session: _Session, origin: _Origin) -> Mask | None:
    """Return the final mask that is there, if it is complete and made from what is there now."""
    made, npz = mask_files(config, session.recordings), session_paths(config).final_npz
    if not (config.resume and origin.is_certain and all(path.is_file() for path in made)):
        return None
    if not is_same_mask(origin.record.sources, origin.sources):
        return None
    folder, stated = npz.parent, origin.record.files
    damaged = next((folder / name for name in stated if wrong(folder, stated, folder / name)), None)
    if damaged is not None:
        logger.warning("%s is not what was written; the final mask is made again.", damaged)
        return None
    try:
        mask: Mask = read_npz(npz, ("final_valid",))["final_valid"]
    except (OSError, InputError) as error:
        logger.warning("%s; the final mask is made again.", error)
        return None
    sources = [
        path
        for paths in session.files
        for path in (paths.temporal_average, paths.w_to_reference, Stage1Files(paths).idx())
        if path is not None
    ]
    logger.info("The final mask exists with these settings.")
    keep_younger([*made, origin.record.path], sources)
    return mask


def _final_mask(config: SessionConfig, session: _Session) -> Mask:
    """Make sure that the files of the final mask are there."""
    check_other_programs(config, session.recordings)
    common_shape(session.files)  # names all that is missing
    origin = _origin(config, session)
    remove_leftovers([origin.record.path, *mask_files(config, session.recordings)])
    mask = _kept_mask(config, session, origin)
    return _save_final_mask(config, session, origin) if mask is None else mask


def _save_final_mask(config: SessionConfig, session: _Session, origin: _Origin) -> Mask:
    """Compute the final mask, and write its files; recordings are worked on one by one."""
    files = session.files
    height, width, channels = common_shape(files)
    size = (height, width)
    own, aligned, final = _PackedMasks(size), _PackedMasks(size), np.ones(size, bool)
    for number, paths in enumerate(files):
        field = session.field(number, size)
        valid = _valid_mask(paths, field, size)
        own.add(valid)
        there = imregister_binary(valid, field[..., 0], field[..., 1])
        aligned.add(there)
        final &= there
    if not final.any():
        logger.warning("No pixel is valid in all recordings; look at the aligned masks.")
    origin.record.withdraw()
    remove_file(session_paths(config).status)
    real = np.dtype(np.float64)
    arrays = {
        "final_valid": final,
        "aligned_valid_masks": aligned.stack(),
        "per_seq_valid_masks": own.stack(),
        "displacement_fields_u": Stack(
            len(files), size, real, lambda number: session.field(number)[..., 0]
        ),
        "displacement_fields_v": Stack(
            len(files), size, real, lambda number: session.field(number)[..., 1]
        ),
        "temporal_averages": Stack(
            len(files), (*size, channels), real, lambda number: temporal_average(files[number])
        ),
        "reference_average": temporal_average(files[session.centre]),
    }
    made = save_mask_files(config, session.recordings, session.centre, arrays)
    if origin.is_certain:
        folder = session_paths(config).final_results
        origin.record.write(origin.sources, contents_of(folder, made))
    return final


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
    BackendError
        If the flow backend warps, and is not available.
    """
    check_warping(config)
    session = _load(config, middle_idx, displacement_fields)
    with session_lock(config):
        with mask_lock(config):
            final = _final_mask(config, session)
        centre = session.recordings[session.centre]
        for number, recording in enumerate(session.recordings):
            # Of the saved field, an existing video may be kept.
            given = None if session.is_saved(number) else session.field(number)
            align_recording(config, recording, centre=centre, displacement=given)
    return final
