"""Which jobs of a session were submitted, as small files beside Snakemake's own records.

Snakemake forgets what it submitted when its process dies. With this book the next run finds the
jobs that still wait or run, and tells the user how a job ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyflowreg.cluster.requests import plain_name

FOLDER_VARIABLE = "PYFLOWREG_CLUSTER_STATE"
"""Environment variable with the folder of the book; the run and all its jobs see it."""

RUN_VARIABLE = "PYFLOWREG_CLUSTER_RUN"
"""Environment variable that tells the runs of one session apart."""

RESULTS_VARIABLE = "PYFLOWREG_CLUSTER_RESULTS"
"""Environment variable with a digest of all results, for jobs with too many outputs to list."""

DEFAULT_FOLDER = Path(".snakemake") / "pyflowreg"
INPUT_ERROR = "input"


@dataclass
class JobRecord:
    """One submitted job.

    Parameters
    ----------
    slot : str
        Rule and wildcards: of two jobs with one slot, only one may run.
    job_id : str
        The scheduler's identifier; empty until the scheduler has told it.
    outputs : str
        Digest of the files it makes.
    run : str
        The run that submitted it, or that has made sure that it is the session's.
    attempt : int
        Snakemake's count of tries, from 1.
    log : list of str
        Log files of the rule.
    scheduler_log : str
        File with what the job wrote outside of them.
    token : str
        Name of the file that gets its exit status; empty if it has none.
    requested : dict
        mem_mb, runtime (minutes), threads, gpu.
    submitted : float
        Seconds since 1970.
    missing_since : float
        When it was first found neither in the queue nor finished; 0: not yet.
    verdict : str
        How it ended, in words; empty before, and after success.
    scheduler : str
        "sge" or "pbs"; empty for SLURM, whose queue tells the session of a job.
    name : str
        Of the job in the scheduler, like no other job's.
    submitter : str
        Machine and process that submits it, as host:number.
    """

    slot: str
    job_id: str
    outputs: str
    run: str = ""
    attempt: int = 1
    log: list[str] = field(default_factory=list)
    scheduler_log: str = ""
    token: str = ""
    requested: dict[str, int] = field(default_factory=dict)
    submitted: float = 0.0
    missing_since: float = 0.0
    verdict: str = ""
    scheduler: str = ""
    name: str = ""
    submitter: str = ""


def slot_of(rule: str, wildcards: Mapping[str, str] | Iterable[str]) -> str:
    """Return the slot of a job.

    Parameters
    ----------
    rule : str
        Name of the rule, or of a group.
    wildcards : mapping or iterable of str
        Values of the wildcards, in the order of the rule.

    Returns
    -------
    str
        For people, too.
    """
    values = wildcards.values() if isinstance(wildcards, Mapping) else wildcards
    return " ".join([rule, *(str(value) for value in values)])


def digest_of(files: Iterable[str]) -> str:
    """Return a digest of names of files.

    Parameters
    ----------
    files : iterable of str
        The order does not matter.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    return hashlib.sha256("\0".join(sorted(map(str, files))).encode()).hexdigest()[:16]


class JobBook:
    """The jobs of one session.

    Parameters
    ----------
    folder : Path
        Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_environment(cls) -> JobBook:
        """Return the book that the run named in the environment."""
        return cls(Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER).absolute())

    def _path(self, kind: str, slot: str) -> Path:
        key = hashlib.sha256(slot.encode()).hexdigest()[:8]
        return self.folder / kind / f"{plain_name(slot)}-{key}.json"

    def file(self, kind: str, name: str) -> Path:
        """Return the path of a file, whose folder is made.

        Parameters
        ----------
        kind : str
            Name of the folder.
        name : str
            Name of the file.

        Returns
        -------
        Path
            Absolute if the book's folder is.
        """
        path = self.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def read(self, slot: str) -> JobRecord | None:
        """Return the last job of a slot, None if there was none.

        Parameters
        ----------
        slot : str
            See `slot_of`.

        Returns
        -------
        JobRecord or None
        """
        found = _load(self._path("jobs", slot))
        return JobRecord(**found) if found else None

    def write(self, record: JobRecord) -> None:
        """Enter a job, or a change of it.

        Parameters
        ----------
        record : JobRecord
            Replaces the entry of its slot.
        """
        path = self._path("jobs", record.slot)
        _store(path, asdict(record))
        if record.job_id:
            _store(self.folder / "ids" / record.job_id, record.slot)

    def by_id(self, job_id: str) -> JobRecord | None:
        """Return a job by its identifier.

        Parameters
        ----------
        job_id : str
            The scheduler's identifier.

        Returns
        -------
        JobRecord or None
            None if it is not known, or another job has taken its slot.
        """
        slot = _load(self.folder / "ids" / job_id)
        record = self.read(slot) if isinstance(slot, str) else None
        return record if record is not None and record.job_id == job_id else None

    def forget(self, record: JobRecord) -> None:
        """Remove a job that has ended, with the files made for it.

        Parameters
        ----------
        record : JobRecord
            Its log stays.
        """
        paths = [self._path("jobs", record.slot)]
        if record.job_id:
            paths.append(self.folder / "ids" / record.job_id)
        if record.token:
            paths += [self.exit_file(record.token), self.folder / "scripts" / f"{record.token}.sh"]
        for path in paths:
            path.unlink(missing_ok=True)

    def exit_file(self, token: str) -> Path:
        """Return the file that gets the exit status of a job."""
        return self.file("exits", token)

    def exit_status(self, token: str) -> int | None:
        """Return the exit status that a job left, None if it left none.

        Parameters
        ----------
        token : str
            Of the job.

        Returns
        -------
        int or None
        """
        path = self.exit_file(token)
        # Listing the folder makes network file systems look again.
        if token not in os.listdir(path.parent):  # noqa: PTH208
            return None
        text = path.read_text(encoding="utf-8").strip()
        return int(text) if text.isdigit() else None

    def note_failure(self, slot: str, kind: str, message: str) -> None:
        """Enter why a job failed; the job itself does that.

        Parameters
        ----------
        slot : str
            See `slot_of`.
        kind : str
            `INPUT_ERROR` if another try cannot help.
        message : str
            For the user.
        """
        _store(self._path("failures", slot), {"kind": kind, "message": message})

    def failure(self, slot: str) -> dict[str, str]:
        """Return what `note_failure` entered; empty if nothing.

        Parameters
        ----------
        slot : str
            See `slot_of`.

        Returns
        -------
        dict
            `kind` and `message`.
        """
        found = _load(self._path("failures", slot))
        return found if isinstance(found, dict) else {}

    def forget_failure(self, slot: str) -> None:
        """Remove what `note_failure` entered.

        Parameters
        ----------
        slot : str
            See `slot_of`.
        """
        self._path("failures", slot).unlink(missing_ok=True)


def _store(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex}")
    beside.write_text(json.dumps(content), encoding="utf-8")
    beside.replace(path)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
