"""Write the settings of stage 2 to a file."""

from pyflowreg.workflow.job import job_context

with job_context(snakemake):
    from pyflowreg.io.atomic import atomic_write_json

    atomic_write_json(snakemake.output.settings, dict(snakemake.params.items()))
