"""Smoothing, warping and description of recorded frames give the bits that the CPU's do."""

import numpy as np
import pytest
from cases import parameters
from closeness import assert_same, assert_same_frames
from scenes import movie, wobble

from pyflowreg.core.backend_registry import get_backend
from pyflowreg.core.backend_types import Corrects, LimitsChunks, RawChunk, Warps
from pyflowreg.core.frame_warp import warp_frames
from pyflowreg.motion_correction.preprocessing import Scale

TYPES = ("uint8", "int8", "uint16", "int16", "float32", "float64")


def recorded(dtype, channels=1, frames=7, size=(29, 37)):
    shown = movie(wobble(frames), size, channels, "float64", noise=0.02)
    if np.dtype(dtype).kind == "f":
        return shown.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(shown * 0.7 * min(info.max, 4000), max(info.min, 0), info.max).astype(dtype)


def fields(frames, size=(29, 37), dtype=np.float32):
    random = np.random.default_rng(1)
    return (3 * random.standard_normal((frames, *size, 2))).astype(dtype)


@pytest.mark.parametrize("stored", TYPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_warped_frames(cuda_backend, stored, dtype):
    frames, w = recorded(stored, 2, 3), fields(3)
    fill = recorded("float64", 2, 1)[0] * 100
    found = cuda_backend().warp_frames(frames, w, fill, dtype)
    assert_same_frames(found, warp_frames(frames, w, fill, dtype))


@pytest.mark.parametrize("dtype", ["int32", ">u2"])
def test_other_types_of_frames(cuda_backend, dtype):
    frames = recorded("uint16").astype(dtype)
    w, fill = fields(7, dtype=np.float64), frames[0]
    found = cuda_backend().warp_frames(frames, w, fill, "uint16")
    assert_same_frames(found, warp_frames(frames.astype("uint16"), w, fill, "uint16"))


def test_one_field_for_all_frames(cuda_backend):
    frames, w = recorded("uint16"), fields(1)[0]
    memory = 29 * 37 * 40
    found = cuda_backend(memory=memory).warp_frames(frames, w, frames[0], "uint16")
    expected = warp_frames(frames, w, frames[0], "uint16")
    assert_same_frames(found, expected)
    assert found.valid.shape == expected.valid.shape


@pytest.mark.parametrize("sides", [(4, 4), (4, 300), (257, 5)])
def test_sizes_of_warped_frames(cuda_backend, sides):
    frames, w = recorded("int16", 1, 2, sides), fields(2, sides)
    found = cuda_backend().warp_frames(frames, w, frames[0], "int16")
    assert_same_frames(found, warp_frames(frames, w, frames[0], "int16"))


def test_displacements_that_are_no_numbers_show_in_the_statistics(cuda_backend):
    frames, w = recorded("uint16", 1, 3), fields(3)
    w[1, 4, 5, 0] = np.nan
    found = cuda_backend().warp_frames(frames, w, frames[0], "uint16")
    assert_same_frames(found, warp_frames(frames, w, frames[0], "uint16"))
    assert np.isfinite(found.statistics).all(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("in_time", [0.1, 0.8])
@pytest.mark.parametrize(("stored", "precision"), [("uint16", "single"), ("float32", "double")])
def test_whole_chunk(cuda_backend, stored, precision, in_time, clip):
    frames = recorded(stored, 2)
    settings = parameters(precision=precision, min_level=1, iterations=6)
    sigma = np.array([(1, 1, in_time), (1.5, 0.7, 0.1)])
    scale = Scale(*(edge((0, 1, 2)).astype(float) for edge in (frames.min, frames.max)), clip)
    wanted = range(2, 6)
    smooth = scale.smoothed(frames, sigma, settings.dtype, wanted)
    uv = np.full((29, 37, 2), 0.3)
    reference = get_backend("flowreg").prepare(smooth[0], settings)
    w = reference.displacements(smooth, uv)
    expected = warp_frames(frames[2:6], w, frames[0], "uint16")
    chunk = RawChunk(frames, wanted, *scale.line, clip, sigma)
    for memory in (2**31, 2**20):  # the latter for a frame or two at a time
        plan = cuda_backend(memory=memory).prepare(smooth[0], settings)
        found, warped = plan.correct(chunk, uv, frames[0], "uint16")
        assert_same(found, w)
        assert_same_frames(warped, expected)


def test_offers_everything_a_backend_may(cuda_backend):
    backend = cuda_backend()
    assert isinstance(backend, Warps)
    assert isinstance(backend, LimitsChunks)
    assert isinstance(backend.prepare(np.zeros((16, 16, 1)), parameters()), Corrects)


def test_chunks_are_whole_rounds_of_the_multiprocessors(cuda_backend):
    backend, settings = cuda_backend(), parameters()
    assert backend.preferred_chunk(64, 64, 1, settings, 7) == 6  # there are two
    assert backend.preferred_chunk(64, 64, 1, settings, 1) == 1
