"""Binning, batches and chunks of frames."""

from pathlib import Path

import numpy as np
import pytest

from pyflowreg.core.numerics import PROFILES
from pyflowreg.errors import ConfigError, InputError
from pyflowreg.motion_correction import frames as frames_module
from pyflowreg.motion_correction.chunks import chunk_length
from pyflowreg.motion_correction.frames import BinnedFrames, FrameRange


class InMemory:
    def __init__(self, values, dtype="float64"):
        self._frames = np.broadcast_to(
            np.asarray(values, dtype)[:, None, None, None], (len(values), 2, 3, 1)
        )
        self.path = Path("movie.tif")
        self.shape = self._frames.shape
        self.dtype = self._frames.dtype

    def read(self, start, stop):
        assert 0 <= start < stop <= self.shape[0]
        return self._frames[start:stop].copy()


def binned(values, bin_size, buffer_size=400, numerics="standard", dtype="float64"):
    reader = InMemory(values, dtype)
    frames = BinnedFrames(reader, bin_size, buffer_size, PROFILES[numerics])
    result = frames.read(0, frames.shape[0])
    assert result.dtype == dtype
    assert result.shape == frames.shape
    return result[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("numerics", "frames", "expected"),
    [
        ("standard", 6, [1, 4]),
        ("standard", 7, [1, 4, 6]),
        ("standard", 8, [1, 4, 6.5]),
        # The original: centres 1, 4, 7, ...; a last bin of one frame of three is not reached, one
        # of two is divided by three all the same.
        ("matlab", 6, [1, 4]),
        ("matlab", 7, [1, 4]),
        ("matlab", 8, [1, 4, 13 / 3]),
    ],
)
def test_bins_of_three(numerics, frames, expected):
    np.testing.assert_allclose(binned(range(frames), 3, numerics=numerics), expected)


@pytest.mark.parametrize(("numerics", "frames"), [("standard", 3), ("matlab", 4)])
def test_bins_that_leave_no_movie(numerics, frames):
    with pytest.raises(ConfigError, match=f"bin_size: 3 leaves 1 of the {frames} frames of movie"):
        binned(range(frames), 3, numerics=numerics)


@pytest.mark.parametrize("numerics", ["standard", "matlab"])
def test_batches_do_not_share_a_bin(numerics):
    # Two bins of two frames are a batch; the third batch has one frame.
    assert binned(range(9), 2, buffer_size=2, numerics=numerics) == [0.5, 2.5, 4.5, 6.5, 8]


def test_integers_are_rounded():
    assert binned([1, 2, 4, 4], 2, dtype="uint16") == [2, 4]
    assert binned([-1, -2, 4, 5], 2, dtype="int16") == [-2, 5]


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("numerics", ["standard", "matlab"])
def test_a_long_bin_is_read_in_blocks(monkeypatch, numerics, dtype):
    values = (1000 * np.random.default_rng(0).random(35)).astype(dtype)
    expected = binned(values, 15, numerics=numerics, dtype=dtype)
    for block in (1, 4, 7):
        longest = []

        class Watched(InMemory):
            def read(self, start, stop, longest=longest):
                longest.append(stop - start)
                return super().read(start, stop)

        monkeypatch.setattr(frames_module, "chunk_length", lambda *size, block=block: block)
        frames = BinnedFrames(Watched(values, dtype), 15, 400, PROFILES[numerics])
        assert frames.read(0, frames.shape[0])[:, 0, 0, 0].tolist() == expected
        assert max(longest) == block


def test_bins_of_one_frame_are_the_recording():
    assert binned(range(5), 1) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("bin_size", [1, 2])
def test_a_frame_that_is_not_finite_is_named(value, bin_size):
    frames = BinnedFrames(InMemory([0, 1, 2, value, 4]), bin_size, 400, PROFILES["standard"])
    with pytest.raises(InputError, match=r"movie.tif: frame 3 \(counted from 0\) contains NaN"):
        frames.read(0, frames.shape[0])
    assert frames.read(0, 1).shape == (1, 2, 3, 1)


def test_selected_frames_come_in_the_given_order():
    frames = BinnedFrames(InMemory(range(10)), 1, 400, PROFILES["standard"])
    chosen = FrameRange.selection(frames, [7, 2, 3, 4, 0, 0])
    assert chosen.read(0, 6)[:, 0, 0, 0].tolist() == [7, 2, 3, 4, 0, 0]
    assert chosen.read(2, 4)[:, 0, 0, 0].tolist() == [3, 4]


def test_chunks_see_their_neighbours_but_not_other_batches():
    frames = BinnedFrames(InMemory(range(10)), 1, 400, PROFILES["standard"])
    batch = FrameRange.batch(frames, 2, 9)
    found = [
        (start, before, block[:, 0, 0, 0].tolist()) for start, before, block in batch.chunks(3, 2)
    ]
    assert found == [
        (0, 0, [2, 3, 4, 5, 6]),
        (3, 2, [3, 4, 5, 6, 7, 8]),
        (6, 2, [6, 7, 8]),
    ]


def test_chunks_are_bounded():
    assert chunk_length(512, 512, 1) * 512 * 512 * 3 * 8 <= 2**25
    assert chunk_length(512, 512, 1, 3) == 3
    assert chunk_length(10**4, 10**4, 1, 16) == 16
    assert chunk_length(10**4, 10**4, 4) >= 1
