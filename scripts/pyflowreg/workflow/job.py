"""What surrounds the work of one Snakemake job: log, threads and error messages."""

from __future__ import annotations

import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyflowreg
from pyflowreg.cluster.jobbook import FOLDER_VARIABLE, INPUT_ERROR, JobBook, slot_of
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.errors import InputError, PyflowregError
from pyflowreg.stopping import INTERRUPTED, stop_on_sigterm
from pyflowreg.workflow.gpus import claim_gpu
from pyflowreg.workflow.guard import check_import_origin

if TYPE_CHECKING:
    from pyflowreg.session.config import SessionConfig
    from pyflowreg.session.discovery import Recording
    from pyflowreg.workflow.plan import Plan

logger = logging.getLogger(__name__)

THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# JOB_ID is a name that others use as well.
SCHEDULER_JOBS = {"SLURM": "SLURM_JOB_ID", "PBS": "PBS_JOBID", "Grid Engine": "JOB_ID"}
USER_ERROR = 2


class Job:
    """What a script may use; settings are read when asked for.

    Parameters
    ----------
    snakemake : snakemake.script.Snakemake
        What Snakemake gives a script.
    """

    def __init__(self, snakemake: Any) -> None:
        self._snakemake = snakemake

    @cached_property
    def _plan(self) -> Plan:
        from pyflowreg.workflow.plan import Plan

        return Plan.from_mapping(self._snakemake.config)

    @property
    def config(self) -> SessionConfig:
        """Settings of the session."""
        return self._plan.config

    @property
    def recording(self) -> Recording:
        """Recording that the job's wildcard names."""
        return self._plan.recording(self._snakemake.wildcards.recording)

    def check_recordings(self) -> None:
        """Make sure that a job for the whole session works on what the workflow started with.

        Raises
        ------
        InputError
            Naming recordings that were added or have vanished since.
        """
        headers = self._snakemake.input.get("headers")
        if headers is None:
            return
        before = {Path(str(header)).parent.name for header in headers}
        changed = before ^ {recording.name for recording in self._plan.recordings}
        if changed:
            raise InputError(
                f"{', '.join(sorted(changed))}: added or taken away while the workflow ran, which "
                "works on the recordings that were there at its start. Run it again."
            )


@contextmanager
def job_context(snakemake: Any) -> Iterator[Job]:
    """Run the body of a script as a job.

    File descriptors 1 and 2 go to the rule's log file, so that the text of numba, HDF5 and CUDA
    is caught as well; threads are set before anything heavy is imported. A
    `PyflowregError` ends the job with its message in the log and on the terminal; any other
    exception is raised, and its traceback goes to the log.

    Parameters
    ----------
    snakemake : snakemake.script.Snakemake
        What Snakemake gives a script.

    Yields
    ------
    Job
        Settings and recording.

    Raises
    ------
    SystemExit
        With status 2 after a `PyflowregError`, 143 after SIGTERM, 130 after Ctrl-C.
    """
    terminal = _redirect(snakemake.log, snakemake.input)
    _limit_threads(snakemake.threads)
    stop_on_sigterm()
    name = " ".join([snakemake.rule, *map(str, snakemake.wildcards)])
    started = time.monotonic()
    _log_start(name, snakemake)
    try:
        check_import_origin(snakemake.scriptdir)
        job = Job(snakemake)
        job.check_recordings()
        if snakemake.resources.get("gpu"):
            _choose_gpu(job)
        yield job
    except PyflowregError as error:
        logger.error("%s", error)
        _note_failure(snakemake, str(error))
        os.write(terminal, f"\n{name}: {error}\n".encode())
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        logger.info("Interrupted; run it again to continue.")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        where = f"; see {snakemake.log[0]}" if snakemake.log else ""
        os.write(terminal, f"\n{name}: {type(error).__name__}: {error}{where}\n".encode())
        raise
    finally:
        _log_end(time.monotonic() - started, snakemake)
    logger.info("Done.")


def _note_failure(snakemake: Any, message: str) -> None:
    """Tell the process that submitted this job, if one did, that another try cannot help."""
    if os.environ.get(FOLDER_VARIABLE):
        slot = slot_of(snakemake.rule, snakemake.wildcards)
        JobBook.of_environment().note_failure(slot, INPUT_ERROR, message)


def _place(path: Path) -> Path:
    return path.parent.resolve() / path.name


def _redirect(log: Any, inputs: Iterable[Any]) -> int:
    """Send file descriptors 1 and 2 to the log; return a descriptor of the old 2."""
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(2)
    if log:
        path = Path(str(log[0]))
        path.parent.mkdir(parents=True, exist_ok=True)
        if _place(path) in {_place(Path(str(entry))) for entry in inputs}:
            sys.stderr.write(f"{path} is an input, and would become the log. Move it.\n")
            raise SystemExit(USER_ERROR)
        # A file of its own: a link, or another name of a file, would change what it leads to.
        if os.path.lexists(path):
            path.unlink()
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        force=True,
    )
    logging.captureWarnings(True)
    return terminal


def _limit_threads(threads: int) -> None:
    """Give numba and BLAS the threads Snakemake reserved; both read this when first imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(max(1, threads))


def _choose_gpu(job: Job) -> None:
    from pyflowreg.workflow.backend_jobs import names_one_gpu

    if not names_one_gpu(job.config):
        claim_gpu()


def _log_start(name: str, snakemake: Any) -> None:
    logger.info(
        "%s: pyflowreg %s (numerics revision %d), Python %s, %s, %d threads%s",
        name,
        pyflowreg.__version__,
        pyflowreg.NUMERICS_REVISION,
        platform.python_version(),
        platform.node(),
        snakemake.threads,
        _scheduler_job(),
    )


def _scheduler_job() -> str:
    """Return the scheduler's name of this job, nothing outside of one."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{what}_ID") for what in ("JOB", "TASK"))
    if array and task:
        return f", job {array}_{task} of SLURM"
    for name, variable in SCHEDULER_JOBS.items():
        number = os.environ.get(variable, "")
        if number and (name != "Grid Engine" or "SGE_ROOT" in os.environ):
            return f", job {number} of {name}"
    return ""


def _log_end(seconds: float, snakemake: Any) -> None:
    """Tell the time of compiling, and put the memory used beside the memory reserved."""
    compile_log.report()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reserved = snakemake.resources.get("mem_mb")
    logger.info(
        "%.1f s; peak memory %.0f MB%s",
        seconds,
        peak,
        f" of {reserved} MB reserved" if reserved else "",
    )
