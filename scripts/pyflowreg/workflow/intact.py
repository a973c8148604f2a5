"""Results that a run finds damaged before its first job, so that Snakemake makes them again.

Snakemake asks whether a file is there and how old it is. A file that was truncated, or replaced by
another one, is there and young. So the lengths of all results are compared with those that were
stated when they were made. Nothing large is opened: a small file and a few lengths per recording.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyflowreg.errors import InputError, UnreadableError
from pyflowreg.io.failures import writing
from pyflowreg.io.file_lock import holder
from pyflowreg.session.contents import contents_in, wrong_lengths
from pyflowreg.session.outputs import RecordingPaths
from pyflowreg.session.records import stage1_record, withdraw_stage1
from pyflowreg.session.status import load_status
from pyflowreg.session.times import results_in, settle
from pyflowreg.workflow.plan import Plan


@dataclass(frozen=True)
class Damaged:
    """A result that has to be made again.

    Parameters
    ----------
    target : Path
        An output of the job that makes it, without which the job runs.
    problem : str
        The file and what is wrong with it.
    recording : RecordingPaths, optional
        The recording, if it is a result of stage 1.
    """

    target: Path
    problem: str
    recording: RecordingPaths | None = None

    @property
    def remark(self) -> str:
        """What the user should know."""
        return f"{self.problem}: it is made again."

    def withdraw(self) -> None:
        """State that the result is missing.

        Raises
        ------
        OutputError
            If its folder cannot be changed.
        """
        with writing(self.target):
            if self.recording is not None:
                withdraw_stage1(self.recording)
            self.target.unlink(missing_ok=True)


def find_damage(plan: Plan) -> list[Damaged]:
    """Find results that are not what was stated when they were made.

    Parameters
    ----------
    plan : Plan
        The session. Results of other settings, or without a record, are made again anyway.

    Returns
    -------
    list of Damaged
        For each job that has to run again because of it. Of stage 2, each field.
    """
    paths = plan.paths
    found = []
    for recording in plan.recordings:
        files = paths.recording(recording.name)
        stage1 = plan.stage1_record_of(recording.name)
        found += [
            Damaged(stage1, problem, files)
            for _, problem in _problems(stage1, files.status, files.folder)
        ][:1]
        stage2 = plan.stage2_record_of(recording.name)
        found += [
            Damaged(field, problem) for field, problem in _problems(stage2, stage2, files.folder)
        ]
        found += _of_record(plan.video_record_of(recording.name), files.results)
    return found + _of_record(plan.mask_record_file, paths.final_results)


def _of_record(record: Path, folder: Path) -> list[Damaged]:
    return [Damaged(record, problem) for _, problem in _problems(record, record, folder)][:1]


def _problems(record: Path, stated: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield files of a result that are wrong, with what is wrong, if it has a record."""
    if not os.path.exists(record):  # noqa: PTH110 - False also where nothing may be read
        return
    try:
        contents = contents_in(load_status(stated))
    except UnreadableError:  # which is not damage, and told by the job that reads it
        return
    except InputError as error:
        yield stated, str(error)
        return
    for path, problem in wrong_lengths(folder, contents):
        yield path, f"{path} {problem}"


def put_right(plan: Plan, damaged: Iterable[Damaged]) -> None:
    """Let what is damaged count as missing, and date results of the future back.

    Nothing is done while another run works on the session, which will be told to the user.

    Parameters
    ----------
    plan : Plan
        The session.
    damaged : iterable of Damaged
        What `find_damage` returned.

    Raises
    ------
    OutputError
        If a folder cannot be changed.
    """
    if holder(plan.paths.lock) is not None:
        return
    for entry in damaged:
        entry.withdraw()
    for recording in plan.recordings:
        # Its name says all; Snakemake would make the whole recording again for it.
        record = stage1_record(plan.config, recording.name)
        if record.path.exists():
            record.restore()
    settle(results_in(plan.paths, [recording.name for recording in plan.recordings]))
