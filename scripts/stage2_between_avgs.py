"""Find the displacement of every recording from the centre."""

from pyflowreg.workflow.job import job_context

with job_context(snakemake) as job:
    from pyflowreg.session.stage2_between_avgs import save_fields

    save_fields(job.config, threads=snakemake.threads)
