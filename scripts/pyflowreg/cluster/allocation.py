"""What a scheduler gave to the job that this process belongs to."""

from __future__ import annotations

import os

CORES = ("SLURM_CPUS_PER_TASK", "NSLOTS", "NCPUS")
"""Variables of SLURM, Grid Engine and PBS."""

JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "SGE_TASK_ID")
"""Variables that are set in a job."""


def allocated_cores() -> int | None:
    """Return the cores of this job, None outside of one.

    Where a scheduler does not bind its jobs to cores, the machine shows all it has.

    Returns
    -------
    int or None
        At least 1.
    """
    if not any(os.environ.get(variable) for variable in JOBS):
        return None
    for variable in CORES:
        value = os.environ.get(variable, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return None
