"""Checks before anything is started: every problem of a session in one message."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from pyflowreg.core.numerics import MIN_SIDE, PROFILES
from pyflowreg.errors import BackendError, ConfigError, InputError
from pyflowreg.motion_correction.options import OFOptions
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.outputs import session_paths
from pyflowreg.session.path_safety import path_problems
from pyflowreg.session.sources import header_mark
from pyflowreg.session.status import file_identity

MAX_PROBLEMS = 20


class RecordingInfo(TypedDict):
    """What the header of a recording tells; JSON can hold it.

    Attributes
    ----------
    path : str
        The file or folder.
    shape : list of int
        [T, H, W, C].
    frames, height, width, channels : int
        The same, one by one; height and width in pixels.
    dtype : str
        Name of the number type, for example uint16.
    itemsize : int
        Bytes per value.
    bytes : int
        Size of all frames, uncompressed.
    made_of : str
        Fingerprint of the file and of how it was read.
    """

    path: str
    shape: list[int]
    frames: int
    height: int
    width: int
    channels: int
    dtype: str
    itemsize: int
    bytes: int
    made_of: str


@dataclass(frozen=True)
class Session:
    """A session that passed all checks.

    Parameters
    ----------
    recordings : tuple of Recording
        In natural order.
    centre : int
        0-based index of the recording all others are aligned to.
    infos : tuple of RecordingInfo
        One per recording.
    """

    recordings: tuple[Recording, ...]
    centre: int
    infos: tuple[RecordingInfo, ...]


def inspect_recording(
    path: str | os.PathLike[str], input_options: Mapping[str, Any] | None = None
) -> RecordingInfo:
    """Read the header of a recording.

    Parameters
    ----------
    path : path
        A file, or a folder of TIFFs.
    input_options : mapping, optional
        How to read it; see `pyflowreg.io.InputOptions`.

    Returns
    -------
    RecordingInfo
        `shape` is [T, H, W, C]; `bytes` counts all frames uncompressed.

    Raises
    ------
    InputError
        If it cannot be read, or has fewer than two frames.
    """
    from pyflowreg.io import open_reader

    with open_reader(path, input_options or None) as reader:
        mark = header_mark(file_identity(Path(path)), input_options)
        frames, height, width, channels = (int(extent) for extent in reader.shape)
        dtype = np.dtype(reader.dtype)
    if frames < 2:
        raise InputError(f"{path} has {frames} frame(s); a recording needs at least 2.")
    return RecordingInfo(
        path=os.fspath(path),
        shape=[frames, height, width, channels],
        frames=frames,
        height=height,
        width=width,
        channels=channels,
        dtype=dtype.name,
        itemsize=dtype.itemsize,
        bytes=frames * height * width * channels * dtype.itemsize,
        made_of=mark,
    )


def preflight(
    config: SessionConfig, *, here: bool = True, own_environments: bool = False
) -> Session:
    """Check a session as far as settings, folders and headers of files allow.

    Parameters
    ----------
    config : SessionConfig
        The session.
    here : bool
        Whether it will be computed on this machine, which then has to have the device.
    own_environments : bool
        Whether jobs have environments of their own, with the backend (``--sdm conda``): what is
        installed in this one says nothing, and the jobs look for the device.

    Returns
    -------
    Session
        Its recordings, their centre, and what their headers tell.

    Raises
    ------
    ConfigError
        With every problem found: missing root, no recordings, two of one name, unreadable or
        truncated files, recordings that differ in size or channels, a centre that is none of
        them, folders that cannot be written, a backend that is not installed or has no device.
    """
    problems = folder_problems(config)
    if not own_environments:
        problems = [*_backend_problems(config, here), *problems]
    try:
        recordings = discover_recordings(config)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    problems += path_problems(config, recordings)
    centre = 0
    try:
        centre = centre_index(config, recordings)
    except ConfigError as error:
        problems += error.problems
    infos, unreadable = _inspect_all(config, recordings)
    problems += unreadable
    if infos:
        problems += _differences(config, recordings, centre, infos)
        problems += _option_problems(config.options_for(), recordings, infos)
    if problems:
        raise ConfigError(_shortened(problems))
    return Session(tuple(recordings), centre, tuple(infos[record.name] for record in recordings))


def _shortened(problems: list[str]) -> list[str]:
    """Return at most MAX_PROBLEMS problems and how many were left out."""
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[:MAX_PROBLEMS], f"... and {len(problems) - MAX_PROBLEMS} more like these."]


def _backend_problems(config: SessionConfig, here: bool) -> list[str]:
    from pyflowreg.core.backend_registry import check_backend

    try:
        check_backend(config.flow_backend, config.used_backend_params, on_this_machine=here)
    except BackendError as error:
        return [str(error)]
    return []


def folder_problems(config: SessionConfig) -> list[str]:
    """Return problems of the two output folders, as lines; empty if results can be written."""
    paths = session_paths(config)
    root = os.path.realpath(paths.root)
    problems = []
    for key, folder in (
        ("output_root", paths.output_root),
        ("final_results", paths.final_results),
    ):
        if os.path.realpath(folder) == root:
            problems.append(
                f"{key}: {folder} is root itself, where results could replace recordings. Choose "
                "another folder; a relative path is a folder below root."
            )
            continue
        reason = _not_writable(folder)
        # A missing root is reported by itself.
        if reason and (paths.root.is_dir() or not folder.is_relative_to(paths.root)):
            problems.append(f"{key}: {reason} Choose a folder you may write to.")
    return problems


def _not_writable(folder: Path) -> str | None:
    """Return why `folder` cannot be made or written to, or None."""
    # os.path answers False where a Path raises, as below a folder that may not be read.
    for existing in (folder, *folder.absolute().parents):
        if os.path.isdir(existing):  # noqa: PTH112
            if os.access(existing, os.W_OK | os.X_OK):
                return None
            return f"{folder} cannot be written: there is no permission to write in {existing}."
        if os.path.lexists(existing):
            return f"{folder} cannot be made: {existing} is not a folder."
    return f"{folder} cannot be made."


def _inspect_all(
    config: SessionConfig, recordings: Sequence[Recording]
) -> tuple[dict[str, RecordingInfo], list[str]]:
    """Read all headers; return them by name, and the problems of those that cannot be read."""
    infos, problems = {}, []
    for recording in recordings:
        try:
            infos[recording.name] = inspect_recording(recording.path, config.input_options)
        except InputError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{recording.path}: cannot be read ({error.strerror or error}).")
    return infos, problems


def _layout(info: RecordingInfo) -> tuple[int, int, int]:
    return info["height"], info["width"], info["channels"]


def _differences(
    config: SessionConfig,
    recordings: Sequence[Recording],
    centre: int,
    infos: Mapping[str, RecordingInfo],
) -> list[str]:
    """Return each recording whose height, width or channels are not those of the session."""
    model = recordings[centre]
    if config.center is None or model.name not in infos:
        # Nobody chose a centre: the layout most recordings share is the right one.
        counts = Counter(_layout(info) for info in infos.values())
        usual = counts.most_common(1)[0][0]
        if model.name not in infos or _layout(infos[model.name]) != usual:
            model = next(
                r for r in recordings if r.name in infos and _layout(infos[r.name]) == usual
            )
    height, width, channels = _layout(infos[model.name])
    problems = []
    for recording in recordings:
        info = infos.get(recording.name)
        if info is None or _layout(info) == (height, width, channels):
            continue
        problems.append(
            f"{recording.path.name} is {info['height']} x {info['width']} pixels with "
            f"{info['channels']} channel(s), {model.path.name} is {height} x {width} with "
            f"{channels}: all recordings of a session need the same height, width and channels. "
            "Exclude it through pattern, or choose channels with input_options.channels."
        )
    return problems


def _option_problems(
    options: OFOptions, recordings: Sequence[Recording], infos: Mapping[str, RecordingInfo]
) -> list[str]:
    """Return options of stage 1 that do not fit the recordings."""
    first = next(iter(infos.values()))
    size = (first["height"], first["width"])
    problems: list[str] = []
    for check in (options.weight_for, options.a_data_for):
        try:
            check(first["channels"])
        except ConfigError as error:
            problems += [f"flow_options.{text}" for text in error.problems]
    maps = getattr(options.weight, "shape", size)[-2:]
    if maps != size:
        problems.append(
            f"flow_options.weight: is {maps[0]} x {maps[1]} pixels, the recordings are "
            f"{size[0]} x {size[1]}."
        )
    problems += _reference_problems(options, (*size, first["channels"]))
    if min(size) < MIN_SIDE:
        problems.append(
            f"the recordings are {size[0]} x {size[1]} pixels; the optical flow needs at least "
            f"{MIN_SIDE} in height and width."
        )
    for recording in recordings:
        if recording.name in infos:
            frames = infos[recording.name]["frames"]
            problems += _length_problems(options, recording, frames)
    return problems


def _reference_problems(options: OFOptions, shape: tuple[int, int, int]) -> list[str]:
    """Return why an image given as reference does not fit frames of this shape."""
    if options.reference_is_frames:
        return []
    from pyflowreg.motion_correction.reference import as_reference, read_reference_image

    source = options.reference_frames
    try:
        if isinstance(source, np.ndarray):
            as_reference(source, shape, "in reference_frames")
        else:
            read_reference_image(Path(source), shape)
    except ConfigError as error:
        return [f"flow_options.reference_frames: {text}" for text in error.problems]
    return []


def _length_problems(options: OFOptions, recording: Recording, frames: int) -> list[str]:
    """Return options that a recording of so many frames is too short for."""
    from pyflowreg.motion_correction.frames import bins

    drop_short = PROFILES[options.numerics].drop_short_bin
    frames = len(bins(frames, options.bin_size, options.buffer_size, drop_short))
    if frames < 2:
        return [
            f"{recording.path.name}: flow_options.bin_size: {options.bin_size} leaves fewer than 2 "
            "frames of the recording; choose a smaller one."
        ]
    if options.numerics == "matlab" and options.reference_is_frames:
        try:
            options.reference_indices(frames)
        except ConfigError as error:
            return [f"{recording.path.name}: flow_options.{text}" for text in error.problems]
    return []
