"""What the Snakefile needs to know about a session, without reading a single recording.

Imported whenever the Snakefile is parsed, also once per cluster job: nothing heavy here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction.options import OFOptions
from pyflowreg.session import records
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.outputs import RecordingPaths, SessionPaths, session_paths
from pyflowreg.session.path_safety import path_problems
from pyflowreg.settings_extent import check_extent
from pyflowreg.workflow import braces, scale
from pyflowreg.workflow.backend_jobs import BackendJobs
from pyflowreg.workflow.finished_jobs import recognise_finished_jobs
from pyflowreg.workflow.outdated import Outdated
from pyflowreg.workflow.termination import never_wait_for_a_lock_in_a_signal

DEFAULT_CLUSTER_THREADS = 8
MANY_RECORDINGS = 50
WILDCARD = "{recording}"


@dataclass(frozen=True)
class Plan(BackendJobs):
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
    def from_mapping(
        cls, mapping: Mapping[str, Any], settings_files: Iterable[str | Path] = ()
    ) -> Plan:
        """Check the settings and find the recordings.

        Parameters
        ----------
        mapping : mapping
            Snakemake's `config`.
        settings_files : iterable of path
            Files it was read from.

        Returns
        -------
        Plan

        Raises
        ------
        ConfigError
            With every problem of the settings, or of the set of recordings.
        """
        # Snakemake's loader makes functions of what a file calls !!python/name.
        check_extent(mapping, plain=True)
        config = SessionConfig.from_mapping(mapping)
        recordings = tuple(discover_recordings(config))
        center = recordings[centre_index(config, recordings)]
        problems = path_problems(config, recordings, settings_files)
        problems += [
            f"{entry.path}: lies in {folder}, where Snakemake removes files. Move it."
            for folder in (Path("logs").resolve(), Path(".snakemake").resolve())
            for entry in recordings
            if entry.path.absolute().is_relative_to(folder)
        ]
        if problems:
            raise ConfigError(problems)
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
        never_wait_for_a_lock_in_a_signal()
        recognise_finished_jobs()
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
    def binning(self) -> tuple[int, int]:
        """Frames that are averaged in groups, and groups per batch."""
        return self._options.bin_size, self._options.buffer_size

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
        names = [recording.name for recording in self.recordings]
        per_recording = (self.stage1_record_of, self.stage2_record_of, self.video_record_of)
        return [
            *(str(record_of(name)) for record_of in per_recording for name in names),
            str(self.mask_record_file),
            str(self.paths.final_npz),
            *self.of_all(lambda files: files.w_to_reference),
            *self.of_all(lambda files: files.aligned),
            *fields,
        ]

    @cached_property
    def _digests(self) -> tuple[str, str, str]:
        """Ends of the names of the records of stages 1 and 2 and of videos, which all share."""
        center = self.center.name
        of_settings = (
            records.stage1_record(self.config, center),
            records.stage2_record(self.config, center, center),
            records.video_record(self.config, center, center),
        )
        first, second, third = (record.path.stem[-records.DIGITS :] for record in of_settings)
        return first, second, third

    def stage1_record_of(self, name: str) -> Path:
        """Return the record of stage 1.

        Parameters
        ----------
        name : str
            Name of the recording, or the wildcard.

        Returns
        -------
        Path
            Of the current settings.
        """
        return self.paths.recording(name).stage1_record(self._digests[0])

    def stage2_record_of(self, name: str) -> Path:
        """Return the record of stage 2; see `stage1_record_of`."""
        return self.paths.recording(name).stage2_record(self._digests[1])

    def video_record_of(self, name: str) -> Path:
        """Return the record of the aligned video; see `stage1_record_of`."""
        return self.paths.recording(name).video_record(self._digests[2])

    @cached_property
    def mask_record_file(self) -> Path:
        """Record of the final mask."""
        names = [recording.name for recording in self.recordings]
        return records.mask_record(self.config, self.center.name, names).path

    @property
    def stage1_record(self) -> str:
        """Pattern of the record of stage 1."""
        return str(self.stage1_record_of(WILDCARD))

    @property
    def stage2_record(self) -> str:
        """Pattern of the record of stage 2."""
        return str(self.stage2_record_of(WILDCARD))

    @property
    def stage2_records(self) -> list[str]:
        """Records of stage 2 of all recordings."""
        return [str(self.stage2_record_of(recording.name)) for recording in self.recordings]

    @property
    def mask_record(self) -> str:
        """Record of the final mask."""
        return str(self.mask_record_file)

    @property
    def video_record(self) -> str:
        """Pattern of the record of the aligned videos."""
        return str(self.video_record_of(WILDCARD))

    @cached_property
    def outdated(self) -> Outdated:
        """What has to be made again although its record and its age look well."""
        return Outdated(self)

    def video_is_current(self, files: RecordingPaths) -> bool:
        """Return whether an aligned video was made with the current settings, after its sources.

        Parameters
        ----------
        files : RecordingPaths
            Of the recording.

        Returns
        -------
        bool
            The age of the field is not looked at: it follows from the two averages and settings.
        """
        center = self.paths.recording(self.center.name)
        sources = (files.compensated, files.temporal_average, center.temporal_average)
        if not self.video_record_of(files.name).is_file() or self.outdated.video(files.name):
            return False
        return records.is_younger(files.aligned, sources)

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
