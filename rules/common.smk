# The session, as the rules see it. No rules here, nothing heavy: this is read in every job.

import sys
from functools import cache
from pathlib import Path

from snakemake.logging import logger


def stop(problem):
    """End with one message: an exception would show lines of this file as well."""
    logger.error(str(problem))
    sys.exit(1)


# Last, where Snakemake puts it for scripts: a foreign pyflowreg shows up here, not in the jobs.
SCRIPTS = Path(workflow.basedir) / "scripts"
sys.path.append(str(SCRIPTS))

try:
    from pyflowreg.workflow.guard import check_import_origin
except ImportError:
    stop(
        "The Python environment has another package called pyflowreg, which hides this project's. "
        f"Run `python -m pip install -e {SCRIPTS.parent}` in it, which replaces that package."
    )

from pyflowreg.errors import PyflowregError
from pyflowreg.workflow import resources
from pyflowreg.workflow.intact import find_damage, put_right
from pyflowreg.workflow.plan import Plan

try:
    check_import_origin(SCRIPTS)
    PLAN = Plan.from_mapping(config, workflow.overwrite_configfiles)
    PLAN.prepare_snakemake()
except PyflowregError as error:
    stop(error)


@cache
def check_headers():
    """Stop with one message if recordings cannot be read or do not fit together."""
    from pyflowreg.session.preflight import preflight
    from pyflowreg.session.room import room_remark
    from pyflowreg.session.times import check_not_in_future

    try:
        session = preflight(
            PLAN.config, here=not ON_CLUSTER, own_environments=OWN_ENVIRONMENTS
        )
        check_not_in_future(PLAN.recordings)
    except PyflowregError as error:
        stop(error)
    remark = room_remark(PLAN.config, session)
    if remark:
        logger.warning(remark)
    return session.infos


# The process that submits jobs to a cluster has jobs (-j), but no cores; with a profile, which has
# default resources, whatever --cores says: that bounds nothing there.
asked = workflow.resource_settings
DRY_RUN = workflow.output_settings.dryrun
BY_PROFILE = bool(asked.nodes and asked.default_resources)
HEAD = (
    workflow.is_main_process
    and not DRY_RUN
    and (BY_PROFILE or (asked.nodes is not None and asked.cores is None))
)
# A dry run has one core unless told otherwise, and so would all its jobs. Under a profile for a
# cluster they are shown as they would be submitted.
PREVIEW = DRY_RUN and BY_PROFILE
if PREVIEW:
    workflow.global_resources["_cores"] = None
ON_CLUSTER = HEAD or PREVIEW or workflow.remote_exec
CORES = None if ON_CLUSTER else asked.cores
# Those of envs/: with them, jobs have a backend that this environment may lack.
OWN_ENVIRONMENTS = "CONDA" in {
    method.name for method in workflow.deployment_settings.deployment_method
}

# On one machine Snakemake knows no number of GPUs, and would start as many jobs as there are cores.
if CORES is not None and PLAN.gpus and "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = PLAN.gpus_here

if HEAD:
    from pyflowreg.cluster.head import Head

    head = Head(PLAN, Path(workflow.basedir))
    remark = head.prepare()
    if remark:
        logger.warning(remark)
    # All at once, before Snakemake looks for them: a job for each would take a second per recording.
    head.write_headers(check_headers())


elif workflow.is_main_process and not DRY_RUN:
    from pyflowreg.workflow.run_owner import RunOwner

    owner = RunOwner.of(PLAN)
    try:
        owner.wait_for_jobs(PLAN)
        remark = owner.take_over("from what that one has left")
    except PyflowregError as error:
        stop(error)
    if remark:
        logger.warning(remark)

# Results that were damaged since they were made: without their records they are made again.
DAMAGED = find_damage(PLAN) if workflow.is_main_process else []
DAMAGED_FILES = {str(damaged.target) for damaged in DAMAGED}
for damaged in DAMAGED:
    logger.warning(damaged.remark)
if workflow.is_main_process and not DRY_RUN:
    try:
        put_right(PLAN, DAMAGED)
    except PyflowregError as error:
        stop(error)


def results(wildcards):
    """Return what is made; a dry run, which cannot remove records, is told what to do again."""
    if DRY_RUN:
        workflow.dag.forcefiles.update(DAMAGED_FILES)
    return PLAN.results


def hold_session():
    """Keep other runs, also those started in another folder, from this session."""
    import atexit
    from contextlib import ExitStack

    from pyflowreg.session.locks import session_lock

    stack = ExitStack()
    try:
        stack.enter_context(session_lock(PLAN.config, alone=True))
    except PyflowregError as error:
        stop(error)
    atexit.register(stack.close)


@cache
def tell(remark):
    """Say something once."""
    if workflow.is_main_process:
        logger.info(remark)


def again(*results):
    """Let Snakemake make results again that are there, with the current record, but outdated."""
    if workflow.is_main_process:
        workflow.dag.forcefiles.update(map(str, results))


def recording_of(wildcards):
    """Return a recording. Its age says little: a file that replaces it may be an older one."""
    name = wildcards.recording
    if PLAN.outdated.header(name) or PLAN.outdated.header_is_damaged(name):
        again(PLAN.paths.recording(name).header)
    return ancient(PLAN.source(wildcards))


def header_of(wildcards):
    """Return the header of a recording, `ancient` while stage 1 is current.

    No result depends on it. But where Snakemake has to make it again, it looks at nothing but the
    edge to stage 1, so that then has to count.
    """
    name = wildcards.recording
    if PLAN.outdated.correction(name):
        tell(f"{PLAN.source(wildcards)} is not what its results were made from.")
        again(PLAN.stage1_record_of(name))
    header = str(PLAN.paths.recording(name).header)
    return header if PLAN.outdated.needs_correction(name) else ancient(header)


def averages_of_all(wildcards):
    """Return the averages that stage 2 compares."""
    for recording in PLAN.recordings:
        if PLAN.outdated.field(recording.name):
            again(PLAN.stage2_record_of(recording.name))
    return PLAN.of_all(lambda files: files.temporal_average)


def averages_of_mask(wildcards):
    """Return the averages that go into the files of the final mask."""
    if PLAN.outdated.mask():
        again(PLAN.mask_record)
    return PLAN.of_all(lambda files: files.temporal_average)


def field_of(wildcards):
    """Return the field of a recording, `ancient` while its video is newer than all it is made from.

    Snakemake looks at nothing but the edges between jobs once a job upstream has to run. A field
    that were always `ancient` would hide that an interrupted run left an outdated video.
    """
    paths = PLAN.paths.recording(wildcards.recording)
    field, record = str(paths.w_to_reference), PLAN.video_record_of(wildcards.recording)
    if PLAN.outdated.video(wildcards.recording):
        again(record)
    forced = workflow.dag_settings is not None and workflow.dag_settings.forcerun
    damaged = not DAMAGED_FILES.isdisjoint((field, str(record)))
    if forced or damaged or not PLAN.video_is_current(paths):
        return field
    return ancient(field)


def job_mb(memory, attempt):
    """Add the Snakemake that runs inside a job on a cluster."""
    return memory + (resources.SNAKEMAKE_MB * attempt if ON_CLUSTER else 0)


def stage1_mem_mb(wildcards, input, threads, attempt):
    header = resources.read_header(input.header)
    precision = PLAN.config.precision
    memory = resources.stage1_mem_mb(header, threads, attempt, precision, PLAN.needs)
    return job_mb(memory, attempt)


def stage1_runtime(wildcards, input, threads, attempt):
    return resources.stage1_runtime(
        resources.read_header(input.header), threads, attempt, PLAN.needs
    )


def stage1_disk_mb(wildcards, input):
    header = resources.read_header(input.header)
    return resources.stage1_disk_mb(header, PLAN.save_w, *PLAN.binning)


def session_job(input, threads, attempt, needs):
    headers = map(resources.read_header, input.headers)
    return resources.session_job(
        headers, threads, attempt, PLAN.config.precision, needs
    )


def fields_mem_mb(wildcards, input, threads, attempt):
    return job_mb(session_job(input, threads, attempt, PLAN.needs).mem_mb, attempt)


def fields_runtime(wildcards, input, threads, attempt):
    return session_job(input, threads, attempt, PLAN.needs).runtime


def mask_mem_mb(wildcards, input, threads, attempt):
    job = session_job(input, threads, attempt, resources.OF_FLOWREG)
    return job_mb(job.mem_mb, attempt)


def mask_runtime(wildcards, input, threads, attempt):
    return session_job(input, threads, attempt, resources.OF_FLOWREG).runtime


def align_mem_mb(wildcards, input, attempt):
    header = resources.read_header(input.header)
    chunk, libraries = PLAN.config.align_chunk_size, PLAN.align_libraries_mb
    memory = resources.align_mem_mb(header, chunk, attempt, libraries)
    return job_mb(memory, attempt)


def align_runtime(wildcards, input, attempt):
    return resources.align_runtime(resources.read_header(input.header), attempt)


def align_disk_mb(wildcards, input):
    header = resources.read_header(input.header)
    video_format = PLAN.config.align_output_format
    return resources.align_disk_mb(header, video_format, *PLAN.binning)
