"""SLURM beside Snakemake's executor: states, arrays, jobs that nobody follows. Its commands are
stand-ins that print what a file says."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from types import SimpleNamespace

import pytest

from pyflowreg.cluster import hooks as hooks_module
from pyflowreg.cluster import slurm, slurm_arrays, slurm_states
from pyflowreg.cluster.commands import Answer
from pyflowreg.cluster.hooks import Hooks
from pyflowreg.cluster.jobbook import JobBook, JobRecord
from pyflowreg.cluster.slurm_states import States, expanded

COMMAND = """\
#!/bin/sh
echo "$0 $*" | sed 's|.*/||' >> {folder}/calls
for word in "$@"; do
    case "$word" in --jobs=*) [ -e {folder}/{name}.jobs ] && exec cat {folder}/{name}.jobs;; esac
done
cat {folder}/{name}.err >&2 2>/dev/null
cat {folder}/{name}.out
exit $(cat {folder}/{name}.rc 2>/dev/null || echo 0)
"""


class Cluster:
    """Commands of SLURM, and what they were asked."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel"):
            path = folder / name
            path.write_text(COMMAND.format(folder=folder, name=name))
            path.chmod(0o755)
            self.says(name, "")
        self.says("scontrol", "MinJobAge               = 300 sec\n")

    def says(self, name, text, status=0, errors=""):
        (self.folder / f"{name}.out").write_text(text)
        (self.folder / f"{name}.err").write_text(errors)
        (self.folder / f"{name}.rc").write_text(f"{status}\n")

    def says_of_jobs(self, name, text):
        (self.folder / f"{name}.jobs").write_text(text)

    def calls(self, name):
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] == name]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return Cluster(folder)


class Rule(SimpleNamespace):
    name = "stage1"


class Job(SimpleNamespace):
    """A job of Snakemake."""

    def __init__(self, name, folder):
        super().__init__(
            rule=Rule(),
            wildcards_dict={"recording": name},
            output=[str(folder / f"{name}.out")],
            log=[],
            threads=1,
            attempt=1,
            restart_times=2,
            resources={"mem_mb": 10, "runtime": 5},
            jobid=1,
            name="stage1",
        )

    def __hash__(self):
        return id(self)

    def is_group(self):
        return False


def info(job, key):
    return SimpleNamespace(job=job, external_jobid=key, aux={})


@pytest.fixture
def plugin():
    module = pytest.importorskip("snakemake_executor_plugin_slurm")
    before = {name: getattr(module, name) for name in slurm_states._REPLACED}
    yield module
    for name, function in before.items():
        setattr(module, name, function)
    if hasattr(module, slurm_states._KEPT):
        delattr(module, slurm_states._KEPT)


@pytest.fixture
def executor(plugin):
    """The executor itself, without a workflow: its questions are those of the plugin."""
    found = object.__new__(plugin.Executor)
    settings = SimpleNamespace(
        init_seconds_before_status_checks=20,
        status_attempts=2,
        status_command="squeue",
        keep_successful_logs=True,
        requeue=False,
    )
    remote = SimpleNamespace(seconds_between_status_checks=20)
    found.workflow = SimpleNamespace(executor_settings=settings, remote_execution_settings=remote)
    found.logger = logging.getLogger("executor")
    found.run_uuid = "pyflowreg-1"
    found._next_seconds_between_status_checks = None
    found._status_query_calls = found._status_query_failures = 0
    found._status_query_total_seconds = found._status_query_max_seconds = 0.0
    found._status_query_min_seconds = None
    found._status_query_cycle_rows = []
    found._preemption_warning = False
    found.status_rate_limiter = contextlib.AsyncExitStack()
    found.ended = {}
    found.report_job_success = lambda info: found.ended.update({info.external_jobid: "done"})
    found.report_job_error = lambda info, **_: found.ended.update({info.external_jobid: "failed"})
    return found


def look(executor, jobs):
    """Let the executor ask once; return the identifiers of the jobs that go on."""

    async def left():
        return [job.external_jobid async for job in executor.check_active_jobs(jobs)]

    return asyncio.run(left())


def entered(book, job, key, **more):
    book.write(JobRecord(slot=hooks_module.job_slot(job), job_id=key, outputs="", **more))
    return info(job, key)


def test_states_of_arrays_one_by_one():
    said = {"118_[3-5,9%2]": "PENDING", "118_1": "CANCELLED by 1000", "119": "RUNNING"}
    states = expanded(said)
    assert states["118_1"] == "CANCELLED"
    assert [key for key in states if states[key] == "PENDING"][1:] == [
        *("118_3", "118_4", "118_5", "118_9")
    ]
    assert expanded({"7_[0-6:3]": "PENDING"}).keys() == {"7_[0-6:3]", "7_0", "7_3", "7_6"}


@pytest.mark.parametrize("age", ["", "MinJobAge               = 10 sec\n"])
def test_the_accounting_database_tells_members_of_arrays_apart(cluster, executor, tmp_path, age):
    # Raw identifiers: 118 is the last member, and the executor takes its state for all of them.
    cluster.says("scontrol", age)
    cluster.says("sacct", "118_1|COMPLETED\n118_[2-3]|PENDING\n118_4|CANCELLED by 1000\n")
    assert States(executor, JobBook(tmp_path)).install()
    jobs = [info(Job(str(number), tmp_path), f"118_{number}") for number in range(1, 5)]
    assert look(executor, jobs) == ["118_2", "118_3"]
    assert executor.ended == {"118_1": "done", "118_4": "failed"}
    assert "--format=JobID,State" in cluster.calls("sacct")[0]


def test_one_failed_question_does_not_change_the_way_of_asking(cluster, executor, tmp_path):
    cluster.says("squeue", "118_1|RUNNING\n118_2|PENDING\n")
    assert States(executor, JobBook(tmp_path)).install()
    jobs = [info(Job(str(number), tmp_path), f"118_{number}") for number in (1, 2)]
    assert look(executor, jobs) == ["118_1", "118_2"]
    cluster.says("scontrol", "", status=1)
    assert look(executor, jobs) == ["118_1", "118_2"]
    assert not cluster.calls("sacct")
    assert "--array" in cluster.calls("squeue")[0]


def test_jobs_are_not_forgotten_while_slurm_is_silent(cluster, executor, tmp_path, caplog):
    cluster.says("squeue", "", status=1, errors="Unable to contact slurm controller")
    assert States(executor, JobBook(tmp_path)).install()
    jobs = [info(Job("a", tmp_path), "118_1")]
    assert look(executor, jobs) == ["118_1"]
    assert look(executor, jobs) == ["118_1"]
    assert caplog.text.count("SLURM does not answer") == 1
    assert executor.ended == {}


@pytest.mark.parametrize(
    ("said", "longest"), [("= 300 sec", 120), ("= 100", 40), ("= 0 sec", 180), ("", 120)]
)
def test_jobs_are_asked_for_before_slurm_forgets_them(cluster, executor, tmp_path, said, longest):
    cluster.says("scontrol", f"MinJobAge {said}\n")
    cluster.says("squeue", "7|RUNNING\n")
    states = States(executor, JobBook(tmp_path))
    assert states.install()
    executor.next_seconds_between_status_checks = 175
    if not said:  # sacct would be asked
        (cluster.folder / "sacct").unlink()
        (cluster.folder / "which").write_text("#!/bin/sh\nexit 1\n")
        (cluster.folder / "which").chmod(0o755)
    assert look(executor, [info(Job("a", tmp_path), "7")]) == ["7"]
    assert executor.next_seconds_between_status_checks == longest


@pytest.mark.parametrize(
    ("queue", "accounted", "made", "end"),
    [
        ("", "", False, "failed"),
        ("", "", True, "done"),
        ("", "118_3|COMPLETED\n", False, "done"),
        ("", "118_3|TIMEOUT\n", True, "failed"),
        ("118_3|RUNNING\n", "118_3|FAILED\n", False, None),  # somebody renamed it
        ("", "118_3|RUNNING\n", False, None),
    ],
)
def test_a_job_that_slurm_forgot(
    cluster, executor, tmp_path, monkeypatch, queue, accounted, made, end
):
    book = JobBook(tmp_path / "book")
    job = Job("a", tmp_path)
    waiting = [entered(book, job, "118_3", submitted=time.time(), requested={"runtime": 5})]
    if made:
        (tmp_path / "a.out").write_text("")
    cluster.says_of_jobs("squeue", queue)
    cluster.says("sacct", accounted)
    assert States(executor, book).install()
    assert look(executor, waiting) == ["118_3"], "at first it may just not be there yet"
    assert not cluster.calls("sacct")
    monkeypatch.setattr(slurm_states, "GRACE_SECONDS", 0.0)
    assert look(executor, waiting) == ([] if end else ["118_3"])
    assert executor.ended == ({"118_3": end} if end else {})
    verdict = book.by_id("118_3").verdict
    if end == "failed":
        assert verdict == ("ended at its time limit of 5 min" if accounted else slurm_states.LOST)
    assert bool(cluster.calls("scancel")) is (end == "failed" and not accounted)


def test_results_of_an_earlier_try_do_not_count(tmp_path):
    job = Job("a", tmp_path)
    (tmp_path / "a.out").write_text("")
    assert slurm_states._made(job, time.time())
    assert not slurm_states._made(job, time.time() + 1000)


def test_another_version_of_the_executor_gets_no_arrays(executor, plugin, monkeypatch, tmp_path):
    monkeypatch.setattr(plugin, "query_job_status_sacct", lambda runid: "sacct --json")
    assert not States(executor, JobBook(tmp_path)).install()
    assert plugin.query_job_status_sacct("name") == "sacct --json"
    other = SimpleNamespace(logger=executor.logger)
    assert not States(other, JobBook(tmp_path)).install()


# Submission


class Submitting:
    """An executor that only submits."""

    run_uuid = "pyflowreg-1"

    def __init__(self, folder):
        self.slurm_logdir = folder / "logs"
        self.logger = logging.getLogger("executor")
        self.reported = []
        self.array_jobs = {"stage1"}
        self.workflow = SimpleNamespace(executor_settings=SimpleNamespace(array_limit=500))

    def run_job_pre(self, job):
        pass

    def format_job_exec(self, job):
        return "true"

    def report_job_submission(self, job_info):
        self.reported.append(job_info.external_jobid)

    def report_job_error(self, job_info, msg=None):
        self.reported.append(msg)

    def run_jobs(self, jobs):
        self.reported += [f"alone {job.wildcards_dict['recording']}" for job in jobs]


@pytest.fixture
def submitting(cluster, tmp_path, monkeypatch):
    pytest.importorskip("snakemake_interface_executor_plugins")
    monkeypatch.setattr(slurm_arrays, "_options", lambda *_: ["sbatch"])
    monkeypatch.setattr(hooks_module, "SLURM", __name__)
    hooks = Hooks(JobBook(tmp_path / "book"), "2-run", "pyflowreg-1", lambda command: command)
    hooks._arrays = True
    return hooks, Submitting(tmp_path), [Job(name, tmp_path) for name in "abc"]


def test_an_array_is_in_the_book_before_anything_is_reported(cluster, submitting, monkeypatch):
    hooks, executor, jobs = submitting
    cluster.says("sbatch", "118\n")

    def interrupted(job_info):
        raise KeyboardInterrupt

    executor.report_job_submission = interrupted
    with pytest.raises(KeyboardInterrupt):
        hooks._run_slurm(executor.run_jobs, executor, jobs)
    assert list(hooks.unfinished) == ["118_1", "118_2", "118_3"], "these are cancelled at the end"
    assert {hooks.book.by_id(f"118_{number}").run for number in (1, 2, 3)} == {"2-run"}
    assert not list((hooks.book.folder / "scripts").iterdir())


@pytest.mark.parametrize("accepted", [True, False])
def test_an_unclear_answer_of_sbatch(cluster, submitting, monkeypatch, accepted):
    hooks, executor, jobs = submitting
    hooks._looked_for_strays = True
    timed_out = "sbatch: error: Batch job submission failed: Socket timed out on send/recv"

    def sbatch(command, patience):
        if accepted:
            cluster.says("squeue", f"118_2|118|{command[-1]}|rule_stage1\n118_1|118|x|\n")
        return Answer(1, "", timed_out)

    monkeypatch.setattr(slurm_arrays, "ask", sbatch)
    hooks._run_slurm(executor.run_jobs, executor, jobs)
    if accepted:
        assert executor.reported == ["118_1", "118_2", "118_3"]
    else:
        assert len(executor.reported) == 3
        assert all("Socket timed out" in message for message in executor.reported)


def test_ctrl_c_during_sbatch(cluster, submitting, monkeypatch):
    hooks, executor, jobs = submitting
    hooks._looked_for_strays = True

    def sbatch(command, patience):
        cluster.says("squeue", f"118_1|118|{command[-1]}|\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm_arrays, "ask", sbatch)
    with pytest.raises(KeyboardInterrupt):
        hooks._run_slurm(executor.run_jobs, executor, jobs)
    assert cluster.calls("scancel") == ["scancel 118"]


def test_jobs_that_no_run_entered_are_cancelled(cluster, submitting):
    hooks, executor, jobs = submitting
    entered(hooks.book, jobs[0], "118_1", run="1-run")
    cluster.says("squeue", "118_1 RUNNING\n118_2 PENDING\n")
    cluster.says("sbatch", "119\n")
    hooks._run_slurm(executor.run_jobs, executor, jobs[1:])
    assert cluster.calls("scancel") == ["scancel 118_2"]
    hooks._run_slurm(executor.run_jobs, executor, [])
    assert len(cluster.calls("scancel")) == 1, "only before the first job of the run"


def test_a_single_job_accepted_in_spite_of_an_error(cluster, submitting, monkeypatch):
    hooks, executor, jobs = submitting
    hooks._looked_for_strays = True
    said = "SLURM sbatch failed. The error message was 'Socket timed out'.\n    sbatch call:\n"
    said += "        sbatch --parsable --comment rule_stage1_wildcards_a --wrap=true"
    hooks._failed(lambda *_, **__: None, executor, info(jobs[0], None), said)
    cluster.says("squeue", "7|7|wrap|rule_stage1_wildcards_a\n8|8|wrap|rule_stage1_wildcards_ab\n")
    hooks._run_slurm(executor.run_jobs, executor, jobs[:1])
    assert cluster.calls("scancel") == ["scancel 7"]
    assert executor.reported == ["alone a"]


@pytest.mark.parametrize(
    ("errors", "unclear"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv", True),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller", True),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", False),
    ],
)
def test_which_refusals_are_final(errors, unclear):
    assert slurm.unclear(Answer(1, "", errors)) is unclear
    assert slurm.unclear(Answer(124, "", ""))
    assert not slurm.unclear(Answer(127, "", "No such file"))


def test_nothing_is_submitted_while_the_queue_is_unknown(cluster, submitting):
    errors = pytest.importorskip("snakemake_interface_common.exceptions")
    hooks, executor, jobs = submitting
    cluster.says("squeue", "", status=1)
    for _ in range(2):
        with pytest.raises(errors.WorkflowError, match="Start again later"):
            hooks._run_slurm(executor.run_jobs, executor, jobs)
    assert len(cluster.calls("squeue")) == slurm_arrays.PATIENCE
    assert not cluster.calls("sbatch")
    assert executor.reported == []


def test_an_adopted_job_keeps_the_time_of_its_submission(cluster, submitting, monkeypatch):
    hooks, executor, jobs = submitting
    monkeypatch.setattr(sys.modules[__name__].Submitting, "__module__", __name__)
    entered(hooks.book, jobs[0], "118_1", run="1-run", submitted=5.0)
    hooks._submitted(lambda *_, **__: None, executor, info(jobs[0], "118_1"))
    record = hooks.book.by_id("118_1")
    assert (record.run, record.submitted) == ("2-run", 5.0)
