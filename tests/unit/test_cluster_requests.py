"""What jobs ask SLURM, Grid Engine and PBS for, and what is read from their answers."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from pyflowreg.cluster import jobscripts, pbs, sge, slurm
from pyflowreg.cluster.jobbook import JobRecord, digest_of
from pyflowreg.cluster.reports import evidence, failure_report
from pyflowreg.cluster.requests import Request, clock, plain_name

SERVERS = Path(__file__).parents[1] / "cluster" / "servers"
LOG = Path("/data/a b/job.log")


@pytest.fixture(scope="module")
def grammar():
    spec = importlib.util.spec_from_file_location("pbs_grammar", SERVERS / "pbs_grammar.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pbs_grammar"] = module
    spec.loader.exec_module(module)
    return module


def flat(options):
    return [word for option in options for word in option]


def request_for(**changes):
    full = {
        "name": "stage1_compensate recording 01",
        "log": LOG,
        "threads": 8,
        "mem_mb": 1401,
        "minutes": 135,
    }
    return Request(**{**full, **changes})


def test_slurm():
    site = {"partition": "'long'", "account": "lab", "extra": "--mail-type=FAIL --nice=5"}
    words = flat(slurm.options(request_for(site=site, gpus=1, array=12, at_once=3)))
    assert words == [
        "--job-name=stage1_compensate_recording_01",
        "--output=/data/a b/job.log",
        "--ntasks=1",
        "--cpus-per-task=8",
        "--mem=1401M",
        "--time=02:15:00",
        "--partition=long",
        "--account=lab",
        "--gpus=1",
        "--array=1-12%3",
        "--mail-type=FAIL",
        "--nice=5",
    ]


def test_slurm_gpus_where_they_are_generic_resources():
    site = {"gpu_request": "gres", "gpu_type": "a100"}
    assert "--gres=gpu:a100:2" in flat(slurm.options(request_for(site=site, gpus=2)))


def test_grid_engine_counts_memory_per_slot():
    words = flat(sge.options(request_for(gpus=1, array=5, at_once=2)))
    limits = words[words.index("-l") + 1]
    assert limits == "h_rt=8100,mem_free=176M,gpu=1"
    assert words[words.index("-pe") :][:3] == ["-pe", "smp", "8"]
    assert words[-4:] == ["-t", "1-5", "-tc", "2"]


def test_disk_where_it_has_a_name():
    request = request_for(disk_mb=2000, threads=2, site={"disk": "tmpfs"})
    assert "tmpfs=1000M" in flat(sge.options(request))[flat(sge.options(request)).index("-l") + 1]
    assert ":tmpfs=2000mb" in flat(pbs.options(request))[-1]
    assert "2000" not in " ".join(flat(sge.options(request_for(disk_mb=2000))))


def test_grid_engine_names_of_the_site():
    site = {"pe": "'shared'", "memory": "mem_free+h_vmem", "queue": "'all.q'", "project": "lab"}
    words = flat(sge.options(request_for(threads=2, site=site)))
    assert "h_rt=8100,mem_free=701M,h_vmem=701M" in words
    assert {"shared", "all.q", "lab"} <= set(words)
    assert "-l h_rt=8100" in " ".join(flat(sge.options(request_for(site={"memory": "none"}))))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"array": 2},
        {"array": 200, "at_once": 10, "gpus": 1},
        {"site": {"queue": "long", "account": "lab", "project": "p1", "chunk": "arch=x86"}},
        {"name": "1st (odd) näme", "threads": 1, "minutes": 0, "mem_mb": 0},
    ],
)
def test_pbs_would_take_it(grammar, changes):
    request = request_for(**changes)
    job = grammar.parse(flat(pbs.options(request)), "", "script")
    assert job.cpus == request.threads
    assert job.memory == request.mem_mb * 2**20
    assert job.umask == 0o022
    assert len(job.array) == request.array
    later = grammar.parse(pbs.dependency(request, "12[].server"), "", "script")
    assert (later.after, later.umask) == (["12[].server"], 0o022)


@pytest.mark.parametrize(
    "words",
    [
        ["-l", "select=1:ncpus=2:walltime=01:00:00"],
        ["-l", "select=1:ncpus=2", "-l", "mem=2gb"],
        ["-l", "select=1:ncpu=2"],
        ["-l", "select=1:ncpus=two"],
        ["-l", "walltime=1h"],
        ["-l", "select=1:mem=2gib"],
        ["-J", "1-1"],
        ["-r", "n", "-J", "1-3"],
        ["-t", "1-3"],
        ["-pe", "smp", "2"],
        ["-cwd"],
        ["-q", "nowhere"],
        ["-W", "umsk=022"],
        ["-q", "short", "-l", "walltime=02:00:00"],
        ["-N", "(odd)"],
    ],
)
def test_the_stand_in_for_pbs_is_strict(grammar, words):
    with pytest.raises(grammar.RejectError):
        grammar.parse(words, "", "script")


def test_identifiers():
    assert slurm.job_id("17\n") == "17"
    assert slurm.job_id("17;cluster\n") == "17"
    assert slurm.job_id("sbatch: error: Batch job submission failed") is None
    assert sge.job_id("17\n") == "17"
    assert sge.job_id("17.1-5:1\n") == "17"
    assert pbs.job_id("17.server.example\n") == "17.server.example"
    assert pbs.job_id("17[].server\n") == "17[].server"


def test_names_and_times():
    assert plain_name("stage1 rec 01 (ä)") == "stage1_rec_01"
    assert plain_name("01") == "j01"
    assert clock(0) == "00:01:00"
    assert clock(61 * 60 + 5) == "61:05:00"


def test_what_snakemake_writes_about_a_job(tmp_path):
    script = tmp_path / "job.sh"
    properties = {
        "rule": "stage1_compensate",
        "wildcards": {"recording": "a"},
        "threads": 4,
        "resources": {"mem_mb": 900, "runtime": 12, "sge_queue": "all.q", "tmpdir": "/tmp"},
    }
    script.write_text(f"#!/bin/sh\n# properties = {json.dumps(properties)}\nx --attempt 2 --y\n")
    found, attempt = jobscripts.read_jobscript(script)
    request = jobscripts.request_of(found, "sge", "stage1_compensate a", LOG)
    assert (attempt, request.threads, request.mem_mb, request.minutes) == (2, 4, 900, 12)
    assert request.site == {"queue": "all.q"}


def record_of(tmp_path, text=""):
    log = tmp_path / "rule.log"
    log.write_text(text)
    return JobRecord(
        slot="stage1_compensate a",
        job_id="17",
        outputs=digest_of(["a"]),
        log=[str(log)],
        requested={"mem_mb": 900, "runtime": 12},
    )


def test_a_report_has_the_reason_and_the_last_lines(tmp_path):
    record = record_of(tmp_path, "".join(f"line {n}\n" for n in range(50)) + "ValueError: bad\n")
    text = failure_report(record, "", restarts=2)
    assert text.startswith("stage1_compensate a (job 17): failed.")
    assert "attempt 2 of 3" in text
    assert "ValueError: bad" in text
    assert "line 45" in text
    assert "line 30" not in text
    record.attempt = 3
    assert "submitted again" not in failure_report(record, "", restarts=2)


def test_a_log_that_ends_in_the_middle_points_at_memory(tmp_path):
    record = record_of(tmp_path, "2026-01-01 10:00:00 INFO Registering frames\n")
    assert "more than the 900 MB" in failure_report(record, "", restarts=0)


def test_without_a_log_the_scheduler_is_quoted(tmp_path):
    record = record_of(tmp_path)
    scheduler = tmp_path / "scheduler.log"
    scheduler.write_text("Building DAG of jobs...\n/bin/bash: python: command not found\n")
    record.scheduler_log = str(scheduler)
    assert "    /bin/bash: python: command not found" in evidence(record)
    assert "Building DAG" not in "".join(evidence(record))


def test_meanings():
    requested = {"mem_mb": 900, "runtime": 12}
    assert "900 MB" in slurm.meaning("OUT_OF_MEMORY", requested)
    assert "12 min" in slurm.meaning("TIMEOUT", requested)
    assert slurm.meaning("CANCELLED by 0", requested).startswith("cancelled")
    assert slurm.meaning("FAILED", requested) == ""
