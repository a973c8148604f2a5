"""A session through each scheduler: results, accounting, trouble, interruptions, arrays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY, Run, Session
from .servers.processes import wait_until

STAGE1 = ["--until", "stage1_compensate"]
NAMES = [f"recording_{number:02d}" for number in range(1, 4)]
JOB_IN_LOG = re.compile(r"job (\S+) of (?:SLURM|PBS|Grid Engine)")
MEMORY = re.compile(r"peak memory (\d+) MB of (\d+) MB reserved")
# What is compared bit for bit; the others hold times, or are compressed together with them.
SUFFIXES = (".tif", ".npy", ".png", ".hdf5", ".hdf")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    """The session, made on this machine alone."""
    import yaml

    from .conftest import SETTINGS

    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(recordings, folder / "session")
    (folder / "session" / "recording_04.tif").unlink()
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    subprocess.run(
        [*command, "--cores", "2", "--quiet", "all", "--configfile", "settings.yaml"],
        cwd=folder,
        check=True,
        timeout=300,
    )
    return folder / "session"


def job_of(log: str) -> str:
    """Return the identifier that a job found in its environment."""
    found = JOB_IN_LOG.search(log)
    assert found, log
    return found[1]


def test_results_and_reservations(session: Session, local: Path) -> None:
    run = session.start()
    assert run.wait() == 0, run.text
    made = {path.relative_to(local): path for path in local.rglob("*") if path.suffix in SUFFIXES}
    assert len(made) > 20
    for name, path in made.items():
        assert (session.results / name).read_bytes() == path.read_bytes(), name
    logs = {
        "stage1_compensate": NAMES,
        "stage2_between_avgs": [""],
        "stage3_valid_mask": [""],
        "stage3_align": NAMES,
    }
    for rule, recordings in logs.items():
        for recording in recordings:
            text = session.log(rule, recording)
            record = session.cluster.record(job_of(text))
            peak, reserved = map(int, MEMORY.search(text).groups())  # type: ignore[union-attr]
            assert record["cores"] == (1 if rule == "stage3_valid_mask" else 2)
            assert reserved <= record["memory"] <= reserved + 3
            assert peak < reserved
            assert record["time"] == (6 if rule == "stage3_align" else 11)
    assert len(run.submitted()) == 8


def test_trouble_is_told_apart(session: Session, recordings: Path) -> None:
    """An unusable recording, one that needs more memory, one that is cancelled, one too slow."""
    shutil.copy(recordings / "recording_04.tif", session.results)
    cluster = session.cluster
    session.faults(
        recording_01={"input": "recording_01.tif: frame 3 cannot be read."},
        recording_02={"megabytes": 900, "times": 1},
        recording_03={"sleep": 300, "times": 1},
        recording_04={"sleep": 200, "times": 1},
    )
    limits = ["--set-resources", "stage1_compensate:runtime=attempt"]
    if cluster.name == "sge":
        # The limit that Grid Engine enforces.
        limits += ["--default-resources", "sge_memory=\"'h_vmem'\"", "sge_pe=\"'smp'\""]
    run = session.start(*STAGE1, *limits)
    assert wait_until(lambda: session.asleep("recording_03"), 120, 0.3), run.text
    cluster.cancel(job_of(session.log("stage1_compensate", "recording_03")))
    assert run.wait(400) != 0
    text = run.text
    assert "recording_01.tif: frame 3 cannot be read." in text
    assert "It is not tried again before something is changed." in text
    assert (session.folder / "recording_01.tries").read_text() == "1"
    assert re.search(r"recording_03 \(job \S+\): (cancelled|killed) from outside", text)
    assert re.search(r"recording_04 \(job \S+\): ended at its time limit of 1 min", text)
    assert "It is submitted again with more memory and time, attempt 2 of 3." in text
    assert re.search(r"recording_02 \(job \S+\): .*", text)
    memory = r"MemoryError" if cluster.name == "sge" else r"needed more than the \d+ MB"
    assert re.search(memory, text)
    for name in (*NAMES[1:], "recording_04"):
        assert (session.folder / f"{name}.tries").read_text() == "2"
        assert (session.results / "compensated_outputs" / name / "compensated.hdf5").exists()


def test_an_error_reaches_the_terminal(session: Session) -> None:
    session.faults(recording_02={"error": "a wheel came off"})
    run = session.start(*STAGE1, "--restart-times", "1")
    assert run.wait() != 0
    assert run.text.count("RuntimeError: a wheel came off") >= 2, "once per attempt"
    assert "last lines of logs/stage1_compensate/recording_02.log" in run.text
    assert (session.folder / "recording_02.tries").read_text() == "2"
    for name in ("recording_01", "recording_03"):
        assert (session.results / "compensated_outputs" / name / "compensated.hdf5").exists()


def test_ctrl_c_cancels_the_jobs(session: Session) -> None:
    session.faults(**{name: {"sleep": 300} for name in NAMES})
    run = session.start(*STAGE1)
    assert wait_until(lambda: any(session.asleep(name) for name in NAMES), 120, 0.3), run.text
    assert len(session.cluster.queue()) == 3
    os.kill(run.process.pid, signal.SIGINT)
    assert run.wait(60) != 0
    assert wait_until(lambda: not session.cluster.queue(), 30, 0.5), session.cluster.queue()


def test_a_run_that_was_killed_goes_on(session: Session) -> None:
    """What still runs is not run twice, and what is finished is kept."""
    session.faults(recording_01={"sleep": 45}, recording_02={"sleep": 45}, recording_03={})
    first = session.start(*STAGE1)
    assert wait_until(lambda: session.asleep("recording_01"), 120, 0.3), first.text
    os.kill(first.process.pid, signal.SIGKILL)
    first.wait()
    again = session.start(*STAGE1)
    assert again.wait() == 0, again.text
    assert "goes on" in again.text
    for name in NAMES:
        assert (session.folder / f"{name}.tries").read_text() == "1", again.text
        assert (session.results / "compensated_outputs" / name / "compensated.hdf5").exists()


def test_plain_array_jobs_and_then_snakemake(session: Session, local: Path) -> None:
    command = [sys.executable, "-m", "pyflowreg.session.cli", "submit", "--config"]
    command += ["settings.yaml", "--scheduler", session.cluster.name]
    submitted = Run([*command, "--at-once", "2"], session.folder, session.variables())
    assert submitted.wait() == 0, submitted.text
    mask = session.results / "final_results" / "final_valid_idx.npz"
    done = wait_until(lambda: mask.exists() and not session.cluster.queue(), 240, 1)
    logs = "".join(path.read_text() for path in (session.folder / "cluster_jobs").rglob("*.log"))
    assert done, logs
    video = Path("final_results") / "aligned_recording_03.tif"
    assert (session.results / video).read_bytes() == (local / video).read_bytes()
    run = session.start("--dry-run")
    assert run.wait() == 0, run.text
    assert "Nothing to be done" in run.text


def test_the_profile_by_its_name(session: Session, tmp_path: Path) -> None:
    """Typed in the repository, with the session elsewhere."""
    more = ["--directory", str(session.folder), "--configfile", str(tmp_path / "settings.yaml")]
    target = ["--until", "stage1_compensate", "--quiet", "rules"]
    command = session.command(*more, *target, profile=session.cluster.name)
    (session.results / "recording_03.tif").unlink()
    run = Run(command, REPOSITORY, session.variables())
    try:
        assert run.wait() == 0, run.text
    finally:
        Path(run._file.name).unlink()
    assert len(list(session.results.glob("compensated_outputs/*/compensated.hdf5"))) == 2
    assert not (REPOSITORY / "compensated_outputs").exists()


def test_gpus_are_requested_where_they_are_used(session: Session) -> None:
    """No backend of this release uses one, so the request is made by hand."""
    for name in NAMES[1:]:
        if name != "recording_02":  # the centre
            (session.results / f"{name}.tif").unlink()
    run = session.start(
        "--set-resources", "stage1_compensate:gpu=1", "--until", "stage2_between_avgs"
    )
    assert run.wait() == 0, run.text
    cluster = session.cluster
    for rule, recording, expected in (
        ("stage1_compensate", "recording_01", True),
        ("stage2_between_avgs", "", False),
    ):
        job = job_of(session.log(rule, recording))
        assert bool(re.search(r"gpu[s=:]*1", cluster.raw_record(job))) is expected
