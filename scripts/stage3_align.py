"""Write one recording in the session's reference grid."""

from pyflowreg.workflow.job import job_context

with job_context(snakemake) as job:
    from pyflowreg.session.stage3_valid_mask import align_recording

    align_recording(job.config, job.recording, threads=snakemake.threads)
