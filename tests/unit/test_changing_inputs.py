"""Recordings that change, or vanish, while they are corrected: told, and nothing is used."""

import os

import numpy as np
import pytest

from pyflowreg.errors import InputError, PyflowregError
from pyflowreg.motion_correction import recording_run
from pyflowreg.session import stage1_compensate as stage1
from pyflowreg.session.outputs import recording_paths

from . import checkpoints as helper
from .scenes import movie, save_tiff, wobble


@pytest.fixture(params=[1e-9, 0], ids=["checkpoints", "none"])
def config(request, tmp_path, monkeypatch):
    helper.small_chunks(monkeypatch)
    config = helper.session(tmp_path / "data")
    config.checkpoint_seconds = request.param
    return config


def during_the_run(monkeypatch, change, chunk=3):
    """Change something when the third chunk of frames has been computed."""
    real, seen = recording_run._Taker.hand_over, []

    def hand_over(taker, found, *threads):
        seen.append(found.start)
        if len(seen) == chunk:
            change()
        real(taker, found, *threads)

    monkeypatch.setattr(recording_run._Taker, "hand_over", hand_over)
    return seen


def appended(path):
    with path.open("ab") as file:
        file.write(b"more")


def touched(path):
    os.utime(path)


def replaced(path):
    path.unlink()
    save_tiff(path, movie(wobble(helper.FRAMES, seed=5), (24, 32)))


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


CHANGES = [appended, touched, replaced, truncated]


def published(config):
    return [path.name for path in recording_paths(config, "rec").folder.glob("[!.]*")]


@pytest.mark.parametrize("change", CHANGES)
def test_a_recording_that_changes(config, monkeypatch, change):
    path = config.root / "rec.tif"
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        during_the_run(patch, lambda: change(path))
        with pytest.raises(InputError) as caught:
            stage1.run_stage1(config)
    assert str(path) in str(caught.value)
    if change is not truncated:  # which may be noticed by the reader, before
        assert "was changed while rec was corrected" in str(caught.value)
        assert "Run again when no program writes to it any more" in str(caught.value)
    assert published(config) == ["inspect.json"]
    if change is truncated:
        path.write_bytes(content)
    stage1.run_stage1(config)
    made = helper.results(config)
    helper.forget(config)
    stage1.run_stage1(config)
    assert helper.results(config) == made


def test_a_reference_image_that_changes(config, monkeypatch):
    image = config.root / "reference.npy"
    np.save(image, movie([(0, 0)], (24, 32))[0])
    config.flow_options = {**config.flow_options, "reference_frames": str(image)}
    with monkeypatch.context() as patch:
        during_the_run(patch, lambda: np.save(image, movie([(1, 0)], (24, 32))[0]))
        with pytest.raises(InputError, match=r"reference\.npy was changed while rec was corrected"):
            stage1.run_stage1(config)
    assert published(config) == ["inspect.json"]
    stage1.run_stage1(config)


def test_a_recording_that_vanishes_and_comes_back(config, monkeypatch):
    """As on a network disk that is away for a while: what is done is not lost."""
    path, away = config.root / "rec.tif", config.root / "away"
    with monkeypatch.context() as patch:
        during_the_run(patch, lambda: path.rename(away))
        with pytest.raises(InputError, match=r"rec\.tif cannot be found any more .*put it back"):
            stage1.run_stage1(config)
    assert published(config) == ["inspect.json"]
    away.rename(path)
    seen = during_the_run(monkeypatch, lambda: None)
    stage1.run_stage1(config)
    assert (0 in seen) == (config.checkpoint_seconds == 0)
    made = helper.results(config)
    helper.forget(config)
    stage1.run_stage1(config)
    assert helper.results(config) == made


def test_a_recording_that_vanishes_before_it_is_its_turn(config):
    recording = stage1.Recording("rec", config.root / "rec.tif")
    recording.path.unlink()
    with pytest.raises(PyflowregError, match=r"rec\.tif cannot be found any more"):
        stage1.compensate_session_recording(config, recording)
    assert helper.results(config) == {}


def test_a_folder_of_files_that_grows(tmp_path, monkeypatch):
    helper.small_chunks(monkeypatch)
    config = helper.session(tmp_path / "data")
    frames = movie(wobble(helper.FRAMES), (24, 32))
    for number, frame in enumerate(frames):
        save_tiff(config.root / "series" / f"frame_{number:03d}.tif", frame[None])
    config.pattern = "series"
    more = config.root / "series" / "frame_100.tif"
    with monkeypatch.context() as patch:
        during_the_run(patch, lambda: save_tiff(more, frames[:1]))
        with pytest.raises(InputError, match="series was changed while series was corrected"):
            stage1.run_stage1(config)
    (folder,) = stage1.run_stage1(config)
    assert stage1.load_status(folder / "status.json")["frames"] == helper.FRAMES + 1
