"""Stage 1 that is interrupted, at any instant: it goes on, and its files are the same bytes."""

import errno
import os

import pytest

from pyflowreg.errors import BackendError, OutputError
from pyflowreg.io import file_lock
from pyflowreg.motion_correction import (
    checkpoint,
    folder_lock,
    recording_run,
    reference,
    software,
)
from pyflowreg.motion_correction.compensate import correct_recording
from pyflowreg.session import stage1_compensate as stage1
from pyflowreg.session.discovery import discover_recordings
from pyflowreg.session.outputs import recording_paths

from . import checkpoints as helper
from . import faults
from .scenes import movie, wobble

WAYS = {
    "usual": {},
    "matlab": {"numerics": "matlab"},
    "update_reference": {"update_reference": True},
    "cc": {"cc_initialization": True},
    "in time": {"sigma": [1, 1, 1.0]},
    "binned": {"bin_size": 2},
    "long batch": {"buffer_size": 400},
    "no start": {"update_initialization_w": False},
    "given": {"reference_frames": 3},
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    helper.small_chunks(monkeypatch)
    return helper.session(tmp_path / "data", channels=2)


def uninterrupted(config):
    helper.forget(config)
    stage1.run_stage1(config)
    whole = helper.results(config)
    assert not [name for name in whole if "/." in name]
    helper.forget(config)
    return whole


class Interruption:
    """Ends the run when chunk number `last` is handed over; counts chunks."""

    def __init__(self, monkeypatch, error):
        self.chunks, self.last = [], None
        real = recording_run._Taker.hand_over

        def hand_over(taker, chunk, *threads):
            self.chunks.append(chunk.start)
            if len(self.chunks) == self.last:
                raise error
            real(taker, chunk, *threads)

        monkeypatch.setattr(recording_run._Taker, "hand_over", hand_over)

    def at(self, number):
        self.chunks, self.last = [], number


@pytest.mark.parametrize("way", WAYS)
def test_stopped_after_every_chunk(tmp_path, monkeypatch, way):
    flow = dict(WAYS[way])
    numerics = flow.pop("numerics", "standard")
    helper.small_chunks(monkeypatch)
    config = helper.session(tmp_path / "data", **flow)
    config.numerics = numerics
    whole = uninterrupted(config)
    interruption = Interruption(monkeypatch, SystemExit(143))
    for number in (1, 3, 4, 6) if way != "binned" else (2, 3):
        interruption.at(number)
        with pytest.raises(SystemExit):
            stage1.run_stage1(config)
        stopped = interruption.chunks[-1]
        interruption.at(None)
        stage1.run_stage1(config)
        # The chunk that was being handed over is not lost either.
        assert interruption.chunks[:1] != [stopped]
        assert all(start > stopped for start in interruption.chunks)
        assert helper.results(config) == whole
        helper.forget(config)


def test_chunks_and_threads_may_change_between_runs(config, monkeypatch):
    whole = uninterrupted(config)
    interruption = Interruption(monkeypatch, KeyboardInterrupt())
    for number, (length, threads) in enumerate([(1, 1), (3, 2), (2, 1), (3, 3)]):
        helper.small_chunks(monkeypatch, length)
        config.n_workers = threads
        interruption.at(2 if number < 3 else None)
        if number < 3:
            with pytest.raises(KeyboardInterrupt):
                stage1.run_stage1(config)
    stage1.run_stage1(config)
    assert helper.results(config) == whole


def test_killed_again_and_again_it_still_finishes(config):
    whole = uninterrupted(config)
    kills = 0
    while faults.in_child(lambda: stage1.run_stage1(config), 400).killed:
        kills += 1
        assert kills < 50
    assert kills > 0
    assert helper.results(config) == whole


@pytest.mark.parametrize("format_", ["TIFF", "MAT", "CAIMAN_HDF5", "MULTIFILE_TIFF"])
def test_every_format_goes_on(config, monkeypatch, tmp_path, format_):
    from pyflowreg.motion_correction import OFOptions

    options = OFOptions(
        input_file=config.root / "rec.tif", output_path=tmp_path / "out", **helper.FLOW
    )
    options.output_format = format_

    def run():
        with checkpoint.claimed(tmp_path / "out" / ".c", {}, 1e-9, "It") as saved:
            correct_recording(options, threads=1, checkpoint=saved)
            saved.remove()
        return {path.name: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}

    whole = run()
    steps = faults.in_child(run).steps
    for eighth in range(
        1, 5
    ):  # how often it saves, and so the number of steps, is not always the same
        assert faults.in_child(run, eighth * steps // 8).killed
        assert run() == whole


def test_the_reference_is_not_registered_twice(config, monkeypatch):
    whole = uninterrupted(config)
    done = []
    real = reference.ReferenceProgress.add

    def add(progress, frames):
        done.append(progress.done)
        if len(done) == 2:
            raise KeyboardInterrupt
        real(progress, frames)

    monkeypatch.setattr(reference.ReferenceProgress, "add", add)
    with pytest.raises(KeyboardInterrupt):
        stage1.run_stage1(config)
    stage1.run_stage1(config)
    assert done == [0, 2, 2]
    assert helper.results(config) == whole


def stop_after(config, monkeypatch, chunks):
    with monkeypatch.context() as patch:
        interruption = Interruption(patch, KeyboardInterrupt())
        interruption.at(chunks)
        with pytest.raises(KeyboardInterrupt):
            stage1.run_stage1(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("settings", "of other settings"),
        ("input", "of other input"),
        ("software", "of other software"),
        ("libraries", "of other software"),
        ("resume", "resume is false"),
        ("record", "damaged"),
        ("frames", "shorter than they were"),
        ("library", "in another way"),
    ],
)
def test_what_cannot_be_used_is_refused(config, monkeypatch, caplog, change, message):
    caplog.set_level("INFO")
    stop_after(config, monkeypatch, 3)
    folder = recording_paths(config, "rec").checkpoint
    with monkeypatch.context() as patch:
        if change == "settings":
            config.flow_options = {**config.flow_options, "alpha": 3}
        elif change == "input":
            helper.save_tiff(config.root / "rec.tif", movie(wobble(9), (24, 32), 2))
        elif change == "software":
            patch.setattr(software, "__version__", "0.0.1")
            software.software_revision.cache_clear()
        elif change == "libraries":
            patch.setattr(software.h5py.version, "hdf5_version", "3.0.0")
            software.software_revision.cache_clear()
        elif change == "resume":
            config.resume = False
        elif change == "record":
            content = (folder / "record.npz").read_bytes()
            (folder / "record.npz").write_bytes(content[: len(content) // 2])
        elif change == "frames":
            os.truncate(folder / "compensated.hdf5", 3000)
        else:
            patch.setattr("pyflowreg.io.storage.Storage._is_present", lambda *values: False)
        stage1.run_stage1(config)
    software.software_revision.cache_clear()
    assert message in caplog.text
    made = helper.results(config)
    assert made == uninterrupted(config)


def test_other_libraries_of_a_backend(config, monkeypatch, caplog):
    """Frames of two versions of PyTorch do not belong together."""
    caplog.set_level("INFO")
    monkeypatch.setattr(stage1, "libraries_of", lambda backend: "torch 2.5")
    stop_after(config, monkeypatch, 3)
    monkeypatch.setattr(stage1, "libraries_of", lambda backend: "torch 2.6")
    stage1.run_stage1(config)
    assert "of other libraries" in caplog.text
    made = helper.results(config)
    assert made == uninterrupted(config)


def test_versions_of_libraries_are_known():
    assert software.libraries_of("flowreg") == ""
    cv2 = pytest.importorskip("cv2")
    assert software.libraries_of("diso") == f"cv2 {cv2.__version__}"


@pytest.mark.usefixtures("without_extras")
def test_a_backend_that_is_missing_in_a_job_costs_nothing(config, monkeypatch):
    """What was done with other settings stays, whole or not."""
    stop_after(config, monkeypatch, 3)
    before = helper.results(config)
    other = config.model_copy()
    other.flow_backend = "flowreg_cuda"
    recording = discover_recordings(config)[0]
    with pytest.raises(BackendError, match="cupy is not installed"):
        stage1.compensate_session_recording(other, recording)
    assert helper.results(config) == before


def test_a_second_run_at_the_same_time_is_told(config, monkeypatch):
    monkeypatch.setattr(file_lock, "WAIT_HERE", 0.0)
    folder = recording_paths(config, "rec").checkpoint
    message = rf"rec is being worked on by process {os.getpid()} on .* Wait for the other"
    with folder_lock.FolderLock(folder, "It"), pytest.raises(OutputError, match=message):
        stage1.run_stage1(config)
    stage1.run_stage1(config)
    assert not folder.exists()


def test_without_locks_the_first_run_is_told(config, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(file_lock.fcntl, "flock", no_locks)
    folder = recording_paths(config, "rec").checkpoint
    with checkpoint.claimed(folder, {}, 1, "It") as first:
        first.save({})
        stage1.run_stage1(config)
        with pytest.raises(OutputError, match="taken over by another run"):
            first.save({})


def test_a_disk_without_hard_links(config, monkeypatch):
    def no_links(*arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    whole = uninterrupted(config)
    with monkeypatch.context() as patch:
        patch.setattr(stage1, "write_status", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage1.run_stage1(config)
    interruption = Interruption(monkeypatch, None)
    stage1.run_stage1(config)
    assert interruption.chunks == []
    assert helper.results(config) == whole


def test_published_files_that_snakemake_removes(config, monkeypatch):
    whole = uninterrupted(config)
    with monkeypatch.context() as patch:
        patch.setattr(stage1, "write_status", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage1.run_stage1(config)
    for path in recording_paths(config, "rec").folder.iterdir():
        if path.is_file():
            path.unlink()
    interruption = Interruption(monkeypatch, None)
    stage1.run_stage1(config)
    assert interruption.chunks == []
    assert helper.results(config) == whole


def test_leftovers_of_killed_runs_are_removed(config):
    paths = recording_paths(config, "rec")
    paths.folder.mkdir(parents=True)
    leftovers = [
        faults.abandoned(path)
        for path in (paths.compensated, paths.idx, paths.temporal_average, paths.status)
    ]
    stranger = paths.folder / ".compensated-notes.tmp.hdf5"
    stranger.touch()
    stage1.run_stage1(config)
    assert not any(path.exists() for path in leftovers)
    assert stranger.exists()


def test_nothing_is_kept_without_checkpoints(config, monkeypatch):
    config.checkpoint_seconds = 0
    stop_after(config, monkeypatch, 3)
    assert [name for name in helper.results(config) if "/inspect.json" not in name] == []


def test_nothing_is_left_of_a_recording_that_cannot_be_corrected(config, monkeypatch):
    def fail(*arguments, **settings):
        raise OutputError("no reference")

    monkeypatch.setattr("pyflowreg.motion_correction.correction.load_reference", fail)
    with pytest.raises(OutputError):
        stage1.run_stage1(config)
    assert not recording_paths(config, "rec").checkpoint.exists()
