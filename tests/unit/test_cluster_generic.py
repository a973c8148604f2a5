"""Jobs of Grid Engine and PBS: none is submitted twice, and no other job is taken for one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyflowreg.cluster import adoption, generic, pbs, sge
from pyflowreg.cluster.jobbook import JobBook, JobRecord, digest_of
from pyflowreg.cluster.queues import known_queue
from pyflowreg.errors import PyflowregError

SIMULATOR = Path(__file__).parents[1] / "cluster" / "servers" / "pbs_simulator.py"
SLOT = "stage1_compensate a"
# One line per job: number, name. What the file "mode" says happens to the next submission.
GRID_ENGINE = r"""#!/bin/bash
cd "$(dirname "$0")"
mode=$(cat mode 2> /dev/null)
case $(basename "$0") in
qsub)
    if [ "$mode" = refuse ]; then echo "Unable to run job: no such queue" >&2; exit 1; fi
    number=$((17 + $(wc -l < jobs)))
    while [ "$1" != -N ]; do shift; done
    echo "$number ${2:0:10}" >> jobs
    if [ "$mode" = lost ]; then echo "commlib error: got read error" >&2; exit 1; fi
    if [ "$mode" = killed ]; then kill -9 $PPID; fi
    echo "$number" ;;
qstat)
    echo asked >> questions
    if [ "$mode" = silent ]; then exit 1; fi
    if [ -s jobs ]; then echo "job-ID  prior   name       user         state"; fi
    while read -r number name; do
        echo "     $number 0.55500 $name somebody     r     11/22/2026 22:00:00 all.q@node  2"
    done < jobs ;;
qdel) echo "$@" >> deleted ;;
qacct) echo "error: job id $2 not found" >&2; exit 1 ;;
esac
"""


class Scheduler:
    """Grid Engine, as far as these tests need it."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        for name in ("qsub", "qstat", "qdel", "qacct"):
            (folder / name).write_text(GRID_ENGINE)
            (folder / name).chmod(0o755)
        self.has()

    def is_now(self, mode):
        (self.folder / "mode").write_text(mode)

    def has(self, **jobs):
        lines = (f"{number.strip('_')} {name[:10]}\n" for number, name in jobs.items())
        (self.folder / "jobs").write_text("".join(lines))

    def lines(self, name):
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setenv("PYFLOWREG_CLUSTER_RUN", "2000000000-second")
    monkeypatch.setenv("PYFLOWREG_CLUSTER_STATE", str(tmp_path / "book"))
    monkeypatch.setenv("PYFLOWREG_QUEUE_SECONDS", "0")
    return JobBook(tmp_path / "book")


@pytest.fixture
def scheduler(book, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return Scheduler(tmp_path / "bin")


@pytest.fixture
def jobscript(tmp_path):
    path = tmp_path / "snakejob.sh"
    properties = {"rule": "stage1_compensate", "wildcards": {"recording": "a"}, "output": ["a"]}
    path.write_text(f"#!/bin/sh\n# properties = {json.dumps(properties)}\nsleep 60\n")
    return path


def job(book, **changes):
    """Enter a job of an earlier run."""
    record = JobRecord(
        slot=SLOT,
        job_id="17",
        outputs=digest_of(["a"]),
        run="1000000000-first",
        token="token",
        scheduler="sge",
        name="p12345678_stage1_compensate_a",
        submitted=time.time() - 100,
    )
    record = dataclasses.replace(record, **changes)
    book.write(record)
    return record


def next_run(monkeypatch):
    monkeypatch.setenv("PYFLOWREG_CLUSTER_RUN", "3000000000-third")


def test_a_job_is_submitted_and_entered(scheduler, book, jobscript, capsys):
    assert generic.submit("sge", jobscript) == 0
    assert capsys.readouterr().out == "17\n"
    record = book.by_id("17")
    assert (record.scheduler, record.run) == ("sge", "2000000000-second")
    assert scheduler.lines("jobs") == [f"17 {record.name[:10]}"]
    assert generic.state_of("sge", "17") == generic.RUNNING


def test_names_are_told_apart_by_what_schedulers_show():
    assert sge.job_name(SLOT, "0a1b2c3d")[:10] == "p0a1b2c3d_"
    assert sge.job_name(SLOT, "0a1b2c3d").endswith("stage1_compensate_a")
    assert pbs.job_name(SLOT, "0a1b2c3d") == "stage1-0a1b2c3d"
    assert len(sge.job_name("a" * 100, "0a1b2c3d")) == 60


def test_a_refused_job_is_forgotten(scheduler, book, jobscript, capsys):
    scheduler.is_now("refuse")
    assert generic.submit("sge", jobscript) == 1
    assert "no such queue" in capsys.readouterr().err
    assert book.read(SLOT) is None


def test_a_job_whose_answer_was_lost_is_found(scheduler, book, jobscript, capsys):
    scheduler.is_now("lost")
    assert generic.submit("sge", jobscript) == 0
    assert capsys.readouterr().out == "17\n"
    assert book.by_id("17") is not None


def test_a_job_is_not_submitted_twice_if_the_process_was_killed(
    scheduler, book, jobscript, capsys, monkeypatch
):
    scheduler.is_now("killed")
    code = "import sys; from pathlib import Path; from pyflowreg.cluster.generic import submit\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}submit('sge', Path(sys.argv[1]))", str(jobscript)],
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert book.read(SLOT).job_id == ""
    next_run(monkeypatch)
    scheduler.is_now("silent")
    assert generic.submit("sge", jobscript) == 1, "whether there is a job is not known"
    assert "Start again when it answers" in capsys.readouterr().err
    scheduler.is_now("")
    assert generic.submit("sge", jobscript) == 0
    assert capsys.readouterr().out == "17\n"
    assert len(scheduler.lines("jobs")) == 1
    assert book.by_id("17").run == "3000000000-third"


def test_a_process_that_still_submits_is_waited_for(scheduler, book, jobscript, capsys):
    with subprocess.Popen(["sleep", "60"]) as other:
        entered = job(book, job_id="", submitted=time.time())
        entered.submitter = f"{os.uname().nodename}:{other.pid}"
        book.write(entered)
        told = dataclasses.replace(entered, job_id="17")
        scheduler.has(_17=told.name)
        read, reads = JobBook.read, []

        def later(self, slot):
            reads.append(slot)
            return read(self, slot) if len(reads) == 1 else told

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JobBook, "read", later)
            patch.setattr(adoption, "_PAUSE", 0.0)
            assert adoption.adopt(sge, book, SLOT, entered.outputs) == "17"
        other.kill()


def test_a_job_that_was_never_taken_is_submitted(scheduler, book, jobscript):
    job(book, job_id="", run="2000000000-second")
    assert generic.submit("sge", jobscript) == 0
    assert len(scheduler.lines("jobs")) == 1


def test_a_job_of_an_earlier_run_is_followed(scheduler, book):
    record = job(book)
    scheduler.has(_17=record.name)
    assert adoption.adopt(sge, book, SLOT, record.outputs) == "17"
    assert adoption.adopt(sge, book, SLOT, record.outputs) is None, "now ours"
    assert generic.state_of("sge", "17") == generic.RUNNING


def test_a_job_with_other_settings_is_cancelled(scheduler, book):
    scheduler.has(_17=job(book).name)
    assert adoption.adopt(sge, book, SLOT, digest_of(["b"])) is None
    assert scheduler.lines("deleted") == ["17"]


@pytest.mark.parametrize("outputs", ["a", "b"])
@pytest.mark.parametrize(
    "changes",
    [
        {},  # its number is another job's
        {"name": "same"},
        {"name": "same", "verdict": "killed from outside"},
        {"name": "same", "scheduler": "pbs"},
        {"name": "same", "scheduler": ""},
        {"name": "same", "token": "failed"},
    ],
)
def test_no_other_job_is_followed_or_cancelled(scheduler, book, changes, outputs):
    record = job(book, **changes)
    book.exit_file("failed").write_text("1\n")
    ours = changes == {"name": "same"}
    scheduler.has(_17="same" if ours or len(changes) > 1 else "somebodys")
    found = adoption.adopt(sge, book, SLOT, digest_of([outputs]))
    assert found == ("17" if ours and outputs == "a" else None)
    assert scheduler.lines("deleted") == (["17"] if ours and outputs == "b" else [])
    assert record.job_id == "17"


def test_nothing_is_cancelled_while_the_queue_is_not_known(scheduler, book):
    scheduler.is_now("silent")
    job(book)
    with pytest.raises(PyflowregError, match="Grid Engine does not tell whether job 17"):
        adoption.adopt(sge, book, SLOT, digest_of(["b"]))
    assert scheduler.lines("deleted") == []


@pytest.mark.parametrize("ours", [True, False])
def test_a_job_followed_in_the_dark_is_looked_at_later(scheduler, book, monkeypatch, ours):
    monkeypatch.setenv("PYFLOWREG_GRACE_SECONDS", "0")
    record = job(book)
    scheduler.has(_17=record.name if ours else "somebodys")
    scheduler.is_now("silent")
    assert adoption.adopt(sge, book, SLOT, record.outputs) == "17"
    assert generic.state_of("sge", "17") == generic.RUNNING
    scheduler.is_now("")
    state = generic.state_of("sge", "17")
    assert state == (generic.RUNNING if ours else generic.FAILED)
    assert scheduler.lines("deleted") == []


def test_a_job_submitted_after_the_last_look_at_the_queue(scheduler, book, monkeypatch):
    monkeypatch.setenv("PYFLOWREG_QUEUE_SECONDS", "100")
    assert known_queue(sge, book)["jobs"] == {}
    record = job(book, submitted=time.time())
    scheduler.has(_17=record.name)
    assert adoption.adopt(sge, book, SLOT, record.outputs) == "17"


def test_a_job_that_has_ended_is_not_followed(scheduler, book, monkeypatch):
    record = job(book)
    book.exit_file("token").write_text("0")
    assert adoption.adopt(sge, book, SLOT, record.outputs) is None
    monkeypatch.setenv("PYFLOWREG_CLUSTER_RUN", f"{int(time.time()) - 5}-new")
    assert adoption.adopt(sge, book, SLOT, record.outputs) == "17", "Snakemake did not see its end"


def test_a_scheduler_that_does_not_answer_is_asked_once_for_all_jobs(scheduler, book, monkeypatch):
    monkeypatch.setenv("PYFLOWREG_QUEUE_SECONDS", "100")
    scheduler.is_now("silent")
    for number in range(20):
        job(book, slot=f"stage1_compensate {number}", job_id=str(number), run="2000000000-second")
    states = {generic.state_of("sge", str(number)) for number in range(20)}
    assert states == {generic.RUNNING}
    assert len(scheduler.lines("questions")) == 1


def test_a_slow_answer_counts_from_its_end(book, monkeypatch):
    now = [1000.0]
    questions = []

    def answer():
        questions.append(now[0])
        now[0] += 30

    monkeypatch.setenv("PYFLOWREG_QUEUE_SECONDS", "10")
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(sge, "active", answer)
    assert [known_queue(sge, book) for _ in range(3)] == [None] * 3
    assert len(questions) == 1
    now[0] += 11
    known_queue(sge, book)
    assert len(questions) == 2


def test_the_account_of_another_job_is_not_taken(book, monkeypatch):
    text = "jobname      other\nfailed       0\nexit_status  0\n"
    monkeypatch.setattr(sge, "ask", lambda *words: generic.ask(["echo", text]))
    assert sge.ended(job(book))[0] is None
    assert sge.ended(job(book, name="other"))[0] is True


def test_pbs_finds_a_job_by_its_name(book, jobscript, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("qsub", "qstat", "qselect", "qdel"):
        (folder / name).symlink_to(SIMULATOR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PBS_SIMULATOR", str(tmp_path / "pbs"))
    try:
        assert generic.submit("pbs", jobscript) == 0
        identifier = capsys.readouterr().out.strip()
        record = book.by_id(identifier)
        assert pbs.named(record.name) == [identifier]
        assert pbs.named("stage1-00000000") == []
        book.write(dataclasses.replace(record, job_id=""))
        next_run(monkeypatch)
        assert generic.submit("pbs", jobscript) == 0
        assert capsys.readouterr().out.strip() == identifier
        monkeypatch.setenv("PYFLOWREG_CLUSTER_RUN", "4000000000-fourth")
        assert adoption.adopt(pbs, book, SLOT, digest_of(["b"])) is None
        deleted = (tmp_path / "pbs" / "accounting.jsonl").read_text()
        assert '"deleted"' in deleted
    finally:
        pbs.cancel(pbs.active() or ())


def test_the_book(book):
    record = job(book)
    assert book.by_id("17") == record
    assert book.by_id("18") is None
    assert book.by_id("") is None
    book.note_failure(SLOT, "input", "broken")
    assert book.failure(SLOT) == {"kind": "input", "message": "broken"}
    book.forget(record)
    assert book.read(SLOT) is None
    book.forget(job(book, job_id=""))
    assert book.read(SLOT) is None
