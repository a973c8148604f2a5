"""The process that submits jobs: which run is alive, whose locks go, where commands are."""

import asyncio
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from pyflowreg.cluster import hooks as hooks_module
from pyflowreg.cluster import sge
from pyflowreg.cluster.allocation import allocated_cores
from pyflowreg.cluster.head import Head
from pyflowreg.cluster.hooks import Hooks
from pyflowreg.cluster.jobbook import JobBook, JobRecord, digest_of
from pyflowreg.errors import OutputError
from pyflowreg.io.atomic import atomic_save_npy
from pyflowreg.processes import born
from pyflowreg.session import SessionConfig
from pyflowreg.session.preflight import preflight
from pyflowreg.session.stage1_compensate import threads_of
from pyflowreg.workflow import run_owner
from pyflowreg.workflow.plan import Plan


@pytest.fixture
def head(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "session").mkdir()
    for name in ("a", "b"):
        frames = np.zeros((3, 16, 16), np.uint16)
        tifffile.imwrite(tmp_path / "session" / f"{name}.tif", frames, photometric="minisblack")
    plan = Plan.from_mapping({"root": "session"})
    monkeypatch.setattr(run_owner.RunOwner, "_beat", lambda self: None)
    return Head(plan, tmp_path / "repository")


def owner_file(head, **entries):
    path = head.book.folder / "head.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = {"host": platform.node(), "pid": 2**22 + 5, "born": "1", **entries}
    path.write_text(json.dumps(owner))
    return path


def lock_file(content, name="0.output.lock"):
    path = Path(".snakemake") / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content + "\n")
    return path


def test_locks_of_a_dead_run_are_removed(head):
    lock = lock_file(head.plan.results[0])
    inputs = lock_file("session/a.tif", "0.input.lock")
    other = lock_file("somewhere/else.txt", "1.output.lock")
    owner_file(head)
    assert "was killed" in head.owner.take_over("")
    assert not lock.exists()
    assert not inputs.exists()
    assert other.exists(), "of another workflow in this folder"


def test_locks_of_a_living_run_stay(head):
    lock = lock_file(head.plan.results[0])
    owner_file(head, pid=os.getpid(), born=born(os.getpid()))
    assert f"process {os.getpid()}" in head.owner.take_over("")
    assert lock.exists()


@pytest.mark.parametrize(("silent", "dead"), [(5, False), (500, True)])
def test_a_run_on_another_machine_lives_by_its_beat(head, silent, dead):
    lock = lock_file(head.plan.results[0])
    path = owner_file(head, host="elsewhere")
    then = time.time() - silent
    os.utime(path, (then, then))
    os.utime(lock, (then - 60, then - 60))
    head.owner.take_over("")
    assert lock.exists() is not dead


def test_a_younger_lock_is_not_the_dead_run_s(head):
    path = owner_file(head)
    then = time.time() - 1000
    os.utime(path, (then, then))
    lock = lock_file(head.plan.results[0])
    head.owner.take_over("")
    assert lock.exists()


def test_commands_of_a_profile_are_found_from_anywhere(head, tmp_path, monkeypatch):
    monkeypatch.setenv("PWD", str(tmp_path))
    command = tmp_path / "repository" / "profiles" / "sge" / "submit.py"
    command.parent.mkdir(parents=True)
    command.write_text("")
    assert head.absolute_command("profiles/sge/submit.py") == str(command)
    assert head.absolute_command("profiles/sge/submit.py --fast") == f"{command} --fast"
    assert head.absolute_command("qsub -V") == "qsub -V"
    assert head.absolute_command("no/such.py") == "no/such.py"
    assert head.absolute_command(None) is None


def test_headers_are_written_once(head):
    infos = preflight(head.plan.config).infos
    head.write_headers(infos)
    path = head.plan.paths.recording("a").header
    assert json.loads(path.read_text())["shape"] == [3, 16, 16, 1]
    before = path.stat().st_mtime_ns
    head.write_headers(infos)
    assert path.stat().st_mtime_ns == before


def test_what_cannot_succeed_is_not_tried_again(tmp_path):
    book = JobBook(tmp_path)
    record = JobRecord(slot="stage1_compensate a", job_id="7", outputs=digest_of(["a"]))
    book.write(record)
    book.note_failure(record.slot, "input", "a.tif is truncated.")
    told = []

    class Executor:
        def report_job_error(self, job_info, msg=None):
            told.append(msg)

    hooks = Hooks(book, "1-run", "name", lambda command: command)
    hooks._wrap(Executor, "report_job_error", hooks._failed)
    job = SimpleNamespace(attempt=1, restart_times=2)
    Executor().report_job_error(SimpleNamespace(job=job, external_jobid="7"))
    assert "a.tif is truncated." in told[0]
    assert job.attempt - 1 == job.restart_times, "no attempt is left"


def test_jobs_are_asked_for_without_starting_a_program_for_each(tmp_path, monkeypatch):
    monkeypatch.setenv("PYFLOWREG_CLUSTER_STATE", str(tmp_path))
    book = JobBook(tmp_path)
    for number in "1234":
        record = JobRecord(slot=number, job_id=number, outputs="", token=f"job-{number}")
        book.write(record)
    book.exit_file("job-1").write_text("0\n")
    book.exit_file("job-2").write_text("1\n")
    questions = []
    monkeypatch.setattr(sge, "active", lambda: questions.append(1) or {"3": "r", "4": "qw"})
    monkeypatch.setattr(subprocess, "Popen", None)
    profile = Path(hooks_module.__file__).parents[3] / "profiles" / "sge" / "status.py"
    settings = SimpleNamespace(submit_cmd="qsub", status_cmd=str(profile), cancel_cmd=None)
    ended = []

    class Executor:
        workflow = SimpleNamespace(executor_settings=settings)
        check_active_jobs = None

        def report_job_success(self, job_info):
            ended.append(("done", job_info.external_jobid))

        def report_job_error(self, job_info):
            ended.append(("failed", job_info.external_jobid))

    executor = Executor()
    Hooks(book, "1-run", "name", lambda command: command)._started_generic(lambda: None, executor)
    jobs = [SimpleNamespace(external_jobid=number) for number in "1234"]

    async def left():
        return [job.external_jobid async for job in executor.check_active_jobs(jobs)]

    assert asyncio.run(left()) == ["3", "4"]
    assert ended == [("done", "1"), ("failed", "2")]
    assert len(questions) == 1


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({}, None),
        ({"NCPUS": "3"}, None),
        ({"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"SGE_TASK_ID": "undefined", "NSLOTS": "2"}, 2),
        ({"PBS_JOBID": "1.server", "NCPUS": "5"}, 5),
    ],
)
def test_cores_of_a_job(monkeypatch, variables, cores):
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "SGE_TASK_ID", "SLURM_CPUS_PER_TASK", "NSLOTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert allocated_cores() == cores
    if cores:
        assert threads_of(SessionConfig(root=".")) <= cores
    assert threads_of(SessionConfig(root=".", n_workers=7)) == 7


def test_files_are_written_on_the_disk_of_the_node(tmp_path, monkeypatch):
    scratch = tmp_path / "node"
    scratch.mkdir()
    monkeypatch.setenv("PYFLOWREG_SCRATCH", "$NODE_DISK")
    monkeypatch.setenv("NODE_DISK", str(scratch))
    moves = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (moves.append(self), rename(self, to))[1])
    atomic_save_npy(tmp_path / "results" / "a.npy", np.arange(5))
    assert np.array_equal(np.load(tmp_path / "results" / "a.npy"), np.arange(5))
    assert [path.parent for path in moves] == [tmp_path / "results"], "renamed in its folder"
    assert list(scratch.iterdir()) == []


def test_an_error_leaves_nothing_on_the_disk_of_the_node(tmp_path, monkeypatch):
    from pyflowreg.io.atomic import atomic_path

    scratch = tmp_path / "node"
    scratch.mkdir()
    monkeypatch.setenv("PYFLOWREG_SCRATCH", str(scratch))
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a") as temporary:  # noqa: PT012
        assert temporary.parent == scratch
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "a").exists()


def test_a_disk_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PYFLOWREG_SCRATCH", str(tmp_path / "nowhere"))
    with pytest.raises(OutputError, match=r"PYFLOWREG_SCRATCH: .* is not a folder"):
        atomic_save_npy(tmp_path / "a.npy", np.arange(5))
    monkeypatch.setenv("PYFLOWREG_SCRATCH", "$ONLY_IN_JOBS")
    monkeypatch.delenv("ONLY_IN_JOBS", raising=False)
    atomic_save_npy(tmp_path / "a.npy", np.arange(5))


@pytest.mark.parametrize(
    ("settings", "gpus"),
    [
        ({}, 0),
        ({"flow_backend": "flowreg_cuda"}, 1),
        ({"flow_backend": "flowreg_torch"}, 1),
        ({"flow_backend": "flowreg_torch", "backend_params": {"device": "cpu"}}, 0),
    ],
)
def test_gpus(head, settings, gpus):
    assert Plan.from_mapping({"root": "session", **settings}).gpus == gpus
