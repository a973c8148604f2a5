"""Every path of a session, in one place.

A recording's name may be a Snakemake wildcard (``"{recording}"``): nothing here looks at the disk
except the functions called ``find_...``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflowreg.session.config import SessionConfig

COMPENSATED = "compensated.hdf5"
IDX = "idx.hdf"
TEMPORAL_AVERAGE = "temporal_average.npy"
STATISTICS = "statistics.npz"
REFERENCE_FRAME = "reference_frame.npy"
STATUS = "status.json"
HEADER = "inspect.json"
DISPLACEMENTS = "w.h5"
W_TO_REFERENCE = "w_to_reference.npz"
FINAL_MASK = "final_valid_idx"
CHECKPOINT = ".checkpoint"
RECORDS = "records"

ALIGNED_SUFFIX = {"TIFF": ".tif", "HDF5": ".hdf5"}

# What the toolbox, or an older version of it, calls the same files. Ours come first.
_ALTERNATIVES = {
    COMPENSATED: ("compensated.HDF5", "compensated.h5", "compensated.hdf"),
    IDX: ("idx.hdf5", "idx.HDF5", "idx.HDF", "idx.h5"),
    DISPLACEMENTS: ("w.hdf", "w.hdf5", "w.HDF5", "w.HDF"),
}


@dataclass(frozen=True)
class RecordingPaths:
    """The files of one recording.

    Parameters
    ----------
    folder : Path
        ``<output_root>/<recording>``.
    results : Path
        The folder of the session's final results.
    name : str
        Name of the recording.
    align_output_format : str
        TIFF or HDF5.
    """

    folder: Path
    results: Path
    name: str
    align_output_format: str = "TIFF"

    @property
    def compensated(self) -> Path:
        """Motion-corrected frames; datasets ch1..chC, each (T, H, W), the input's dtype."""
        return self.folder / COMPENSATED

    @property
    def idx(self) -> Path:
        """Valid masks; dataset idx, uint8 0/255, (T, H, W)."""
        return self.folder / IDX

    @property
    def temporal_average(self) -> Path:
        """Mean of the corrected frames; float64 (H, W, C)."""
        return self.folder / TEMPORAL_AVERAGE

    @property
    def statistics(self) -> Path:
        """Displacement statistics per frame, each (T,)."""
        return self.folder / STATISTICS

    @property
    def reference_frame(self) -> Path:
        """Reference the frames were registered to; (H, W, C)."""
        return self.folder / REFERENCE_FRAME

    @property
    def status(self) -> Path:
        """What was done with which settings."""
        return self.folder / STATUS

    @property
    def header(self) -> Path:
        """Size and type of the recording, from which Snakemake's jobs reserve memory and time."""
        return self.folder / HEADER

    @property
    def checkpoint(self) -> Path:
        """Folder of what stage 1 goes on from after an interruption, there until it is done."""
        return self.folder / CHECKPOINT

    @property
    def video_lock(self) -> Path:
        """Held by the process that writes the aligned video, there only while it does."""
        return self.folder / ".stage3.lock"

    def stage1_record(self, digest: str) -> Path:
        """Settings of stage 1, there while its results are complete; see `records`.

        Parameters
        ----------
        digest : str
            Digest of the settings, the end of the file's name.

        Returns
        -------
        Path
            In the recording's folder.
        """
        return self.folder / f"stage1_{digest}.json"

    def stage2_record(self, digest: str) -> Path:
        """The same for the field of stage 2.

        Parameters
        ----------
        digest : str
            Digest of the settings, the end of the file's name.

        Returns
        -------
        Path
            In the recording's folder.
        """
        return self.folder / f"stage2_{digest}.json"

    def video_record(self, digest: str) -> Path:
        """The same for the aligned video, one for each format.

        Parameters
        ----------
        digest : str
            Digest of the settings, the end of the file's name.

        Returns
        -------
        Path
            In a folder beside the video, because sessions may share the folder of the recording.
        """
        return self.results / RECORDS / self.aligned.suffix[1:] / f"{self.name}_{digest}.json"

    @property
    def displacements(self) -> Path:
        """Fields of all frames, only with `save_w`; datasets u, v, float32 (T, H, W), pixels."""
        return self.folder / DISPLACEMENTS

    @property
    def w_to_reference(self) -> Path:
        """Field to the centre recording; arrays u, v, float64 (H, W), pixels, backward map."""
        return self.folder / W_TO_REFERENCE

    @property
    def valid_png(self) -> Path:
        """Picture of the recording's own valid mask."""
        return self.results / f"{self.name}_valid_idx.png"

    @property
    def aligned_valid_png(self) -> Path:
        """Picture of that mask in the session's reference grid."""
        return self.results / f"{self.name}_valid_idx_aligned.png"

    @property
    def aligned(self) -> Path:
        """Corrected frames in the session's reference grid."""
        return self.results / f"aligned_{self.name}{ALIGNED_SUFFIX[self.align_output_format]}"


@dataclass(frozen=True)
class SessionPaths:
    """The folders and files of one session.

    Parameters
    ----------
    root : Path
        Folder of the recordings.
    output_root : Path
        Folder with one folder per recording.
    final_results : Path
        Folder of the session's results.
    align_output_format : str
        TIFF or HDF5.
    """

    root: Path
    output_root: Path
    final_results: Path
    align_output_format: str = "TIFF"

    def recording(self, name: str) -> RecordingPaths:
        """Return the paths of the recording `name`.

        Parameters
        ----------
        name : str
            Name of the recording.

        Returns
        -------
        RecordingPaths
            Paths; nothing is created.
        """
        folder = self.output_root / name
        return RecordingPaths(folder, self.final_results, name, self.align_output_format)

    @property
    def final_png(self) -> Path:
        """Picture of the final mask."""
        return self.final_results / f"{FINAL_MASK}.png"

    @property
    def final_npz(self) -> Path:
        """Final mask and everything it came from, for Python."""
        return self.final_results / f"{FINAL_MASK}.npz"

    @property
    def final_mat(self) -> Path:
        """The same for MATLAB."""
        return self.final_results / f"{FINAL_MASK}.mat"

    @property
    def status(self) -> Path:
        """What stage 3 did with which settings."""
        return self.final_results / STATUS

    @property
    def lock(self) -> Path:
        """Held by those who work on the session, there only while they do."""
        return self.output_root / ".session.lock"

    @property
    def stage2_lock(self) -> Path:
        """The same for stage 2."""
        return self.output_root / ".stage2.lock"

    @property
    def mask_lock(self) -> Path:
        """The same for the final mask."""
        return self.final_results / ".stage3.lock"

    def mask_record(self, digest: str) -> Path:
        """Settings of the final mask, there while its files are complete; see `records`.

        Parameters
        ----------
        digest : str
            Digest of the settings, the end of the file's name.

        Returns
        -------
        Path
            In `final_results`.
        """
        return self.final_results / f"stage3_{digest}.json"


def session_paths(config: SessionConfig) -> SessionPaths:
    """Return the paths of a session.

    Parameters
    ----------
    config : SessionConfig
        A relative `root` is taken from the current directory, relative output folders from `root`.

    Returns
    -------
    SessionPaths
        Paths are absolute only if `root` is.
    """
    root = config.root
    return SessionPaths(
        root, root / config.output_root, root / config.final_results, config.align_output_format
    )


def recording_paths(config: SessionConfig, name: str) -> RecordingPaths:
    """Return the paths of one recording of a session.

    Parameters
    ----------
    config : SessionConfig
        The session.
    name : str
        Name of the recording (its file name without the extension).

    Returns
    -------
    RecordingPaths
        Paths; nothing is created.
    """
    return session_paths(config).recording(name)


def _find(folder: Path, name: str) -> Path | None:
    for candidate in (name, *_ALTERNATIVES[name]):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


def find_compensated(folder: Path) -> Path | None:
    """Find the corrected frames, also as the toolbox names them.

    Parameters
    ----------
    folder : Path
        Output folder of a recording.

    Returns
    -------
    Path or None
        The file, None if there is none.
    """
    return _find(folder, COMPENSATED)


def find_idx(folder: Path) -> Path | None:
    """Find the valid masks, also as the toolbox names them.

    Parameters
    ----------
    folder : Path
        Output folder of a recording.

    Returns
    -------
    Path or None
        The file, None if there is none.
    """
    return _find(folder, IDX)


def find_displacements(folder: Path) -> Path | None:
    """Find the fields of all frames, also as the toolbox names them.

    Parameters
    ----------
    folder : Path
        Output folder of a recording.

    Returns
    -------
    Path or None
        The file, None if there is none, as without `save_w`.
    """
    return _find(folder, DISPLACEMENTS)
