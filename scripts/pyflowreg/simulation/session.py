"""Simulate a session: several recordings of one field of neurons, with exactly known motion."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.numerics import to_dtype
from pyflowreg.errors import ConfigError
from pyflowreg.io.failures import make_folder
from pyflowreg.simulation.motion import (
    Float,
    line_trajectory,
    no_deformation,
    pixel_grid,
    random_deformation,
    random_smooth_field,
    random_weights,
)
from pyflowreg.simulation.scene import Scene, build_scene, calcium_traces
from pyflowreg.simulation.truth import RecordingTruth

log = logging.getLogger(__name__)

DETECTOR_OFFSET = 120.0  # grey values
DETECTOR_GAIN = 60.0  # grey values per photon
READ_NOISE = 18.0  # grey values, standard deviation
N_PATTERNS = 3  # spatial patterns of the non-rigid motion within a recording


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate; equal settings give equal files.

    Parameters
    ----------
    n_recordings : int
        Recordings of the session; number n_recordings // 2 (0-based) is the undeformed centre.
    n_frames, height, width : int
        Size of each recording.
    channels : int
        1 (functional) or 2 (functional and structural).
    seed : int
        Seed of all random numbers; recording k depends on it and on k only.
    photons : float
        Photons that a pixel of neuropil collects in one frame: the lower, the noisier.
    rigid : float
        Largest rigid displacement within a recording, pixels.
    nonrigid : float
        Largest non-rigid displacement within a recording, pixels.
    nonrigid_wavelength : float
        How local the non-rigid motion within a recording is: its shortest wavelength, as a fraction
        of the shorter side of the frames. The longest is 2.2 times as long. With 1, the whole
        field of view moves nearly as one; with 0.2, neighbouring cells move in different
        directions.
    shift, rotation, zoom, between_nonrigid : float
        Limits of the deformation between recordings: pixels, degrees, fraction, pixels.
    bleaching : float
        Fraction of the brightness lost over a recording.
    density : float
        Somata per 1000 square pixels.

    Raises
    ------
    ConfigError
        With every setting that is out of its range.
    """

    n_recordings: int = 5
    n_frames: int = 80
    height: int = 128
    width: int = 160
    channels: int = 1
    seed: int = 2
    photons: float = 0.5
    rigid: float = 5.0
    nonrigid: float = 2.0
    shift: float = 6.0
    rotation: float = 0.8
    zoom: float = 0.01
    between_nonrigid: float = 3.0
    bleaching: float = 0.12
    density: float = 3.5
    nonrigid_wavelength: float = 1.0

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}; it must be at least {least}."
            for name, least in (
                ("n_recordings", 1),
                ("n_frames", 2),
                ("height", 32),
                ("width", 32),
                ("seed", 0),
            )
            if getattr(self, name) < least
        ]
        problems += [
            f"{name} is {getattr(self, name)}; it must not be negative."
            for name in ("rigid", "nonrigid", "shift", "rotation", "zoom", "between_nonrigid")
            if not getattr(self, name) >= 0
        ]
        if self.channels not in (1, 2):
            problems.append(f"channels is {self.channels}; it must be 1 or 2.")
        if not self.photons > 0:
            problems.append(f"photons is {self.photons}; it must be positive.")
        if not 0 <= self.bleaching < 1:
            problems.append(f"bleaching is {self.bleaching}; it must be at least 0 and below 1.")
        problems += self._problems_of_wavelength()
        if problems:
            raise ConfigError(problems)

    def _problems_of_wavelength(self) -> list[str]:
        """Say what is wrong with the wavelength: the tissue must not fold onto itself."""
        given = f"nonrigid_wavelength is {self.nonrigid_wavelength}; it must be"
        if not 0 < self.nonrigid_wavelength < float("inf"):
            return [f"{given} positive and finite."]
        side = min(self.height, self.width)
        # waves no shorter than l that add up to at most a have slopes of at most 2 pi a / l, and
        # below 1 nothing folds; long waves on small frames have always been allowed
        least = 2.0 * np.pi * self.nonrigid / side if side > 0 else 0.0
        if self.nonrigid_wavelength < 1.0 and not self.nonrigid_wavelength > least:
            return [
                f"{given} above {least:.3g}, or motion of {self.nonrigid} px folds the tissue of "
                f"frames {side} px high or wide; make it longer or nonrigid smaller."
            ]
        return []

    @property
    def names(self) -> list[str]:
        """Names of the recordings, `recording_01` and so on."""
        digits = max(2, len(str(self.n_recordings)))
        return [f"recording_{k + 1:0{digits}d}" for k in range(self.n_recordings)]


def simulate_session(config: SimulationConfig, folder: Path | str) -> list[Path]:
    """Write the recordings of a session and the truth about them.

    `<folder>/recording_01.tif` and so on (uint16, pages in the order of the frames; ImageJ
    hyperstacks with the axes T, C, Y, X if there are two channels) and
    `<folder>/truth/recording_01_truth.npz`. See `pyflowreg.simulation.truth` for the definition
    of the motion. One frame is in memory at a time.

    Parameters
    ----------
    config : SimulationConfig
        What to simulate.
    folder : path-like
        Made if it does not exist.

    Returns
    -------
    list of pathlib.Path
        The recordings, in order.

    Raises
    ------
    OutputError
        If the folder or a file cannot be written.
    """
    from pyflowreg.io.atomic import atomic_save_npz

    folder = Path(folder)
    make_folder(folder / "truth")
    scene = session_scene(config)
    paths = []
    for number, name in enumerate(config.names):
        truth = recording_truth(config, number)
        path = folder / f"{name}.tif"
        _write_tiff(path, config, recording_frames(config, number, scene, truth))
        atomic_save_npz(folder / "truth" / f"{name}_truth.npz", **truth.arrays())
        log.info("%s: %d frames of %d x %d px", path, config.n_frames, config.height, config.width)
        paths.append(path)
    return paths


def session_scene(config: SimulationConfig) -> Scene:
    """Build the tissue that all recordings of the session show.

    Parameters
    ----------
    config : SimulationConfig
        What to simulate; the amplitudes decide how far the tissue extends beyond the field of view.

    Returns
    -------
    Scene
        Equal for equal settings.
    """
    corner = np.deg2rad(config.rotation) + config.zoom
    reach = config.rigid + config.nonrigid + config.shift + config.between_nonrigid
    reach += corner * np.hypot(config.height, config.width) / 2.0
    margin = int(np.ceil(reach)) + 3
    return build_scene(
        _rng(config, 0), config.height, config.width, config.channels, margin, config.density
    )


def recording_truth(config: SimulationConfig, number: int) -> RecordingTruth:
    """Draw the motion of one recording.

    Parameters
    ----------
    config : SimulationConfig
        What to simulate.
    number : int
        The recording, from 0.

    Returns
    -------
    RecordingTruth
        With no deformation for the centre, number ``n_recordings // 2``.
    """
    height, width = config.height, config.width
    rng = _rng(config, 1, number)
    fields = tuple(
        random_smooth_field(rng, height, width, wavelength=config.nonrigid_wavelength)
        for _ in range(N_PATTERNS)
    )
    weights = random_weights(rng, config.n_frames, N_PATTERNS)
    x, y = pixel_grid(height, width)
    patterns = np.stack([field(x, y) for field in fields])
    longest = max(
        float(np.linalg.norm(np.tensordot(row, patterns, axes=1), axis=-1).max()) for row in weights
    )
    line_motion = line_trajectory(rng, config.n_frames, height, config.rigid)
    deformation = no_deformation()
    if number != config.n_recordings // 2:
        deformation = random_deformation(
            rng,
            height,
            width,
            shift=config.shift,
            rotation=config.rotation,
            zoom=config.zoom,
            nonrigid=config.between_nonrigid,
        )
    return RecordingTruth(
        shape=(config.n_frames, height, width),
        line_motion=line_motion,
        fields=fields,
        weights=weights * (config.nonrigid / longest if longest > 0 else 0.0),
        deformation=deformation,
    )


def recording_frames(
    config: SimulationConfig, number: int, scene: Scene, truth: RecordingTruth
) -> Iterator[NDArray[np.uint16]]:
    """Draw the frames of one recording, one by one.

    Parameters
    ----------
    config : SimulationConfig
        What to simulate.
    number : int
        The recording, from 0; decides activity and noise.
    scene : Scene
        The tissue.
    truth : RecordingTruth
        The motion of the recording.

    Yields
    ------
    ndarray, uint16, shape (H, W, C)
        A frame, grey values.

    Raises
    ------
    ValueError
        If the motion leaves the tissue.
    """
    rng = _rng(config, 2, number)
    traces = calcium_traces(rng, len(scene.cells), config.n_frames)
    gain = config.photons * rng.uniform(0.85, 1.15)
    for frame in range(config.n_frames):
        faded = 1.0 - config.bleaching * frame / max(config.n_frames - 1, 1)
        busy = float(traces[frame].sum()) / max(len(scene.cells), 1)
        neuropil = 1.0 + 0.06 * float(np.sin(0.21 * frame)) + 0.1 * busy
        tissue = scene.image(traces[frame], neuropil)
        light = scene.sample(tissue, *truth.tissue_points(frame)) * (gain * faded)
        yield _detect(rng, light)


def _detect(rng: np.random.Generator, light: Float) -> NDArray[np.uint16]:
    """Turn expected photons into grey values: shot noise, gain, offset, read noise."""
    signal = DETECTOR_GAIN * rng.poisson(light) + DETECTOR_OFFSET
    noisy = signal + READ_NOISE * rng.standard_normal(light.shape)
    values: NDArray[np.uint16] = to_dtype(noisy, np.uint16)
    return values


def _write_tiff(path: Path, config: SimulationConfig, frames: Iterator[NDArray[np.uint16]]) -> None:
    import tifffile

    from pyflowreg.io.atomic import atomic_path

    several = config.channels > 1
    planes = (frame[..., channel] for frame in frames for channel in range(config.channels))
    size = (config.height, config.width)
    lead = (config.n_frames, config.channels) if several else (config.n_frames,)
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, imagej=True) as writer:
        writer.write(
            planes,
            shape=(*lead, *size),
            dtype=np.uint16,
            photometric="minisblack",
            metadata={"axes": "TCYX" if several else "TYX"},
        )


def _rng(config: SimulationConfig, *purpose: int) -> np.random.Generator:
    """Return the generator of one purpose: independent of all others, whatever is drawn there."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((config.seed, *purpose))))
