"""Read the header of one recording."""

from pyflowreg.workflow.job import job_context

with job_context(snakemake) as job:
    from pyflowreg.workflow.inspect import write_header

    write_header(job.config, job.recording, snakemake.output.header)
