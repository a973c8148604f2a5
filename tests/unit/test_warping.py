"""Shapes, types and messages of the warp."""

import numpy as np
import pytest

from pyflowreg.core.warping import (
    align_sequence,
    backward_valid_mask,
    compute_batch_valid_masks,
    imregister_binary,
    warp_frame,
)

STILL = np.zeros((6, 8, 2))


@pytest.mark.parametrize(("dtype", "result"), [("float32", "float32"), ("uint16", "float64")])
def test_type_of_a_warped_frame(dtype, result):
    frame = np.arange(96).reshape(6, 8, 2).astype(dtype)
    warped = warp_frame(frame, STILL, frame)
    assert warped.dtype == result
    np.testing.assert_array_equal(warped, frame)


def test_direction_of_the_displacement():
    """Positive u looks to the right, positive v looks down."""
    frame = np.zeros((6, 8, 1))
    frame[3, 5] = 1
    w = np.broadcast_to((2.0, 1.0), (6, 8, 2))
    warped = warp_frame(frame, w, np.zeros((6, 8, 1)))
    assert np.argwhere(warped[..., 0] == 1).tolist() == [[2, 3]]
    mask = imregister_binary(frame[..., 0], w[..., 0], w[..., 1])
    assert np.argwhere(mask).tolist() == [[2, 3]]
    valid = backward_valid_mask(w[..., 0], w[..., 1])
    assert valid[:5, :6].all()
    assert valid.sum() == 30


def test_linear_displacement_between_pixels():
    frame = np.arange(8.0) * np.ones((6, 1))
    w = np.broadcast_to((0.25, 0.0), (6, 8, 2))
    warped = warp_frame(frame[..., None], w, np.full((6, 8, 1), -1.0))[..., 0]
    np.testing.assert_allclose(warped[:, :-1], frame[:, :-1] + 0.25)
    assert (warped[:, -1] == -1).all()


def test_nan_in_a_displacement_is_outside():
    w = STILL.copy()
    w[2, 3, 0] = np.nan
    valid = backward_valid_mask(w[..., 0], w[..., 1])
    assert not valid[2, 3]
    assert valid.sum() == valid.size - 1
    warped = warp_frame(np.ones((6, 8, 1)), w, np.full((6, 8, 1), 5.0))
    assert warped[2, 3] == 5
    assert not imregister_binary(np.ones((6, 8)), w[..., 0], w[..., 1])[2, 3]
    assert compute_batch_valid_masks(w[None])[0, 2, 3] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: warp_frame(f, STILL[:5], f), r"displacement has shape \(5, 8, 2\)"),
        (lambda f: warp_frame(f, STILL, f[:5]), r"fill has shape \(5, 8, 1\)"),
        (lambda f: warp_frame(f, STILL, f, "spline"), "interpolation is 'spline'"),
        (lambda f: backward_valid_mask(f[..., 0], f[:5, :, 0]), r"v \(5, 8\)"),
        (lambda f: compute_batch_valid_masks(STILL), r"w has shape \(6, 8, 2\)"),
        (lambda f: imregister_binary(f[:5, :, 0], STILL[..., 0], STILL[..., 1]), "shape"),
        (lambda f: align_sequence(f[0], STILL, f), r"batch has shape \(8, 1\)"),
        (lambda f: align_sequence(f[None], STILL, f[:5]), "fill"),
        (lambda f: align_sequence(f[None], STILL[None], f), r"displacement has shape \(1, 6, 8"),
        (lambda f: align_sequence(f[None], STILL[..., 0], f), "displacement has shape"),
        (lambda f: align_sequence(f[None], STILL, f, n_workers=0), "n_workers is 0"),
        (lambda f: align_sequence(f[None], STILL, f, n_workers=-2), "n_workers is -2"),
        (lambda f: warp_frame(f, STILL * 1j, f), "displacement has dtype complex128"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((6, 8, 1)))


@pytest.mark.parametrize(("interpolation", "side"), [("cubic", 4), ("linear", 2), ("nearest", 1)])
def test_frames_smaller_than_the_kernel(interpolation, side):
    for shape in ((side, 9, 1), (9, side, 1)):
        frame = np.arange(9.0 * side).reshape(shape)
        w = np.zeros((*shape[:2], 2))
        np.testing.assert_array_equal(warp_frame(frame, w, frame, interpolation), frame)
    if side == 1:
        return
    for shape in ((side - 1, 9), (9, side - 1)):
        frame, w = np.zeros(shape), np.zeros((*shape, 2))
        message = f"{shape[0]} x {shape[1]} pixels; {interpolation} .* at least {side}"
        with pytest.raises(ValueError, match=message):
            warp_frame(frame[..., None], w, frame[..., None], interpolation)
        with pytest.raises(ValueError, match=message):
            align_sequence(frame[None], w, frame, interpolation)


@pytest.mark.parametrize("dtype", [">f4", ">f8", "float16", "longdouble", "int32", ">i2"])
def test_displacements_of_any_real_type(dtype):
    frame = np.random.default_rng(0).random((6, 8, 1))
    w = np.zeros((6, 8, 2))
    w[2:5, 3:6] = (2, -1)
    other = w.astype(dtype)
    np.testing.assert_array_equal(warp_frame(frame, other, frame), warp_frame(frame, w, frame))
    np.testing.assert_array_equal(
        compute_batch_valid_masks(other[None]), compute_batch_valid_masks(w[None])
    )
    u, v = other[..., 0], other[..., 1]
    valid = backward_valid_mask(u, v)
    np.testing.assert_array_equal(valid, backward_valid_mask(w[..., 0], w[..., 1]))
    np.testing.assert_array_equal(
        imregister_binary(frame[..., 0] > 0.5, u, v),
        imregister_binary(frame[..., 0] > 0.5, w[..., 0], w[..., 1]),
    )


def test_the_number_of_workers_changes_nothing():
    frames = np.random.default_rng(0).random((5, 6, 8))
    w = np.full((6, 8, 2), 0.3)
    expected = align_sequence(frames, w, frames[0])
    for workers in (1, 3, -1):
        np.testing.assert_array_equal(
            align_sequence(frames, w, frames[0], "cubic", workers), expected
        )


def test_nothing_given_is_changed():
    frames = np.arange(2 * 6 * 8, dtype=np.uint16).reshape(2, 6, 8)
    w = np.full((6, 8, 2), 0.5)
    reference = np.ones((6, 8))
    copies = [array.copy() for array in (frames, w, reference)]
    aligned = align_sequence(frames, w, reference)
    assert not np.shares_memory(aligned, frames)
    for array, copy in zip((frames, w, reference), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
