# Stage 1: motion correction within each recording.
#
# The settings of a stage stand in the name of its record, which the library writes, whether it is
# called from here, the command line or Python, and withdraws before it replaces results. So it is
# a missing output that makes a stage run again after a change of settings, not `params`, which
# know only what Snakemake did itself. Nor is there a `benchmark`, whose age Snakemake takes for that
# of a result; time and memory are in the log of each job.


rule inspect_recording:
    input:
        recording=recording_of,
    output:
        header=PLAN.per_recording(lambda files: files.header),
    log:
        "<logs>/inspect_recording/{recording}.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    script:
        "../scripts/inspect_recording.py"


rule stage1_compensate:
    input:
        recording=recording_of,
        reference=ancient(PLAN.reference_files),
        header=header_of,
    output:
        **PLAN.displacements,
        compensated=ensure(
            PLAN.per_recording(lambda files: files.compensated), non_empty=True
        ),
        idx=ensure(PLAN.per_recording(lambda files: files.idx), non_empty=True),
        temporal_average=PLAN.per_recording(lambda files: files.temporal_average),
        statistics=PLAN.per_recording(lambda files: files.statistics),
        reference_frame=PLAN.per_recording(lambda files: files.reference_frame),
        status=PLAN.per_recording(lambda files: files.status),
        record=PLAN.stage1_record,
    log:
        "<logs>/stage1_compensate/{recording}.log",
    conda:
        PLAN.environment
    threads: PLAN.threads(CORES)
    resources:
        gpu=PLAN.gpus,
        mem_mb=stage1_mem_mb,
        runtime=stage1_runtime,
        disk_mb=stage1_disk_mb,
    script:
        "../scripts/stage1_compensate.py"
