"""Backends that do more than the displacements of frames they are given."""

from dataclasses import replace

import numpy as np
import pytest

from pyflowreg.core import backend_entries
from pyflowreg.core.backend_registry import get_backend
from pyflowreg.core.frame_warp import warp_frames
from pyflowreg.errors import BackendError
from pyflowreg.motion_correction import correction
from pyflowreg.motion_correction.preprocessing import gaussian
from pyflowreg.session import SessionConfig, aligned_video
from pyflowreg.session.discovery import discover_recordings
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import align_recording, run_stage3

from .scenes import movie, save_session, wobble

SIGMA_T = [[1, 1, 0.6]]  # looks at frames before and after


class Wholly:
    """flowreg with every hook; it notes what it is asked for."""

    def __init__(self):
        self.inner = get_backend("flowreg")
        self.corrected, self.warped, self.asked = [], [], []

    def prepare(self, fixed, parameters):
        return WhollyPlan(self, self.inner.prepare(fixed, parameters), parameters.dtype)

    def preferred_chunk(self, height, width, channels, parameters, most):
        self.asked.append((height, width, channels, most))
        return 3

    def warp_frames(self, *args):
        self.warped.append(len(args[0]))
        return warp_frames(*args)


class WhollyPlan:
    def __init__(self, backend, inner, dtype):
        self.backend, self.inner, self.dtype = backend, inner, dtype
        self.displacements = inner.displacements

    def correct(self, chunk, uv, fill, dtype, threads=1):
        self.backend.corrected.append(len(chunk.wanted))
        scaled = chunk.frames * chunk.factor - chunk.offset
        scaled = np.clip(scaled, 0, 1) if chunk.clip else scaled
        wanted = slice(chunk.wanted.start, chunk.wanted.stop)
        smooth = gaussian(scaled.astype(self.dtype), chunk.sigma)[wanted]
        w = self.inner.displacements(smooth, uv, threads)
        return w, warp_frames(chunk.frames[wanted], w, fill, dtype, threads)


@pytest.fixture
def wholly(monkeypatch):
    backend = Wholly()
    monkeypatch.setattr(correction, "get_backend", lambda *args: backend)
    return backend


def test_chunks_corrected_by_the_backend(correct, wholly, monkeypatch):
    frames = movie(wobble(11))
    how = {"sigma": SIGMA_T, "buffer_size": 8}
    found = correct(frames, **how)
    assert wholly.corrected == [3, 3, 2, 3]
    assert wholly.asked[0][:3] == (40, 48, 1)
    assert not wholly.warped
    monkeypatch.undo()
    expected = correct(frames, **how)
    # The same but for the order in which a frame is scaled and smoothed.
    np.testing.assert_allclose(found.w, expected.w, atol=1e-4)
    np.testing.assert_array_equal(found.valid, expected.valid)
    assert np.abs(found.frames.astype(float) - expected.frames).max() <= 1


@pytest.mark.parametrize(
    "how",
    [
        {"numerics": "matlab"},
        {"update_reference": True},
        {"cc_initialization": True},
        {"preproc_funct": np.sqrt},
    ],
    ids=lambda how: next(iter(how)),
)
def test_what_the_backend_cannot_do_is_done_for_it(correct, wholly, monkeypatch, how):
    frames = movie(wobble(7))
    found = correct(frames, **how)
    assert not wholly.corrected
    assert sum(wholly.warped) == 7
    monkeypatch.undo()
    expected = correct(frames, **how)
    np.testing.assert_array_equal(found.w, expected.w)
    np.testing.assert_array_equal(found.frames, expected.frames)


def test_aligned_videos_are_warped_by_a_backend_that_can(tmp_path, monkeypatch):
    save_session(tmp_path, "abc", [(0, 0), (2, 1), (-1, 2)])
    config = SessionConfig(root=tmp_path, flow_options={"quality_setting": "fast"})
    run_stage1(config)
    run_stage2(config)
    backend = Wholly()
    entries = backend_entries.BACKENDS
    monkeypatch.setitem(entries, "flowreg", replace(entries["flowreg"], warps=True))
    monkeypatch.setattr(aligned_video, "get_backend", lambda *args: backend)
    run_stage3(config)
    assert sum(backend.warped) == 15
    videos = {path: path.read_bytes() for path in tmp_path.glob("final_results/aligned_*")}
    assert len(videos) == 3
    monkeypatch.undo()
    config.resume = False
    run_stage3(config)
    assert {path: path.read_bytes() for path in videos} == videos


@pytest.mark.usefixtures("without_extras")
def test_a_missing_backend_that_warps_is_told_before_stage_3_changes_anything(tmp_path):
    save_session(tmp_path, "ab", [(0, 0), (2, 1)])
    config = SessionConfig(root=tmp_path, flow_options={"quality_setting": "fast"})
    run_stage1(config)
    run_stage2(config)
    config.flow_backend = "flowreg_cuda"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    recording = discover_recordings(config)[0]
    for stage in (run_stage3, lambda config: align_recording(config, recording)):
        with pytest.raises(BackendError, match=r"cupy is not installed.*pip install"):
            stage(config)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
