"""Whole recordings, against the original: reference, fields, frames, masks, statistics."""

import numpy as np
import pytest
from golden import load

from pyflowreg.motion_correction import OFOptions
from pyflowreg.motion_correction import correction as module
from pyflowreg.motion_correction.correction import RecordingCorrection

# Largest difference of a field (px), as observed between independent implementations; in the
# first recording rounding grows from batch to batch.
TOLERANCE = {"rec_g1": (5e-6, 5e-3), "rec_g2": (1e-7, 1e-6), "rec_g3_bigbuf": (1e-7, 1e-6)}
SETTINGS = ("alpha", "levels", "eta", "iterations", "update_lag", "a_data", "a_smooth", "min_level")


class InMemory:
    def __init__(self, frames):
        self._frames = frames
        self.path = "in memory"
        self.shape = frames.shape
        self.dtype = frames.dtype

    def read(self, start, stop):
        return self._frames[start:stop].copy()


def options_of(data, **others):
    return OFOptions(
        **{name: data[name].item() for name in SETTINGS},
        buffer_size=int(data["buffer_size"]),
        reference_frames=[int(n) - 1 for n in data["reference_frame_numbers_1based"]],
        sigma=data["sigma"],
        channel_normalization=str(data["channel_normalization"]),
        weight=data["weight"],
        update_initialization_w=bool(data["update_initialization_w"]),
        update_reference=bool(data["update_reference"]),
        **others,
    )


def corrected(data, threads=1, **others):
    frames = np.ascontiguousarray(np.moveaxis(data["data"], -1, 0))
    correction = RecordingCorrection(InMemory(frames), options_of(data, **others), threads=threads)
    chunks = list(correction.chunks())
    joined = {
        name: np.concatenate([getattr(chunk, name) for chunk in chunks])
        for name in ("frames", "w", "valid", "statistics")
    }
    return correction.reference, joined


@pytest.mark.parametrize("name", TOLERANCE)
def test_matlab_double_is_the_original(name):
    data = load(name)
    reference, result = corrected(data, numerics="matlab", precision="double")
    saved = data["frames_saved_0based"]
    mean, largest = TOLERANCE[name]
    np.testing.assert_allclose(reference, data["reference"], rtol=1e-10)
    error = np.abs(result["w"][saved] - np.moveaxis(data["w"], -1, 0))
    assert error.mean() <= mean
    assert error.max() <= largest
    frames = np.moveaxis(data["compensated"], -1, 0)
    steepest = np.abs(np.gradient(data["data"].astype(float), axis=(0, 1))).max()
    assert np.abs(result["frames"][saved] - frames).max() <= 1e-4 + 4 * steepest * largest
    np.testing.assert_array_equal(result["valid"][saved] > 0, np.moveaxis(data["valid"], -1, 0))
    for column, key in enumerate(("mean_disp", "max_disp", "mean_div", "mean_translation")):
        np.testing.assert_allclose(result["statistics"][:, column], data[key], atol=largest)


@pytest.mark.parametrize("numerics", ["standard", "matlab"])
@pytest.mark.parametrize("name", TOLERANCE)
def test_chunks_and_threads_change_nothing(name, numerics, monkeypatch):
    data = load(name)
    reference, result = corrected(data, numerics=numerics)
    monkeypatch.setattr(module, "chunk_length", lambda *shape: 5)
    other_reference, other = corrected(data, threads=2, numerics=numerics)
    np.testing.assert_array_equal(reference, other_reference)
    for key, expected in result.items():
        np.testing.assert_array_equal(other[key], expected)
