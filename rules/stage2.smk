# Stage 2: one displacement field per recording, to the centre. One job, because every field needs
# the centre's average and a field takes seconds; its threads each work on another recording.


rule stage2_between_avgs:
    input:
        averages=averages_of_all,
        headers=ancient(PLAN.of_all(lambda files: files.header)),
    output:
        # Left where they are: the job keeps those that are of these averages and settings.
        fields=update(PLAN.of_all(lambda files: files.w_to_reference)),
        records=PLAN.stage2_records,
    log:
        "<logs>/stage2_between_avgs.log",
    conda:
        PLAN.environment
    threads: PLAN.threads(CORES)
    resources:
        gpu=PLAN.gpus,
        mem_mb=fields_mem_mb,
        runtime=fields_runtime,
    script:
        "../scripts/stage2_between_avgs.py"
