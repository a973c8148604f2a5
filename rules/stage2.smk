# Stage 2: one displacement field per recording, to the centre. One job, because every field needs
# the centre's average and a field takes seconds.


# The settings as a file, which is younger than a video exactly if they changed since.
rule stage2_settings:
    output:
        settings=str(PLAN.stage2_settings),
    log:
        "<logs>/stage2_settings.log",
    localrule: True
    conda:
        "../envs/cpu.yaml"
    params:
        **PLAN.settings(2),
    script:
        "../scripts/stage2_settings.py"


rule stage2_between_avgs:
    input:
        averages=PLAN.of_all(lambda files: files.temporal_average),
        headers=PLAN.of_all(lambda files: files.folder / "inspect.json"),
        settings=rules.stage2_settings.output.settings,
    output:
        fields=PLAN.of_all(lambda files: files.w_to_reference),
    log:
        "<logs>/stage2_between_avgs.log",
    benchmark:
        "<benchmarks>/stage2_between_avgs.tsv"
    conda:
        "../envs/cpu.yaml"
    resources:
        mem_mb=session_mem_mb,
        runtime=session_runtime,
    params:
        **PLAN.settings(2),
    script:
        "../scripts/stage2_between_avgs.py"
