"""Find the pixels that are valid throughout the session."""

from pyflowreg.workflow.job import job_context

with job_context(snakemake) as job:
    from pyflowreg.session.stage3_valid_mask import compute_final_mask

    compute_final_mask(job.config)
