# The session, as the rules see it. No rules here, nothing heavy: this is read in every job.

import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from snakemake.exceptions import WorkflowError

from pyflowreg.errors import PyflowregError
from pyflowreg.workflow import resources
from pyflowreg.workflow.plan import Plan, escaped

try:
    PLAN = Plan.from_mapping(config)
except PyflowregError as error:
    raise WorkflowError(str(error))


def check_headers():
    """Stop with one message if recordings cannot be read or do not fit together."""
    from pyflowreg.session.preflight import preflight

    try:
        preflight(PLAN.config)
    except PyflowregError as error:
        raise WorkflowError(str(error))


def stage1_mem_mb(wildcards, input, threads, attempt):
    return resources.stage1_mem_mb(
        resources.read_header(input.header), threads, attempt
    )


def stage1_runtime(wildcards, input, threads, attempt):
    return resources.stage1_runtime(
        resources.read_header(input.header), threads, attempt
    )


def stage1_disk_mb(wildcards, input):
    return resources.stage1_disk_mb(resources.read_header(input.header), PLAN.save_w)


def session_mem_mb(wildcards, input, attempt):
    return resources.session_mem_mb(map(resources.read_header, input.headers), attempt)


def session_runtime(wildcards, input, attempt):
    return resources.session_runtime(map(resources.read_header, input.headers), attempt)


def align_mem_mb(wildcards, input, attempt):
    chunk = PLAN.config.align_chunk_size
    return resources.align_mem_mb(resources.read_header(input.header), chunk, attempt)


def align_runtime(wildcards, input, attempt):
    return resources.align_runtime(resources.read_header(input.header), attempt)


def align_disk_mb(wildcards, input):
    return resources.stage1_disk_mb(resources.read_header(input.header))
