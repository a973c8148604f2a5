"""Correct the motion within one recording."""

from pyflowreg.workflow.job import job_context

with job_context(snakemake) as job:
    from pyflowreg.session.stage1_compensate import compensate_session_recording

    compensate_session_recording(job.config, job.recording, threads=snakemake.threads)
