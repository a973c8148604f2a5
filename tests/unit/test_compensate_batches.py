"""Batches, bins, chunks and threads of a motion correction."""

import weakref
from pathlib import Path

import numpy as np
import pytest

from pyflowreg.motion_correction import OFOptions, corrected, correction
from pyflowreg.motion_correction.preprocessing import Scale

from .scenes import movie, remaining, scatter, wobble

BOTH = pytest.mark.parametrize("numerics", ["standard", "matlab"])


@BOTH
@pytest.mark.parametrize("options", [{}, {"update_reference": True, "cc_initialization": True}])
def test_chunks_and_threads_change_nothing(correct, monkeypatch, numerics, options):
    raw = movie(wobble(11), (24, 28), channels=2)
    how = {"numerics": numerics, "buffer_size": 6, "sigma": [1, 1, 0.8], **options}
    expected = correct(raw, threads=1, **how)
    for threads, chunk in ((2, 3), (3, 4)):
        monkeypatch.setattr(correction, "chunk_length", lambda *size, n=chunk: n)
        result = correct(raw, threads=threads, **how)
        for name in ("frames", "w", "valid", "reference"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
        for name, values in expected.statistics.items():
            np.testing.assert_array_equal(result.statistics[name], values)


@BOTH
@pytest.mark.parametrize("buffer_size", [1, 3, 5, 7, 400])
def test_batches_of_any_size(correct, numerics, buffer_size):
    shifts = wobble(7)
    raw = movie(shifts)
    result = correct(raw, numerics=numerics, buffer_size=buffer_size)
    assert len(result.frames) == 7
    if buffer_size > 1 or numerics == "standard":
        # A batch of one frame is scaled by that frame alone in the matlab profile.
        assert remaining(result, shifts) < 0.15


def test_without_propagation_batches_are_independent(correct):
    raw = movie(wobble(6))
    options = {"update_initialization_w": False, "reference_frames": 0}
    whole = correct(raw, **options).w
    np.testing.assert_array_equal(correct(raw, buffer_size=2, **options).w, whole)
    assert (correct(raw, buffer_size=2, reference_frames=0).w != whole).any()


class NumberedFields:
    """A backend whose k-th field of a batch is k everywhere; it remembers what it started from."""

    def __init__(self):
        self.starts = []

    def prepare(self, fixed, parameters):
        return self

    def displacements(self, moving, uv=None, threads=1):
        self.starts.append(None if uv is None else float(uv[0, 0, 0]))
        # Frames hold their own number.
        return np.broadcast_to(moving[:, :1, :1, :1], (*moving.shape[:3], 2)).astype(float)


@pytest.mark.parametrize(
    ("count", "buffer_size", "expected"),
    [
        # The first batch starts from the mean field of the first 22 frames, the others from that
        # of the batch before: of all its fields, or of the last 21 if it has more than 100.
        (30, 30, [10.5]),
        (5, 400, [2]),
        (206, 100, [10.5, 49.5, 149.5]),
        (206, 101, [10.5, 90, 191]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 30, 1000])
def test_what_a_batch_starts_from(monkeypatch, count, buffer_size, expected, chunk):
    monkeypatch.setattr(correction, "chunk_length", lambda *size: chunk)
    backend = NumberedFields()
    monkeypatch.setattr(correction, "get_backend", lambda *args: backend)
    monkeypatch.setattr(correction, "reference_scale", lambda *a, **k: Scale(*np.array([[0], [1]])))

    class Numbered:
        path, shape, dtype = Path("rec.tif"), (count, 8, 8, 1), np.dtype("float32")

        def read(self, start, stop):
            numbers = np.arange(start, stop, dtype="float32")
            return np.broadcast_to(numbers[:, None, None, None], (stop - start, 8, 8, 1)).copy()

    options = OFOptions(buffer_size=buffer_size, reference_frames=0)
    chunks = list(correction.RecordingCorrection(Numbered(), options).chunks())
    assert sum(len(chunk.frames) for chunk in chunks) == count
    starts = [start for start in backend.starts if start is not None]
    np.testing.assert_allclose(sorted(set(starts)), expected, atol=1e-3)


def test_the_updated_reference_is_used_by_later_batches(correct):
    raw = movie(wobble(8, 1.0), noise=0.02)
    options = {"reference_frames": 0, "buffer_size": 4}
    fixed = correct(raw, **options)
    updated = correct(raw, update_reference=True, **options)
    np.testing.assert_array_equal(fixed.w[:4], updated.w[:4])
    assert (fixed.w[4:] != updated.w[4:]).any()
    assert scatter(updated.frames) < 0.5 * scatter(raw)


@BOTH
@pytest.mark.parametrize(("count", "bins"), [(9, {"standard": 3, "matlab": 3}), (10, None)])
def test_binned_frames(correct, numerics, count, bins):
    raw = movie(np.repeat(wobble(5), 3, axis=0)[:count])
    result = correct(raw, numerics=numerics, bin_size=3, output_typename="input")
    expected = 3 if count == 9 or numerics == "matlab" else 4
    assert len(result.frames) == len(result.w) == len(result.valid) == expected
    assert len(result.statistics["mean_disp"]) == expected
    assert result.frames.dtype == np.uint16
    assert scatter(result.frames) < 0.3 * scatter(raw[: 3 * expected])


@pytest.mark.parametrize("buffer_size", [2, 400])
def test_few_chunks_are_in_memory(correct, monkeypatch, buffer_size):
    gone, most = [], []
    made = corrected.CorrectedChunk

    def remembered(*args):
        chunk = made(*args)
        weakref.finalize(chunk, gone.append, None)
        most.append(len(most) + 1 - len(gone))
        return chunk

    monkeypatch.setattr(correction, "chunk_length", lambda *size: 2)
    monkeypatch.setattr(corrected, "CorrectedChunk", remembered)
    correct(movie(wobble(24)), reference_frames=0, buffer_size=buffer_size, quality_setting="fast")
    assert len(most) == 12
    # The one just made, the one it replaces in the loop, and one being written.
    assert max(most) <= 3
