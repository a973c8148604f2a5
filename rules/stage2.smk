# Stage 2: one displacement field per recording, to the centre. One job, because every field needs
# the centre's average and a field takes seconds.


rule stage2_between_avgs:
    input:
        averages=PLAN.of_all(lambda files: files.temporal_average),
        headers=[
            ancient(header)
            for header in PLAN.of_all(lambda files: files.folder / "inspect.json")
        ],
    output:
        fields=PLAN.of_all(lambda files: files.w_to_reference),
    log:
        "<logs>/stage2_between_avgs.log",
    benchmark:
        "<benchmarks>/stage2_between_avgs.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: PLAN.threads(workflow.resource_settings.cores)
    resources:
        mem_mb=session_mem_mb,
        runtime=session_runtime,
    params:
        **PLAN.settings(2),
    script:
        "../scripts/stage2_between_avgs.py"
