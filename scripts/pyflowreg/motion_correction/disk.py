"""Disk space of the results of stage 1. Imported while the workflow is parsed: no libraries."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pyflowreg.io.atomic import scratch_folder
from pyflowreg.io.space import check_space, field_bytes, held_bytes, mask_bytes, video_bytes

if TYPE_CHECKING:
    from pyflowreg.motion_correction.options import OFOptions

SMALL_FILES = 64 * 1024
"""Header, status, record, lock, and what a disk rounds the sizes of files up to."""


def binned_frames(frames: int, bin_size: int, buffer_size: int) -> int:
    """Return a bound of the number of frames that are left after binning.

    Parameters
    ----------
    frames : int
        Frames of the recording.
    bin_size, buffer_size : int
        Options of the correction.

    Returns
    -------
    int
        Exact for a bin size of 1.
    """
    if bin_size == 1:
        return frames
    return -(-frames // bin_size) + frames // (bin_size * buffer_size)


def stage1_bytes(
    shape: tuple[int, int, int, int],
    itemsize: int,
    *,
    output_format: str = "HDF5",
    save_w: bool = False,
    save_valid_idx: bool = True,
    checkpoint: bool = True,
) -> int:
    """Return the disk space that the correction of a recording takes at most, while it runs.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W, C) after binning.
    itemsize : int
        Bytes per value of the recording.
    output_format : str
        Of the corrected frames.
    save_w, save_valid_idx : bool
        Whether the fields and the masks of all frames are written.
    checkpoint : bool
        Whether it can be interrupted.

    Returns
    -------
    int
        Bytes.
    """
    frames, height, width, channels = shape
    need = video_bytes(shape, itemsize, output_format) + SMALL_FILES
    if save_valid_idx:
        need += mask_bytes((frames, height, width))
    if save_w:
        need += field_bytes((frames, height, width))
    # Average, reference, statistics. The record of a checkpoint has those, means and fields that
    # the next frame depends on; the new one is complete before the old one goes.
    plane = height * width * 8
    need += 2 * channels * plane + 32 * frames
    if checkpoint:
        need += 2 * ((5 * channels + 5) * plane + 48 * frames)
    return need


def check_stage1_space(
    options: OFOptions,
    shape: tuple[int, int, int, int],
    itemsize: int,
    what: str,
    *,
    checkpoint: bool = False,
    replaced: Iterable[Path] = (),
) -> None:
    """Make sure that there is room for the results of a recording before it is corrected.

    Parameters
    ----------
    options : OFOptions
        Folder and formats.
    shape : tuple of int
        (T, H, W, C) of the recording.
    itemsize : int
        Bytes per value.
    what : str
        What is going to be made, for the message.
    checkpoint : bool
        Whether it can be interrupted.
    replaced : iterable of Path
        Files, and folders of files, that will be continued or are removed before.

    Raises
    ------
    OutputError
        If there is not.
    """
    frames, height, width, channels = shape
    left = (binned_frames(frames, options.bin_size, options.buffer_size), height, width, channels)
    need = stage1_bytes(
        left,
        itemsize,
        output_format=options.output_format,
        save_w=options.save_w,
        save_valid_idx=options.save_valid_idx,
        checkpoint=checkpoint,
    )
    single = channels if options.output_format.startswith("MULTIFILE_") else 1
    video = video_bytes(left, itemsize, options.output_format) // single
    fields = field_bytes(left[:3]) if options.save_w else 0
    largest = max(video, fields)
    held = held_bytes(replaced)
    check_space(options.output_path, need, what, held=held, largest=largest)
    scratch = None if checkpoint else scratch_folder()
    if scratch is not None:
        check_space(scratch, need, what)
