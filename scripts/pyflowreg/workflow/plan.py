"""What the Snakefile needs to know about a session, without reading a single recording.

Imported whenever the Snakefile is parsed, also once per cluster job: nothing heavy here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pyflowreg.core.backend_entries import BACKENDS, HostNeeds
from pyflowreg.core.backend_registry import host_needs, uses_gpu
from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction.options import OFOptions
from pyflowreg.session import records
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.outputs import RecordingPaths, SessionPaths, session_paths
from pyflowreg.workflow import braces, scale
from pyflowreg.workflow.gpus import visible_gpus

DEFAULT_CLUSTER_THREADS = 8
MANY_RECORDINGS = 50
WILDCARD = "{recording}"
CPU_ENVIRONMENT = "../envs/cpu.yaml"


def gpus_of(config: SessionConfig) -> int:
    """Return the GPUs of a job that computes the optical flow.

    Parameters
    ----------
    config : SessionConfig
        The session.

    Returns
    -------
    int
        1 for a backend that uses one, unless `backend_params.device` is cpu.
    """
    return int(uses_gpu(config.flow_backend, config.backend_params))


def _beside(name: str, files: RecordingPaths) -> Path:
    return files.folder / name


@dataclass(frozen=True)
class Plan:
    """Settings, recordings and file names of a session, in the terms of a Snakefile.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recordings : tuple of Recording
        Its recordings, in natural order.
    center : Recording
        The one that all others are aligned to.
    """

    config: SessionConfig
    recordings: tuple[Recording, ...]
    center: Recording

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Plan:
        """Check the settings and find the recordings.

        Parameters
        ----------
        mapping : mapping
            Snakemake's `config`.

        Returns
        -------
        Plan

        Raises
        ------
        ConfigError
            With every problem of the settings, or of the set of recordings.
        """
        config = SessionConfig.from_mapping(mapping)
        recordings = tuple(discover_recordings(config))
        center = recordings[centre_index(config, recordings)]
        plan = cls(config, recordings, center)
        missing = [path for path in plan.reference_files if not Path(path).is_file()]
        if missing:
            raise ConfigError(
                [
                    f"flow_options.reference_frames: the image {missing[0]} does not exist "
                    f"(relative paths start at {Path.cwd()}). Give its path, or frame numbers."
                ]
            )
        return plan

    @cached_property
    def paths(self) -> SessionPaths:
        """Every file of the session."""
        return session_paths(self.config)

    @cached_property
    def _by_name(self) -> dict[str, Recording]:
        return {recording.name: recording for recording in self.recordings}

    def prepare_snakemake(self) -> None:
        """Make Snakemake accept the names of this session, and the number of its recordings.

        Raises
        ------
        ConfigError
            Listing the names it cannot handle.
        """
        folders = (self.paths.output_root, self.paths.final_results)
        names = [str(path) for path in (*folders, *(entry.path for entry in self.recordings))]
        names += self.reference_files
        problems = braces.unusable_names(names)
        if problems:
            raise ConfigError(problems)
        if braces.needs_literal_braces(names):
            braces.take_braces_literally()
        scale.look_again_once()
        if len(self.recordings) >= MANY_RECORDINGS:
            scale.note_inputs_once()

    @property
    def constraint(self) -> str:
        """Regular expression that matches the names of the recordings and nothing else."""
        return braces.constraint(self._by_name)

    def recording(self, name: str) -> Recording:
        """Return the recording called `name`.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        Recording
            One of `recordings`.

        Raises
        ------
        ConfigError
            If there is none of that name.
        """
        if name not in self._by_name:
            raise ConfigError([f"There is no recording {name!r} in this session."])
        return self._by_name[name]

    def source(self, wildcards: Any) -> str:
        """Return the input file, or folder, of the recording of a job.

        Parameters
        ----------
        wildcards : snakemake.io.Wildcards
            Its `recording` is the name of the recording.

        Returns
        -------
        str
            The path.

        Raises
        ------
        ConfigError
            If there is no recording of that name.
        """
        return str(self.recording(wildcards.recording).path)

    def per_recording(self, pick: Callable[[RecordingPaths], Path]) -> str:
        """Return the pattern of a file that exists once per recording.

        Parameters
        ----------
        pick : callable
            Returns the file from a recording's paths.

        Returns
        -------
        str
            With the wildcard `{recording}`.
        """
        return str(pick(self.paths.recording(WILDCARD)))

    def of_all(self, pick: Callable[[RecordingPaths], Path]) -> list[str]:
        """Return a file of every recording.

        Parameters
        ----------
        pick : callable
            Returns the file from a recording's paths.

        Returns
        -------
        list of str
            In natural order of the recordings.
        """
        return [str(pick(self.paths.recording(entry.name))) for entry in self.recordings]

    def of_center(self, pick: Callable[[RecordingPaths], Path]) -> str:
        """Return a file of the centre recording.

        Parameters
        ----------
        pick : callable
            Returns the file from a recording's paths.

        Returns
        -------
        str
            The path.
        """
        return str(pick(self.paths.recording(self.center.name)))

    @cached_property
    def _options(self) -> OFOptions:
        return self.config.options_for()

    @property
    def reference_files(self) -> list[str]:
        """Image that `reference_frames` names, if it names one."""
        reference = self._options.reference_frames
        return [str(reference)] if isinstance(reference, Path) else []

    @property
    def save_w(self) -> bool:
        """Whether stage 1 writes the fields of all frames."""
        return self._options.save_w

    @property
    def displacements(self) -> dict[str, str]:
        """Output of stage 1 that exists only with `save_w`."""
        if not self.save_w:
            return {}
        return {"displacements": self.per_recording(lambda files: files.displacements)}

    @property
    def results(self) -> list[str]:
        """Files a user waits for; one that is missing is made, unlike one in between."""
        fields = self.of_all(lambda files: files.displacements) if self.save_w else []
        names = [Path(pattern).name for pattern in (self.stage1_record, self.video_record)]
        return [
            *(path for name in names for path in self.of_all(partial(_beside, name))),
            self.stage2_record,
            self.mask_record,
            str(self.paths.final_npz),
            *self.of_all(lambda files: files.w_to_reference),
            *self.of_all(lambda files: files.aligned),
            *fields,
        ]

    @cached_property
    def stage1_record(self) -> str:
        """Pattern of the record of stage 1."""
        return str(records.stage1_record(self.config, WILDCARD).path)

    @cached_property
    def stage2_record(self) -> str:
        """Record of stage 2."""
        return str(records.stage2_record(self.config, self.center.name).path)

    @cached_property
    def mask_record(self) -> str:
        """Record of the final mask."""
        names = [recording.name for recording in self.recordings]
        return str(records.mask_record(self.config, self.center.name, names).path)

    @cached_property
    def video_record(self) -> str:
        """Pattern of the record of the aligned videos."""
        return str(records.video_record(self.config, WILDCARD, self.center.name).path)

    def video_is_current(self, files: RecordingPaths) -> bool:
        """Return whether an aligned video was made with the current settings, after its sources.

        Parameters
        ----------
        files : RecordingPaths
            Of the recording.

        Returns
        -------
        bool
            The field itself is not looked at: it follows from the two averages and the settings.
        """
        center = self.paths.recording(self.center.name)
        sources = (files.compensated, files.temporal_average, center.temporal_average)
        record = files.folder / Path(self.video_record).name
        return record.is_file() and records.is_younger(files.aligned, sources)

    @property
    def gpus(self) -> int:
        """GPUs of a job that computes the optical flow: 1 for a backend that uses one."""
        return gpus_of(self.config)

    @property
    def align_gpus(self) -> int:
        """GPUs of a job that writes an aligned video: 1 for a backend that warps on one."""
        return self.gpus * BACKENDS[self.config.flow_backend].warps

    @property
    def environment(self) -> str:
        """Conda environment of a job that computes the optical flow, relative to the rules."""
        extra = BACKENDS[self.config.flow_backend].extra
        return f"../envs/{extra}.yaml" if extra else CPU_ENVIRONMENT

    @property
    def align_environment(self) -> str:
        """Conda environment of a job that writes an aligned video."""
        return self.environment if BACKENDS[self.config.flow_backend].warps else CPU_ENVIRONMENT

    @property
    def align_libraries_mb(self) -> int:
        """Memory of the libraries of a backend that warps, MB."""
        return self.needs.libraries_mb * BACKENDS[self.config.flow_backend].warps

    @property
    def needs(self) -> HostNeeds:
        """What jobs that compute the optical flow need of the machine they run on."""
        return host_needs(self.config.flow_backend, self.config.backend_params)

    @cached_property
    def gpus_here(self) -> int:
        """GPUs of this machine, at least 1, that jobs may use at the same time; 0 if none does."""
        return max(1, len(visible_gpus())) if self.gpus else 0

    def threads(self, cores: int | None) -> int:
        """Return the threads of one recording's motion correction.

        Parameters
        ----------
        cores : int or None
            Cores given to Snakemake (`-j`), None where a cluster has no such limit. With several
            GPUs, each gets its share.

        Returns
        -------
        int
            `n_workers`; for -1 all cores, so that the recordings are corrected one after the
            other: the memory of one, no idle core at the end. On a cluster 8.
        """
        if self.config.n_workers > 0:
            return self.config.n_workers
        if cores is None:
            return DEFAULT_CLUSTER_THREADS
        return max(1, cores // max(1, self.gpus_here))
