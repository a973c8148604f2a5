"""What stands in the way of a checkpoint: forged records, links, other owners, impatient users."""

import errno
import os
import signal
import time
import zipfile

import numpy as np
import pytest

from pyflowreg.errors import OutputError
from pyflowreg.io import file_lock
from pyflowreg.motion_correction import recording_run
from pyflowreg.motion_correction.checkpoint import RECORD
from pyflowreg.session import stage1_compensate as stage1
from pyflowreg.session.outputs import recording_paths
from pyflowreg.stopping import TERMINATED, stop_on_sigterm

from . import checkpoints as helper
from . import faults


@pytest.fixture
def config(tmp_path, monkeypatch):
    helper.small_chunks(monkeypatch)
    return helper.session(tmp_path / "data")


@pytest.fixture
def whole(config):
    stage1.run_stage1(config)
    made = helper.results(config)
    helper.forget(config)
    return made


def at_chunk(monkeypatch, number, action):
    """Do something when chunk `number`, from 1, is handed over."""
    chunks = []
    real = recording_run._Taker.hand_over

    def hand_over(taker, chunk, *threads):
        chunks.append(chunk.start)
        if len(chunks) == number:
            action()
        real(taker, chunk, *threads)

    monkeypatch.setattr(recording_run._Taker, "hand_over", hand_over)


def interrupt():
    raise KeyboardInterrupt


def stop_after(config, monkeypatch, chunks):
    with monkeypatch.context() as patch:
        at_chunk(patch, chunks, interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage1.run_stage1(config)
    return recording_paths(config, "rec").checkpoint


def members(path):
    with np.load(path) as record:
        return {name: record[name] for name in record.files}


def forged(path, **changes):
    """Replace arrays of a record, or leave them out."""
    arrays = {**members(path), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def bomb(path):
    """Some kilobytes that would become many megabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("reference.npy", bytes(2**26))


def boast(path):
    """An array that claims to be of some exabytes."""
    content = path.read_bytes()
    begin = content.index(b"'shape': (24, 32, 2)")
    huge = b"'shape': (9**9,9**9) "[:20]
    path.write_bytes(content[:begin] + huge + content[begin + len(huge) :])


class Trap:
    """What pickle would run."""

    def __reduce__(self):
        return os.abort, ()


FORGERIES = {
    "bomb": bomb,
    "boast": boast,
    "pickle": lambda path: forged(path, reference=np.array([Trap()], dtype=object)),
    "no reference": lambda path: forged(path, reference=None),
    "small reference": lambda path: forged(path, reference=np.zeros((3, 3, 1))),
    "words": lambda path: forged(path, next=np.array("many")),
    "no sums": lambda path: forged(path, average_sum=None),
    "other statistics": lambda path: forged(path, statistics=np.zeros((2, 4))),
    "no sizes": lambda path: forged(path, **{"masks sizes": None}),
    "too few sizes": lambda path: forged(path, **{"masks sizes": np.zeros(1, np.int64)}),
    "no zip": lambda path: path.write_bytes(b"PK" * 500),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_record_is_refused(config, whole, monkeypatch, caplog, kind):
    caplog.set_level("INFO")
    folder = stop_after(config, monkeypatch, 3)
    FORGERIES[kind](folder / RECORD)
    started = time.process_time()
    stage1.run_stage1(config)
    assert time.process_time() - started < 20
    assert "damaged" in caplog.text or "incomplete" in caplog.text
    assert helper.results(config) == whole


def test_bit_flips_in_a_record_change_nothing(config, whole, monkeypatch):
    folder = stop_after(config, monkeypatch, 3)
    record = folder / RECORD
    good = record.read_bytes()
    chosen = np.random.default_rng(0).integers(0, 8 * len(good), 8)
    for bit in chosen:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << (bit % 8)
        record.parent.mkdir(exist_ok=True)
        record.write_bytes(bad)
        stage1.run_stage1(config)
        assert helper.results(config) == whole
        helper.forget(config)
        record.parent.mkdir(parents=True)


def test_a_record_that_cannot_be_read_is_kept(config, whole, monkeypatch):
    folder = stop_after(config, monkeypatch, 3)

    def fail(*arguments, **how):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("pyflowreg.motion_correction.checkpoint.zipfile.ZipFile", fail)
        with pytest.raises(OutputError, match=r"Try again, or delete .*\.checkpoint"):
            stage1.run_stage1(config)
    assert (folder / RECORD).exists()
    stage1.run_stage1(config)
    assert helper.results(config) == whole


def test_nothing_is_removed_or_written_through_links(config, whole, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    precious = other / "precious"
    precious.write_text("data")
    folder = recording_paths(config, "rec").checkpoint
    folder.parent.mkdir(parents=True)
    folder.symlink_to(other)
    with pytest.raises(OutputError, match="symbolic link"):
        stage1.run_stage1(config)
    folder.unlink()
    folder.mkdir()
    (folder / "lock").symlink_to(precious)
    with pytest.raises(OutputError, match="lock cannot be written"):
        stage1.run_stage1(config)
    helper.forget(config)
    stop_after(config, monkeypatch, 3)
    (folder / "compensated.hdf5").unlink()
    (folder / "compensated.hdf5").symlink_to(precious)
    (folder / "a folder").mkdir()
    stage1.run_stage1(config)
    assert precious.read_text() == "data"
    (folder / "a folder").rmdir()
    folder.rmdir()
    assert helper.results(config) == whole


def no_locks(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize("others", ["finishes", "stops"])
def test_two_owners_where_there_are_no_locks(config, whole, monkeypatch, others):
    """The run that came first goes on writing; it must not reach the files of the second."""
    monkeypatch.setattr(file_lock.fcntl, "flock", no_locks)

    def come_between():
        with monkeypatch.context() as patch:
            at_chunk(patch, 2, interrupt if others == "stops" else lambda: None)
            if others == "finishes":
                stage1.run_stage1(config)
                return
            with pytest.raises(KeyboardInterrupt):
                stage1.run_stage1(config)

    with monkeypatch.context() as patch:
        at_chunk(patch, 3, come_between)
        with pytest.raises(OutputError, match="taken over by another run"):
            stage1.run_stage1(config)
    stage1.run_stage1(config)
    assert helper.results(config) == whole


def test_without_a_checkpoint_a_second_run_is_told_as_well(config, monkeypatch):
    monkeypatch.setattr(file_lock, "WAIT_HERE", 0.0)
    config.checkpoint_seconds = 0
    told = []

    def run_again():
        with monkeypatch.context() as patch:
            patch.setattr(recording_run._Taker, "hand_over", None)
            with pytest.raises(OutputError, match="being worked on by process") as error:
                stage1.run_stage1(config)
        told.append(error)

    with monkeypatch.context() as patch:
        at_chunk(patch, 2, run_again)
        stage1.run_stage1(config)
    assert told
    assert not recording_paths(config, "rec").checkpoint.exists()


@pytest.mark.parametrize("moment", ["saving", "writing", "counting"])
def test_an_impatient_user_loses_nothing(config, whole, monkeypatch, caplog, moment):
    """Ctrl-C while the first one, or a chunk, is being dealt with."""
    caplog.set_level("INFO")
    places = {
        "saving": (recording_run._Taker, "_save_at_last"),
        "writing": (recording_run._Taker, "_take"),
        "counting": (recording_run.RecordingCorrection, "_count"),
    }
    where, name = places[moment]
    real, calls = getattr(where, name), []

    def work(self, *arguments):
        calls.append(1)
        if moment == "saving" or len(calls) == 3:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.02)
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, work)
        if moment == "saving":
            at_chunk(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage1.run_stage1(config)
    assert "Stopped after frame" in caplog.text
    frame = int(caplog.text.partition("Stopped after frame ")[2].partition(";")[0])
    at_chunk(monkeypatch, 1, lambda: None)
    stage1.run_stage1(config)
    assert f"Going on from frame {frame} of" in caplog.text
    assert helper.results(config) == whole


def test_ctrl_c_does_not_reach_the_libraries_that_write(config, whole, monkeypatch):
    for name in ("begin", "finish"):
        real = getattr(recording_run.BaseWriter, name)

        def work(self, *arguments, real=real):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
            real(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(recording_run.BaseWriter, name, work)
            with pytest.raises(KeyboardInterrupt):
                stage1.run_stage1(config)
    stage1.run_stage1(config)
    assert helper.results(config) == whole


def repeated_sigterm():
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_once_and_again(config, whole, monkeypatch):
    def run():
        stop_on_sigterm()
        stage1.run_stage1(config)

    with monkeypatch.context() as patch:
        at_chunk(patch, 3, repeated_sigterm)
        _, status = os.waitpid(faults.begun(run), 0)
        assert os.waitstatus_to_exitcode(status) == TERMINATED == 143
    chunks = []
    at_chunk(monkeypatch, 1, lambda: chunks.append(1))
    stage1.run_stage1(config)
    assert helper.results(config) == whole


def test_preempted_again_and_again_it_still_finishes(config, whole, tally):
    """SIGTERM after a third of the time that the work takes, until it is done."""

    def run():
        stop_on_sigterm()
        stage1.run_stage1(config)

    started = time.monotonic()
    os.waitpid(faults.begun(run), 0)
    seconds = (time.monotonic() - started) / 3
    helper.forget(config)
    statuses = []
    while not statuses or statuses[-1] != 0:
        statuses.append(faults.signalled(faults.begun(run), signal.SIGTERM, seconds))
        assert len(statuses) < 60
    assert set(statuses[:-1]) == {143}
    assert helper.results(config) == whole
    tally("told to stop again and again", stops=len(statuses) - 1, finished=1)
