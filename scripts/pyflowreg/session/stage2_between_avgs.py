"""Stage 2: displacement of every recording from the centre, found between temporal averages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_registry import check_backend, get_backend
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.core.numerics import PROFILES
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.threads import for_each
from pyflowreg.core.warping import warp_frame
from pyflowreg.errors import ConfigError
from pyflowreg.io.atomic import atomic_save_npz, remove_leftovers
from pyflowreg.motion_correction.preprocessing import ROUNDING, gaussian
from pyflowreg.motion_correction.rigid import rigid_shift
from pyflowreg.session.averages import common_shape, temporal_average
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.contents import contents_of, wrong
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.locks import session_lock, stage2_lock
from pyflowreg.session.outputs import RecordingPaths, recording_paths
from pyflowreg.session.path_safety import check_paths
from pyflowreg.session.records import keep_younger, stage2_record, stated_field
from pyflowreg.session.saved_fields import read_field, saved_field, saved_fingerprint
from pyflowreg.session.sources import FIELD, corrected, field_sources
from pyflowreg.session.stage1_compensate import threads_of
from pyflowreg.session.stage1_files import check_other_programs
from pyflowreg.session.status import array_digest, digest

logger = logging.getLogger(__name__)

Images = NDArray[np.float64]

DATA_NORMALISER = 5e-6
"""The averages are smoothed far more than single frames, so their gradients are smaller."""

FINEST_SMOOTHING = 1.5
"""Fields are refined with half the smoothing until it would be finer than this (px): heavily
smoothed averages show where large displacements lead, but not where exactly they end."""


def _flow_parameters(config: SessionConfig, weight: NDArray[np.float64]) -> FlowParameters:
    """Settings of the flow between averages; the profile decides what the session leaves open."""
    if PROFILES[config.numerics].stage2_rigid_start:
        open_settings: dict[str, Any] = {"eta": 0.75, "update_lag": 10, "a_smooth": 0.5}
    else:
        open_settings = {"eta": 0.8, "update_lag": 5, "a_smooth": 1.0}
        open_settings["data_normaliser"] = DATA_NORMALISER
        open_settings["noise_normaliser"] = 0.0  # averages differ in sharpness, hardly in noise
    return FlowParameters.create(
        alpha=config.alpha_between,
        a_data=0.45,
        weight=weight,
        levels=50,
        iterations=config.iterations_between,
        min_level=0,
        data_term=config.stage2_constancy_assumption,
        numerics=config.numerics,
        precision=config.precision,
        **open_settings,
    )


def compute_between_displacement(
    reference_avg: Images, current_avg: Images, config: SessionConfig
) -> NDArray[np.float64]:
    """Displacement of one recording's temporal average from the centre's.

    Parameters
    ----------
    reference_avg, current_avg : ndarray
        Temporal averages of the centre and of the recording, float64, (H, W) or (H, W, C).
    config : SessionConfig
        `sigma_smooth`, `cc_upsample`, `alpha_between`, `iterations_between`,
        `stage2_constancy_assumption`, the channel weights of `flow_options`, backend and profile.

    Returns
    -------
    ndarray
        float64, shape (H, W, 2), pixels; backward map: centre(y, x) = recording(y + v, x + u).
        Zero if one of the averages is constant.

    Raises
    ------
    ConfigError
        If the averages differ in shape.
    """
    fixed, moving = (
        image[:, :, None] if image.ndim == 2 else image for image in (reference_avg, current_avg)
    )
    if fixed.shape != moving.shape:
        raise ConfigError(
            [
                f"the temporal averages have shapes {fixed.shape} and {moving.shape}; all "
                "recordings of a session need the same height, width and channels."
            ]
        )
    if not (_has_structure(fixed) and _has_structure(moving)):
        logger.warning("A temporal average is constant; the displacement is set to zero.")
        return np.zeros((*fixed.shape[:2], 2))
    weight = config.options_for().weight_for(fixed.shape[2])
    if weight.ndim > 1:
        weight = np.moveaxis(weight, 0, -1)
    shift = rigid_shift(
        (fixed * weight).sum(axis=-1),
        (moving * weight).sum(axis=-1),
        config.cc_upsample,
    )
    field = np.broadcast_to(shift, (*fixed.shape[:2], 2)).copy()
    parameters = _flow_parameters(config, weight)
    backend = get_backend(config.flow_backend, config.used_backend_params)
    if parameters.switches.stage2_rigid_start:
        target, source = _smoothed(fixed, moving, config.sigma_smooth)
        plan = backend.prepare(target, parameters)
        return np.asarray(plan.displacements(source[None], field)[0], dtype=np.float64)
    for sigma in _smoothing_steps(config.sigma_smooth):
        target, source = _smoothed(fixed, moving, sigma)
        plan = backend.prepare(target, parameters)
        step = plan.displacements(warp_frame(source, field, target)[None])[0].astype(np.float64)
        field = step + warp_frame(field, step, field)
    return field


def _has_structure(image: Images) -> bool:
    """Whether an image (H, W, C) differs from a constant by more than rounding errors."""
    return bool((np.ptp(image, axis=(0, 1)) > ROUNDING * np.abs(image).max(axis=(0, 1))).any())


def _smoothing_steps(sigma: float) -> list[float]:
    """Widths (px) with which a field is found and then refined, each half of the one before."""
    steps = [sigma]
    while steps[-1] / 2 >= FINEST_SMOOTHING:
        steps.append(steps[-1] / 2)
    return steps


def _smoothed(fixed: Images, moving: Images, sigma: float) -> tuple[Images, Images]:
    """Smooth both images (H, W, C) by `sigma` px and scale them by the range of the first."""
    widths = np.tile([sigma, sigma, 0.0], (fixed.shape[2], 1))
    first, second = (gaussian(image[None], widths)[0] for image in (fixed, moving))
    low, span = first.min(), np.ptp(first)
    factor = 1 / span if span > 0 else 1.0
    return (first - low) * factor, (second - low) * factor


def field_fingerprint(config: SessionConfig, fixed: Images, moving: Images, is_centre: bool) -> str:
    """Fingerprint of what a field is made from.

    Parameters
    ----------
    config : SessionConfig
        The session.
    fixed, moving : ndarray
        Temporal averages of the centre and of the recording, float64, (H, W, C).
    is_centre : bool
        Whether the recording is the centre.

    Returns
    -------
    str
        What `saved_fingerprint` returns for the field that stage 2 finds.
    """
    settings = {**config.settings_of_stage(2), "center": is_centre}
    return digest(settings, array_digest(fixed), array_digest(moving))


def _save_field(
    config: SessionConfig, paths: RecordingPaths, centre: RecordingPaths, fixed: Images
) -> None:
    """Make sure that the field of a recording is saved, and its record."""
    moving = temporal_average(paths)
    is_centre = paths.name == centre.name
    fingerprint = field_fingerprint(config, fixed, moving, is_centre)
    record = stage2_record(config, paths.name, centre.name)
    sources = {**field_sources(corrected(paths), corrected(centre)), FIELD: fingerprint}
    if config.resume and saved_fingerprint(paths.w_to_reference) == fingerprint:
        saved = read_field(paths.w_to_reference)
        if (
            saved is not None
            and saved.shape == (*fixed.shape[:2], 2)
            and np.isfinite(saved).all()
            and not wrong(paths.folder, stated_field(paths), paths.w_to_reference)
        ):
            logger.info("%s: the displacement exists with these settings.", paths.name)
            if record.sources != sources:
                record.withdraw()  # with another centre of the same average, there is one
                record.write(sources, contents_of(paths.folder, [paths.w_to_reference]))
            return
        logger.warning("%s is damaged; it is made again.", paths.w_to_reference)
    record.withdraw()
    if is_centre:
        w = np.zeros((*fixed.shape[:2], 2))
    else:
        w = compute_between_displacement(fixed, moving, config)
    atomic_save_npz(paths.w_to_reference, u=w[..., 0], v=w[..., 1], fingerprint=fingerprint)
    record.write(sources, contents_of(paths.folder, [paths.w_to_reference]))
    length = np.hypot(w[..., 0], w[..., 1])
    logger.info(
        "%s: displacement %.2f px mean, %.2f px max.", paths.name, length.mean(), length.max()
    )


def save_fields(config: SessionConfig, threads: int | None = None) -> tuple[list[Recording], int]:
    """Find and save the displacement of every recording from the centre.

    What `run_stage2` does, but no more fields are in memory than are worked on.

    Parameters
    ----------
    config : SessionConfig
        The session; stage 1 must be finished for all recordings.
    threads : int, optional
        Recordings worked on at the same time; by default what `config.n_workers` says. The result
        does not depend on it.

    Returns
    -------
    recordings : list of Recording
        The recordings of the session; each has its ``w_to_reference.npz`` now.
    centre : int
        Position of the centre among them, from 0.

    Raises
    ------
    ConfigError
        If recordings or averages are missing or do not fit together.
    BackendError
        If the flow backend is not available.
    """
    check_backend(config.flow_backend, config.used_backend_params, on_this_machine=True)
    recordings = discover_recordings(config)
    centre = centre_index(config, recordings)
    check_paths(config, recordings)
    with stage2_lock(config):
        _save_all(config, recordings, centre, threads or threads_of(config))
    return recordings, centre


def _save_all(
    config: SessionConfig, recordings: list[Recording], centre: int, threads: int
) -> None:
    """Save all fields, and then the record that says so."""
    files = [recording_paths(config, recording.name) for recording in recordings]
    names = [recording.name for recording in recordings]
    records = [stage2_record(config, name, names[centre]).path for name in names]
    averages = [paths.temporal_average for paths in files]
    fields = [paths.w_to_reference for paths in files]
    remove_leftovers([*records, *averages, *fields])
    check_other_programs(config, recordings)
    common_shape(files)
    fixed = temporal_average(files[centre])

    def one(number: int) -> None:
        _save_field(config, files[number], files[centre], fixed)

    for_each(one, len(files), threads)
    compile_log.report()
    keep_younger([*fields, *records], averages)


def run_stage2(config: SessionConfig) -> tuple[int, Path, list[NDArray[np.float64]]]:
    """Find the displacement of every recording from the centre.

    The fields of all recordings are returned, so they all are in memory in the end. `save_fields`
    does the same without that.

    Parameters
    ----------
    config : SessionConfig
        The session; stage 1 must be finished for all recordings. `n_workers` of them are worked
        on at the same time.

    Returns
    -------
    middle_idx : int
        Position of the centre among the recordings, from 0.
    center_file : Path
        The centre recording.
    displacement_fields : list of ndarray
        One per recording, float64 (H, W, 2), pixels, backward map
        centre(y, x) = recording(y + v, x + u); zero for the centre. Also saved as
        ``w_to_reference.npz``.

    Raises
    ------
    ConfigError
        If recordings or averages are missing or do not fit together.
    """
    with session_lock(config):
        recordings, centre = save_fields(config)
        fields = [saved_field(recording_paths(config, entry.name)) for entry in recordings]
    return centre, recordings[centre].path, fields
