"""Two runs of one session at once, locks of the dead, and what killed runs left lying about."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from pyflowreg.errors import OutputError
from pyflowreg.io import file_lock
from pyflowreg.io.atomic import temporary_sibling
from pyflowreg.io.file_lock import FileLock, holder
from pyflowreg.session import cli, locks
from pyflowreg.session.discovery import discover_recordings
from pyflowreg.session.outputs import recording_paths, session_paths
from pyflowreg.session.stage1_compensate import run_stage1_array
from pyflowreg.workflow.inspect import write_header

from . import faults
from .scenes import save_session
from .stages import Case

every_stage = pytest.mark.parametrize("stage", ["stage 1", "stage 2", "mask", "video"])


@pytest.fixture
def case(two_recordings, tmp_path, request):
    shutil.copytree(two_recordings, tmp_path / "data")
    return lambda stage: Case(tmp_path / "data", stage)


def ended(*processes):
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def lock_of(config, stage):
    paths = session_paths(config)
    recording = paths.recording("rec_1")
    return {
        "stage 1": recording.checkpoint / "lock",
        "stage 2": paths.stage2_lock,
        "mask": paths.mask_lock,
        "video": recording.video_lock,
    }[stage]


@every_stage
def test_two_at_once_make_the_same_files(case, stage):
    case = case(stage)
    assert ended(*(faults.begun(case.go_on) for _ in range(3))) == [0, 0, 0]
    case.check()


@every_stage
def test_the_second_is_told_if_the_first_takes_long(case, stage, monkeypatch):
    case = case(stage)
    monkeypatch.setattr(file_lock, "WAIT_HERE", 0.1)
    with (
        FileLock(lock_of(case.config, stage), "It"),
        pytest.raises(OutputError, match=rf"is being worked on by process {os.getpid()} on"),
    ):
        case.go_on()
    case.check()


@every_stage
@pytest.mark.parametrize("host", ["elsewhere", None])
def test_locks_of_the_dead_do_not_matter(case, stage, host):
    case = case(stage)
    path = lock_of(case.config, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    note = {"host": host or os.uname().nodename, "pid": os.getpid(), "token": "0"}
    path.write_text(json.dumps(note) if host else "\0" * 9000)
    started = time.monotonic()
    case.check()
    assert time.monotonic() - started < 9


def elsewhere(work):
    """Do something in a process that knows nothing of the sessions of this one."""

    def anew():
        locks._held.set(frozenset())
        work()

    return ended(faults.begun(anew))


def told(work):
    with pytest.raises(OutputError, match=r"The session .* is being worked on"):
        work()


def enter(lock):
    with lock:
        pass


def run_command(folder):
    raise SystemExit(cli.main(["run", "--stage", "3", "--config", str(folder / "settings.yaml")]))


def test_a_run_of_the_command_has_the_session_for_itself(case, monkeypatch, tmp_path):
    config = case("stage 2").config
    monkeypatch.setattr(file_lock, "WAIT_HERE", 0.1)
    (tmp_path / "settings.yaml").write_text(f"root: {config.root}\n")
    with locks.session_lock(config, alone=True), locks.session_lock(config):
        assert elsewhere(lambda: run_command(tmp_path)) == [2]
        assert elsewhere(lambda: told(lambda: run_stage1_array(config, task_id=1))) == [0]
    assert not session_paths(config).lock.exists()


def test_array_jobs_share_a_session(case, monkeypatch):
    config = case("stage 2").config
    monkeypatch.setattr(file_lock, "WAIT_HERE", 0.1)
    lock = session_paths(config).lock
    with locks.session_lock(config):
        assert elsewhere(lambda: run_stage1_array(config, task_id=1)) == [0]
        assert lock.exists(), "not the last to leave"
        alone = locks.session_lock(config, alone=True)
        assert elsewhere(lambda: told(lambda: enter(alone))) == [0]
    assert not lock.exists()


def test_a_session_that_cannot_begin_leaves_no_folders(tmp_path):
    save_session(tmp_path / "data", ["a"], [(0, 0)], frames=3, size=(24, 32))
    (tmp_path / "settings.yaml").write_text(f"root: {tmp_path}/data\noutput_root: new/results\n")
    assert elsewhere(lambda: run_command(tmp_path)) == [2]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["a.tif"]


def test_who_is_at_work_is_found(case):
    config = case("video").config
    paths = session_paths(config)
    assert locks.at_work(paths, ["rec_1", "rec_2"]) == []
    with locks.video_lock(config, "rec_2"), locks.stage2_lock(config):
        found = locks.at_work(paths, ["rec_1", "rec_2"])
    here = f"process {os.getpid()} on {os.uname().nodename}"
    assert found == [f"stage 2 ({here})", f"the video of rec_2 ({here})"]
    assert holder(paths.stage2_lock) is None


def test_a_lock_that_cannot_be_written(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match="No space left"), FileLock(tmp_path / "a", "It"):
        pass
    monkeypatch.undo()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with FileLock(tmp_path / "a", "It"):
        pass


def test_who_waits_says_so(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(file_lock, "WAIT_HERE", 1.3)
    one, another = (FileLock(tmp_path / "a", name) for name in ("One", "Another"))
    with one, pytest.raises(OutputError), another:
        pass
    assert "Another: waiting up to 1 s for process" in caplog.text


@every_stage
def test_what_killed_runs_left_is_removed(case, stage):
    case = case(stage)
    config = case.config
    paths, files = session_paths(config), recording_paths(config, "rec_1")
    other = "0123456789ab"
    targets = {
        "stage 1": [files.compensated, files.statistics, files.header, files.stage1_record(other)],
        "stage 2": [files.w_to_reference, files.temporal_average, paths.stage2_record(other)],
        "mask": [paths.final_npz, paths.final_mat, files.valid_png, paths.mask_record(other)],
        "video": [files.aligned, files.aligned.with_suffix(".hdf5"), files.video_record(other)],
    }[stage]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    left = [faults.abandoned(target) for target in targets]
    living = temporary_sibling(targets[0])
    living.write_bytes(b"half")
    stranger = targets[0].parent / ".aligned-notes.tmp.tif"
    stranger.touch()
    case.go_on()
    assert [path for path in left if path.exists()] == []
    assert living.exists(), "of a process that is at work"
    assert stranger.exists()
    living.unlink()
    stranger.unlink()
    case.check()


def test_a_header_removes_what_one_before_has_left(case):
    config = case("stage 2").config
    path = recording_paths(config, "rec_1").header
    left = faults.abandoned(path)
    write_header(config, discover_recordings(config)[0], path)
    assert not left.exists()


def test_what_is_left_on_the_disk_of_the_node_is_removed(case, tmp_path, monkeypatch):
    scratch = tmp_path / "node"
    scratch.mkdir()
    left = faults.abandoned(scratch / "of another session.tif")
    elsewhere = scratch / ".a-00000001-1-1-00000001.tmp.tif"
    elsewhere.touch()
    case = case("video")
    monkeypatch.setenv("PYFLOWREG_SCRATCH", str(scratch))
    assert faults.in_child(case.go_on, 12).killed
    case.go_on()
    assert not left.exists()
    assert list(scratch.iterdir()) == [elsewhere], "of another machine"
    monkeypatch.delenv("PYFLOWREG_SCRATCH")
    case.check()
