# Stage 3: the pixels that are valid in every frame of every recording, and the aligned videos.


rule stage3_valid_mask:
    input:
        averages=PLAN.of_all(lambda files: files.temporal_average),
        masks=PLAN.of_all(lambda files: files.idx),
        fields=rules.stage2_between_avgs.output.fields,
        headers=PLAN.of_all(lambda files: files.folder / "inspect.json"),
    output:
        npz=str(PLAN.paths.final_npz),
        mat=str(PLAN.paths.final_mat),
        png=str(PLAN.paths.final_png),
        status=str(PLAN.paths.status),
        valid=PLAN.of_all(lambda files: files.valid_png),
        aligned_valid=PLAN.of_all(lambda files: files.aligned_valid_png),
    log:
        "<logs>/stage3_valid_mask.log",
    benchmark:
        "<benchmarks>/stage3_valid_mask.tsv"
    conda:
        "../envs/cpu.yaml"
    resources:
        mem_mb=session_mem_mb,
        runtime=session_runtime,
    params:
        **PLAN.settings(),
        center=PLAN.center.name,
    script:
        "../scripts/stage3_valid_mask.py"


# The gather job of stage 2 rewrites every field when a recording is added, but only the new one
# needs a video: a field follows from the recording's average, the centre's and the settings of
# stage 2, and all three are inputs here. So field_of() marks the field as `ancient`.
rule stage3_align:
    input:
        compensated=rules.stage1_compensate.output.compensated,
        field=field_of,
        settings=rules.stage2_settings.output.settings,
        reference=PLAN.of_center(lambda files: files.temporal_average),
        header=rules.inspect_recording.output.header,
    output:
        video=ensure(PLAN.per_recording(lambda files: files.aligned), non_empty=True),
    log:
        "<logs>/stage3_align/{recording}.log",
    benchmark:
        "<benchmarks>/stage3_align/{recording}.tsv"
    conda:
        "../envs/cpu.yaml"
    threads: PLAN.threads(workflow.resource_settings.cores)
    resources:
        mem_mb=align_mem_mb,
        runtime=align_runtime,
        disk_mb=align_disk_mb,
    params:
        **PLAN.settings(2, 3),
    script:
        "../scripts/stage3_align.py"
