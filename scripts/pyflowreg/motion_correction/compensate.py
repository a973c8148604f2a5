"""Correct one recording and write everything that belongs to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.compilation.log import compile_log
from pyflowreg.core.threads import available_threads
from pyflowreg.errors import ConfigError
from pyflowreg.io import Reader, open_reader, output_paths
from pyflowreg.io.atomic import atomic_save_npy, atomic_save_npz
from pyflowreg.io.failures import remove_file
from pyflowreg.io.fields import FieldWriter, MaskWriter
from pyflowreg.io.opening import make_writer
from pyflowreg.motion_correction.checkpoint import Checkpoint
from pyflowreg.motion_correction.correction import RecordingCorrection
from pyflowreg.motion_correction.disk import check_stage1_space
from pyflowreg.motion_correction.options import OFOptions
from pyflowreg.motion_correction.progress import shown_messages
from pyflowreg.motion_correction.recording_run import CorrectedRecording, Outputs, RecordingRun
from pyflowreg.motion_correction.statistics import STATISTICS

__all__ = ["available_threads", "compensate_recording", "correct_recording"]

logger = logging.getLogger(__name__)

SUFFIXES = {"HDF5": "hdf5", "TIFF": "tif", "MAT": "mat", "CAIMAN_HDF5": "hdf5"}
MASKS, FIELDS = "idx.hdf", "w.h5"
STATISTICS_FILE, REFERENCE_FILE = "statistics.npz", "reference_frame.npy"


def output_file(options: OFOptions, name: str) -> Path:
    """Path of an output of `compensate_recording`, after the naming convention."""
    prefix = ""
    if options.naming_convention == "batch" and options.input_file is not None:
        prefix = f"{options.input_file.stem}_"
    return options.output_path / f"{prefix}{name}"


def compensated_file(options: OFOptions) -> Path:
    """Path of the corrected recording; base of the names for MULTIFILE formats."""
    suffix = SUFFIXES.get(options.output_format.removeprefix("MULTIFILE_"), "")
    return output_file(options, f"compensated.{suffix}")


def _refuse_to_overwrite(options: OFOptions, recording: Path, channels: int) -> None:
    """Refuse outputs that would replace, or become part of, what is read."""
    if options.output_path.exists() and not options.output_path.is_dir():
        raise ConfigError([f"output_path: {options.output_path} is a file; give a folder."])
    written = output_paths(compensated_file(options), channels, options.output_format)
    others = (MASKS, FIELDS, STATISTICS_FILE, REFERENCE_FILE)
    written += [output_file(options, name) for name in others]
    read = [recording]
    if isinstance(options.reference_frames, Path):
        read.append(options.reference_frames)
    for path in read:
        taken = [str(output) for output in written if output.resolve() == path.resolve()]
        if taken:
            raise ConfigError(
                [f"output_path: {taken[0]} would be overwritten, but is read. Choose another."]
            )
    if recording.is_dir() and options.output_path.resolve() == recording.resolve():
        raise ConfigError(
            [f"output_path: {recording} is the recording itself. Choose another folder."]
        )


def _open_outputs(options: OFOptions, correction: RecordingCorrection) -> Outputs:
    shape = correction.shape[:3]
    video = make_writer(
        compensated_file(options), correction.shape, correction.dtype, options.output_format
    )
    return Outputs(
        video,
        MaskWriter(output_file(options, MASKS), shape) if options.save_valid_idx else None,
        FieldWriter(output_file(options, FIELDS), shape) if options.save_w else None,
    )


def _remove_older(options: OFOptions) -> None:
    """Remove what an earlier run left here and this one did not make: it is of other frames."""
    made = {
        MASKS: options.save_valid_idx,
        FIELDS: options.save_w,
        STATISTICS_FILE: options.save_meta_info,
        REFERENCE_FILE: options.save_meta_info,
    }
    for name, new in made.items():
        path = output_file(options, name)
        if not new and path.is_file():
            remove_file(path)
            logger.info("%s belonged to an earlier run and is removed.", path)


def _check_space(options: OFOptions, reader: Reader, checkpoint: Checkpoint | None) -> None:
    """Make sure that there is room for the results beside those of an earlier run."""
    if checkpoint is not None and checkpoint.is_complete:
        return
    check_stage1_space(
        options,
        reader.shape,
        reader.dtype.itemsize,
        f"Correcting {reader.path.name}",
        checkpoint=checkpoint is not None,
        replaced=[] if checkpoint is None else [checkpoint.folder],
    )


def correct_recording(
    options: OFOptions,
    reference: NDArray[Any] | None = None,
    threads: int | None = None,
    checkpoint: Checkpoint | None = None,
    before_publishing: Callable[[], None] = lambda: None,
) -> CorrectedRecording:
    """Correct one recording; see `compensate_recording`, which returns the reference only.

    With a checkpoint, it goes on from where an interrupted run was, and can be interrupted.
    `before_publishing` is called when all frames are there; files appear unless it raises.
    """
    if options.input_file is None:
        raise ConfigError(["input_file is not set; give the recording that is to be corrected."])
    if threads is not None and threads < 1:
        raise ConfigError([f"threads is {threads}; it must be at least 1, or None for all cores."])
    workers = threads or available_threads()
    with open_reader(options.input_file, options.input_options or None) as reader:
        _refuse_to_overwrite(options, options.input_file, reader.shape[3])
        _check_space(options, reader, checkpoint)
        make = partial(_open_outputs, options)
        run = RecordingRun(reader, options, reference, workers, make, checkpoint, before_publishing)
        result = run()
    compile_log.report()
    _remove_older(options)
    if options.save_meta_info:
        columns = dict(zip(STATISTICS, result.statistics.T, strict=True))
        atomic_save_npz(output_file(options, STATISTICS_FILE), **columns)
        atomic_save_npy(output_file(options, REFERENCE_FILE), result.reference)
    return result


def compensate_recording(
    options: OFOptions,
    reference_frame: NDArray[Any] | None = None,
    *,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Remove the motion from one recording.

    Every frame is registered to a reference by dense variational optical flow and warped
    (Flotho et al., J. Biophotonics 2022, doi:10.1002/jbio.202100330).

    Parameters
    ----------
    options : OFOptions
        Recording, output folder and settings. Written to `options.output_path`:
        ``compensated.<format>``; with `save_valid_idx` ``idx.hdf`` (uint8 0/255, (T, H, W)); with
        `save_w` ``w.h5`` (float32 px, (T, H, W)); with `save_meta_info` ``statistics.npz`` and
        ``reference_frame.npy``. Frames, masks and fields appear together, when all are complete;
        those of an earlier run that are not asked for now are removed.
    reference_frame : ndarray, optional
        Image (H, W) or (H, W, C) to register to, instead of `options.reference_frames`; its
        intensities are adapted to the recording.
    threads : int, optional
        Frames computed at the same time; all cores by default. The result does not depend on it.

    Returns
    -------
    ndarray
        The reference, float64, (H, W, C), in the recording's intensities.

    Raises
    ------
    ConfigError
        If options or reference do not fit the recording.
    InputError
        If the recording cannot be read, or a frame is not finite.
    BackendError
        If the flow backend is not installed.

    Examples
    --------
    >>> from pyflowreg.motion_correction import OFOptions, compensate_recording
    >>> options = OFOptions(input_file="rec.tif", output_path="out", output_format="HDF5")
    >>> reference = compensate_recording(options)  # doctest: +SKIP
    """
    with shown_messages(options.verbose):
        return correct_recording(options, reference_frame, threads).reference
