# Stage 3: the pixels that are valid in every frame of every recording, and the aligned videos.


rule stage3_valid_mask:
    input:
        averages=averages_of_mask,
        masks=PLAN.of_all(lambda files: files.idx),
        fields=PLAN.of_all(lambda files: files.w_to_reference),
        headers=ancient(PLAN.of_all(lambda files: files.header)),
    output:
        npz=str(PLAN.paths.final_npz),
        mat=str(PLAN.paths.final_mat),
        png=str(PLAN.paths.final_png),
        status=str(PLAN.paths.status),
        record=PLAN.mask_record,
        valid=PLAN.of_all(lambda files: files.valid_png),
        aligned_valid=PLAN.of_all(lambda files: files.aligned_valid_png),
    log:
        "<logs>/stage3_valid_mask.log",
    conda:
        "../envs/cpu.yaml"
    resources:
        mem_mb=mask_mem_mb,
        runtime=mask_runtime,
    script:
        "../scripts/stage3_valid_mask.py"


# The gather job of stage 2 rewrites every field when a recording is added, but only the new one
# needs a video: a field follows from the recording's frames, the centre's average and the settings
# of stage 2. The former are inputs here, the settings stand in the name of the video's record. So
# field_of() marks the field as `ancient`.
rule stage3_align:
    input:
        compensated=rules.stage1_compensate.output.compensated,
        field=field_of,
        field_record=ancient(PLAN.stage2_record),
        reference=PLAN.of_center(lambda files: files.temporal_average),
        header=ancient(rules.inspect_recording.output.header),
    output:
        video=ensure(PLAN.per_recording(lambda files: files.aligned), non_empty=True),
        record=PLAN.video_record,
    log:
        "<logs>/stage3_align/{recording}.log",
    conda:
        PLAN.align_environment
    threads: PLAN.threads(CORES)
    resources:
        gpu=PLAN.align_gpus,
        mem_mb=align_mem_mb,
        runtime=align_runtime,
        disk_mb=align_disk_mb,
    script:
        "../scripts/stage3_align.py"
