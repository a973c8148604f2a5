"""Stage 1: motion correction within each recording."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pyflowreg.cluster.allocation import allocated_cores
from pyflowreg.core.backend_registry import check_backend
from pyflowreg.errors import InputError, UnreadableError
from pyflowreg.io import open_reader
from pyflowreg.io.atomic import (
    atomic_save_npy,
    atomic_save_npz,
    atomic_write_json,
    remove_leftovers,
)
from pyflowreg.io.failures import remove_file
from pyflowreg.io.fields import mask_shape
from pyflowreg.motion_correction.checkpoint import Checkpoint, claimed
from pyflowreg.motion_correction.compensate import available_threads, correct_recording
from pyflowreg.motion_correction.disk import check_stage1_space
from pyflowreg.motion_correction.software import libraries_of
from pyflowreg.session.config import SessionConfig, get_array_task_id
from pyflowreg.session.discovery import Recording, recording_of_task
from pyflowreg.session.locks import session_lock
from pyflowreg.session.outputs import (
    RecordingPaths,
    find_compensated,
    find_idx,
    recording_paths,
)
from pyflowreg.session.path_safety import check_paths
from pyflowreg.session.preflight import inspect_recording, preflight
from pyflowreg.session.records import stage1_record
from pyflowreg.session.room import room_remark
from pyflowreg.session.sources import correction_fingerprint, correction_sources, header_mark
from pyflowreg.session.stage1_files import Stage1Files, stage1_contents
from pyflowreg.session.status import (
    digest,
    file_identity,
    load_status,
    read_status,
    write_status,
)

__all__ = [
    "atomic_save_npy",
    "atomic_save_npz",
    "compensate_session_recording",
    "run_stage1",
    "run_stage1_array",
]

logger = logging.getLogger(__name__)


def _overridden(config: SessionConfig, override: Mapping[str, Any] | None) -> SessionConfig:
    if not override:
        return config
    changed = config.model_copy()
    changed.flow_options = {**config.flow_options, **override}
    return changed


def threads_of(config: SessionConfig) -> int:
    """Threads that `n_workers` asks for.

    Parameters
    ----------
    config : SessionConfig
        The session.

    Returns
    -------
    int
        At least 1; for ``n_workers: -1`` all that the process may use, in a job of a scheduler
        the cores it was given.
    """
    if config.n_workers > 0:
        return config.n_workers
    return min(available_threads(), allocated_cores() or available_threads())


def _made_of(config: SessionConfig, recording: Recording) -> dict[str, Any]:
    """Return what the results depend on."""
    try:
        return correction_sources(config.settings_of_stage(1), file_identity(recording.path))
    except OSError as error:
        raise InputError(
            f"{error.filename or recording.path} cannot be found any more "
            f"({error.strerror or error}): put it back, and run again, which goes on with the "
            "frames that are done."
        ) from error


def _check_unchanged(
    config: SessionConfig, recording: Recording, made_of: Mapping[str, Any]
) -> None:
    """Refuse to publish results of an input that is not what it was when it was first read."""
    now = _made_of(config, recording)
    differ = [what for what in made_of if now[what] != made_of[what]]
    if not differ:
        return
    if "input" in differ:
        changed = (
            f"{recording.path} was changed while {recording.name} was corrected (size and time "
            f"were {made_of['input']}, now {now['input']})"
        )
    else:
        image = config.options_for().reference_frames
        named = image if isinstance(image, Path) else "A file that the settings name"
        changed = f"{named} was changed while {recording.name} was corrected"
    raise InputError(
        f"{changed}: nothing of this run is used. Run again when no program writes to it any more."
    )


def is_complete(config: SessionConfig, recording: Recording) -> bool:
    """Whether stage 1 of a recording is finished, with these settings and this input.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recording : Recording
        One of its recordings.

    Returns
    -------
    bool
        True if status.json says so and the frames of all files are there.
    """
    paths = recording_paths(config, recording.name)
    try:
        status = load_status(paths.status)
    except UnreadableError:
        raise
    except InputError as error:
        logger.warning("%s is corrected again: %s.", recording.name, error)
        return False
    if status.get("stage1") != "done" or status.get("fingerprint") != correction_fingerprint(
        _made_of(config, recording)
    ):
        return False
    problem = _damage(config, paths, status)
    if problem is not None:
        logger.warning("%s is corrected again: %s.", recording.name, problem)
    return problem is None


def _damage(config: SessionConfig, paths: RecordingPaths, status: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the files of a recording that was finished, for a message."""
    needed = [paths.temporal_average, paths.statistics, paths.reference_frame]
    if config.options_for().save_w:
        needed.append(paths.displacements)
    compensated, idx = find_compensated(paths.folder), find_idx(paths.folder)
    if compensated is None or idx is None:
        return f"{paths.idx if compensated else paths.compensated} is missing"
    missing = [path for path in needed if not path.is_file()]
    if missing:
        return f"{missing[0]} is missing"
    try:
        problem = Stage1Files(paths).damage()
        with open_reader(compensated) as reader:
            size = reader.shape[:3]
        masks = mask_shape(idx)
    except UnreadableError:
        raise
    except InputError as error:
        return str(error).rstrip(".")
    if problem is None and not size[0] == masks[0] == status.get("frames"):
        problem = f"{compensated} has {size[0]} frames, {idx} {masks[0]}, not {status['frames']}"
    return problem


def compensate_session_recording(
    config: SessionConfig, recording: Recording, threads: int | None = None
) -> Path:
    """Correct the motion within one recording of a session.

    Parameters
    ----------
    config : SessionConfig
        The session; with `resume`, a finished recording is left as it is.
    recording : Recording
        One of its recordings.
    threads : int, optional
        Frames computed at the same time; by default what `config.n_workers` says. The result does
        not depend on it.

    Returns
    -------
    Path
        The recording's output folder.

    Raises
    ------
    PyflowregError
        If the recording or the settings cannot be used.
    """
    check_paths(config, [recording])
    paths = recording_paths(config, recording.name)
    interrupted = paths.checkpoint.exists()
    if not interrupted and _is_finished(config, recording):
        return paths.folder
    # Before results or the checkpoint of other settings are given up for it.
    check_backend(config.flow_backend, config.used_backend_params, on_this_machine=True)
    # Its lock is needed also if nothing is to be kept.
    with _checkpoint_of(config, recording) as checkpoint:
        _tidy(config, recording)
        if not _is_finished(config, recording):  # by another run, while this one waited
            if checkpoint.state is not None and not config.resume:
                checkpoint.discard("not wanted (resume is false)")
            kept = config.checkpoint_seconds > 0 or checkpoint.state is not None
            _correct(config, recording, threads, checkpoint if kept else None)
        checkpoint.remove()
    return paths.folder


def _is_finished(config: SessionConfig, recording: Recording) -> bool:
    if not config.resume or not is_complete(config, recording):
        return False
    logger.info("%s is already corrected with these settings.", recording.name)
    stage1_record(config, recording.name).restore()
    header = recording_paths(config, recording.name).header
    mark = header_mark(file_identity(recording.path), config.input_options)
    if read_status(header).get("made_of") != mark:
        atomic_write_json(header, inspect_recording(recording.path, config.input_options))
    return True


def _checkpoint_of(
    config: SessionConfig, recording: Recording
) -> AbstractContextManager[Checkpoint]:
    folder = recording_paths(config, recording.name).checkpoint
    made_of = {name: digest(part) for name, part in _made_of(config, recording).items()}
    if libraries := libraries_of(config.flow_backend):
        made_of["libraries"] = libraries
    return claimed(folder, made_of, config.checkpoint_seconds, f"Recording {recording.name}")


def _tidy(config: SessionConfig, recording: Recording) -> None:
    """Remove what runs that were killed left under temporary names."""
    paths = recording_paths(config, recording.name)
    frames = (paths.compensated, paths.idx, paths.displacements)
    others = (paths.status, paths.temporal_average, paths.statistics, paths.reference_frame)
    record = stage1_record(config, recording.name).path
    remove_leftovers([*frames, *others, paths.header, record])


def _correct(
    config: SessionConfig,
    recording: Recording,
    threads: int | None,
    checkpoint: Checkpoint | None = None,
) -> Path:
    """Make all files of a recording, the one that says so last."""
    paths = recording_paths(config, recording.name)
    record = stage1_record(config, recording.name)
    frames = (paths.compensated, paths.idx, paths.displacements)
    # Nothing old may stand beside what is new, or be taken for finished after an interruption.
    needed = [path for path in frames if checkpoint is not None and checkpoint.needs(path)]
    old = [path for path in (paths.status, paths.temporal_average, *frames) if path not in needed]
    made_of = _made_of(config, recording)
    info = inspect_recording(recording.path, config.input_options)
    options = config.options_for(recording.path, paths.folder)
    if checkpoint is None or not checkpoint.is_complete:
        check_stage1_space(
            options,
            (info["frames"], info["height"], info["width"], info["channels"]),
            info["itemsize"],
            f"Correcting {recording.name}",
            checkpoint=checkpoint is not None,
            replaced=[*old, paths.checkpoint],
        )
    for path in old:
        remove_file(path)
    record.withdraw()
    # Before the results, because Snakemake takes it for their input.
    atomic_write_json(paths.header, info)
    result = correct_recording(
        options,
        None,
        threads or threads_of(config),
        checkpoint,
        lambda: _check_unchanged(config, recording, made_of),
    )
    atomic_save_npy(paths.temporal_average, result.temporal_average)
    files = stage1_contents(paths, options.save_w)
    write_status(
        paths.status,
        "stage1",
        fingerprint=correction_fingerprint(made_of),
        frames=result.n_frames,
        files=files,
    )
    record.write()
    return paths.folder


def run_stage1(
    config: SessionConfig, of_options_override: Mapping[str, Any] | None = None
) -> list[Path]:
    """Correct the motion within every recording of a session.

    Parameters
    ----------
    config : SessionConfig
        The session.
    of_options_override : mapping, optional
        Entries that replace those of `config.flow_options`.

    Returns
    -------
    list of Path
        Output folder of every recording, in natural order of their names.

    Raises
    ------
    ConfigError
        With every problem found before the first recording is started.
    InputError
        If a frame of a recording cannot be read or is not finite.
    """
    config = _overridden(config, of_options_override)
    session = preflight(config)
    logger.info(
        "%d recordings; all others are aligned to %s.",
        len(session.recordings),
        session.recordings[session.centre].path.name,
    )
    remark = room_remark(config, session)
    if remark is not None:
        logger.warning("%s", remark)
    with session_lock(config):
        return [compensate_session_recording(config, entry) for entry in session.recordings]


def run_stage1_array(
    config: SessionConfig,
    of_options_override: Mapping[str, Any] | None = None,
    task_id: int | None = None,
) -> Path:
    """Correct the one recording that belongs to this job of an array.

    Parameters
    ----------
    config : SessionConfig
        The session.
    of_options_override : mapping, optional
        Entries that replace those of `config.flow_options`.
    task_id : int, optional
        Number of the recording, from 1; by default from the scheduler's environment, see
        `get_array_task_id`.

    Returns
    -------
    Path
        The recording's output folder.

    Raises
    ------
    ConfigError
        If there is no task number, or no such recording.
    """
    config = _overridden(config, of_options_override)
    number = get_array_task_id() if task_id is None else task_id
    recording = recording_of_task(preflight(config).recordings, number)
    with session_lock(config):
        return compensate_session_recording(config, recording)
