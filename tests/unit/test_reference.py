"""The reference of a recording: made from its frames, or given."""

import logging

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction.reference import as_reference, read_reference_image

from .scenes import interior, movie, save_tiff, seen, wobble

BOTH = pytest.mark.parametrize("numerics", ["standard", "matlab"])


@BOTH
def test_one_frame(correct, numerics):
    raw = movie(wobble(4))
    for value in (2, [2]):
        result = correct(raw, reference_frames=value, numerics=numerics)
        np.testing.assert_array_equal(result.reference, raw[2])
        assert np.abs(interior(result.w[2])).mean() < 0.1


def test_several_frames_are_registered_first(correct):
    raw = movie(wobble(10), noise=0.05)
    result = correct(raw, reference_frames=list(range(10)))
    still = seen(40, 48)
    assert result.reference.shape == (40, 48, 1)

    def likeness(image):
        return np.corrcoef(image[8:-8, 8:-8].ravel(), still[8:-8, 8:-8].ravel())[0, 1]

    # Sharper than the blurred mean, and less noisy than a single frame.
    assert likeness(result.reference[..., 0]) > likeness(raw.mean(axis=0)[..., 0])
    assert likeness(result.reference[..., 0]) > likeness(raw[0, ..., 0])


def test_the_reference_lies_in_the_middle_of_the_motion(correct):
    """Its frames were all taken at one end; the mean displacement is about zero all the same."""
    shifts = np.concatenate([np.full((3, 2), 2.0), np.full((9, 2), -1.0)])
    raw = movie(shifts, (48, 56))
    w = correct(raw, reference_frames=[0, 1, 2], numerics="standard").w
    assert np.abs(interior(w).mean(axis=(0, 1, 2))).max() < 0.3
    w = correct(raw, reference_frames=[0, 1, 2], numerics="matlab").w
    assert np.abs(interior(w).mean(axis=(0, 1, 2))).max() > 1.5


@BOTH
def test_the_range_of_the_toolbox(correct, numerics):
    raw = movie(wobble(6))
    by_range = correct(raw, reference_frames="2:4", numerics=numerics)
    by_list = correct(raw, reference_frames=[1, 2, 3], numerics=numerics)
    np.testing.assert_array_equal(by_range.reference, by_list.reference)


def test_frames_beyond_the_recording(correct, caplog):
    raw = movie(wobble(6))
    with caplog.at_level(logging.WARNING):
        clamped = correct(raw, reference_frames="5:500")
    assert "reaches beyond the recording's 6 frames; the 2 that exist are used" in caplog.text
    expected = correct(raw, reference_frames=[4, 5])
    np.testing.assert_array_equal(clamped.reference, expected.reference)
    everything = correct(raw, reference_frames="50:500")
    np.testing.assert_array_equal(
        everything.reference, correct(raw, reference_frames=range(6)).reference
    )
    with pytest.raises(ConfigError, match=r"reference_frames: .* beyond the recording's 6 frames"):
        correct(raw, reference_frames="5:500", numerics="matlab")


def test_frames_are_counted_after_binning(correct):
    raw = np.repeat(movie(wobble(3)), 2, axis=0)
    result = correct(raw, bin_size=2, reference_frames=2)
    np.testing.assert_array_equal(result.reference, raw[4])


@BOTH
@pytest.mark.parametrize("channels", [1, 2])
def test_an_array_is_taken_as_it_is(correct, numerics, channels):
    raw = movie(wobble(4), channels=channels)
    image = raw[1].astype(float)
    result = correct(raw, reference_frames=image, numerics=numerics)
    np.testing.assert_array_equal(result.reference, image)
    if channels == 1:
        flat = correct(raw, reference_frames=image[..., 0], numerics=numerics)
        np.testing.assert_array_equal(flat.w, result.w)


@pytest.mark.parametrize("kind", ["npy", "tif", "tif with channels first", "png"])
def test_an_image_file(correct, tmp_path, kind):
    channels = 2 if "first" in kind else 1
    raw = movie(wobble(4), channels=channels)
    image = raw[1] if channels > 1 else raw[1, ..., 0]
    path = tmp_path / f"reference.{kind[:3]}"
    if kind == "npy":
        np.save(path, image)
    elif kind == "png":
        imsave(path, image, check_contrast=False)
    else:
        tifffile.imwrite(path, np.moveaxis(image, -1, 0) if channels > 1 else image)
    result = correct(raw, reference_frames=path)
    given = correct(raw, reference=image)
    np.testing.assert_array_equal(result.w, given.w)
    assert np.abs(interior(result.w[1])).mean() < 0.1


@pytest.mark.parametrize("normalization", ["joint", "separate"])
def test_an_external_reference_may_have_another_scale(correct, normalization):
    raw = movie(wobble(4), channels=2)
    image = raw[1] * np.array([20.0, 0.01]) + np.array([5e4, -3])
    options = {"channel_normalization": normalization, "precision": "double"}
    result = correct(raw, reference=image, **options)
    same = correct(raw, reference=raw[1], **options)
    np.testing.assert_allclose(result.w, same.w, atol=1e-3)
    # It fills what lies outside, so it is in the recording's intensities.
    np.testing.assert_allclose(
        result.reference.mean(axis=(0, 1)), raw.mean(axis=(0, 1, 2)), rtol=0.1
    )


def test_the_original_adapts_the_last_channel_only(correct):
    raw = movie(wobble(4), channels=2)
    image = raw[1] * 3.0
    result = correct(raw, reference=image, numerics="matlab")
    np.testing.assert_array_equal(result.reference[..., 0], image[..., 0])
    assert abs(result.reference[..., 1].mean() / raw[..., 1].mean() - 1) < 0.1


@BOTH
def test_a_constant_external_reference(correct, numerics):
    result = correct(movie(wobble(3)), reference=np.full((40, 48), 5.0), numerics=numerics)
    assert np.isfinite(result.w).all()
    assert np.isfinite(result.frames).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 6)), r"has shape \(5, 6, 1\), the recording's frames \(40, 48, 1\)"),
        (np.zeros((40, 48, 2)), r"shape \(40, 48, 2\)"),
        (np.full((40, 48), np.nan), "contains NaN"),
    ],
)
def test_an_image_that_does_not_fit(correct, tmp_path, image, message):
    raw = movie(wobble(3))
    with pytest.raises(ConfigError, match=message):
        correct(raw, reference=image)
    np.save(tmp_path / "r.npy", image)
    with pytest.raises(ConfigError, match=message):
        correct(raw, reference_frames=tmp_path / "r.npy")


def test_an_image_that_cannot_be_read(correct, tmp_path):
    path = tmp_path / "r.tif"
    path.write_text("no image")
    with pytest.raises(ConfigError, match=r"r\.tif cannot be read"):
        correct(movie(wobble(3)), reference_frames=path)
    np.save(tmp_path / "r.npy", np.array([{}], dtype=object))
    with pytest.raises(ConfigError, match=r"r\.npy cannot be read"):
        correct(movie(wobble(3)), reference_frames=tmp_path / "r.npy")


@pytest.mark.parametrize(
    ("kind", "kept"),
    # Bytes kept of a file: none, a piece of the header, all but the end.
    [("npy", 0), ("npy", 40), ("npy", -9), ("png", 0), ("png", 30), ("tif", 0), ("tif", 6)],
)
def test_an_image_that_is_cut_short(tmp_path, kind, kept):
    path = tmp_path / f"r.{kind}"
    image = np.arange(1920, dtype=np.uint16).reshape(40, 48)
    if kind == "npy":
        np.save(path, image)
    else:
        imsave(path, image, check_contrast=False)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=rf"the reference image .*r\.{kind} cannot be read.*: \w"):
        read_reference_image(path, (40, 48, 1))


def test_a_damaged_image(tmp_path):
    path = tmp_path / "r.png"
    imsave(path, np.arange(1920, dtype=np.uint16).reshape(40, 48), check_contrast=False)
    data = bytearray(path.read_bytes())
    data[14:30] = bytes(16)  # size and checksum of the header
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"r\.png cannot be read"):
        read_reference_image(path, (40, 48, 1))
    path = tmp_path / "r.tif"
    tifffile.imwrite(path, np.arange(1920, dtype=np.uint16).reshape(40, 48), compression="zlib")
    data = bytearray(path.read_bytes())
    data[-60:] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"r\.tif: .* cannot be decoded"):
        read_reference_image(path, (40, 48, 1))


@pytest.mark.parametrize("dtype", ["complex64", "U5", "S5", "datetime64[s]", "V8"])
def test_an_array_that_is_no_image(tmp_path, dtype):
    image = np.zeros((40, 48), dtype)
    np.save(tmp_path / "r.npy", image)
    with pytest.raises(ConfigError, match=r"r\.npy has dtype .*; give an image of real numbers"):
        read_reference_image(tmp_path / "r.npy", (40, 48, 1))
    with pytest.raises(ConfigError, match="given as an array has dtype"):
        as_reference(image, (40, 48, 1), "given as an array")


def test_the_reference_may_be_a_frame_of_another_recording(correct, tmp_path):
    """`reference_frame.npy` of one run serves the next."""
    shifts = wobble(4)
    first = correct(movie(shifts, seed=3))
    raw = movie(shifts + np.array([2, 1]), seed=3)
    path = save_tiff(tmp_path / "second" / "rec.tif", raw)
    second = correct(path, reference_frames=first.folder / "reference_frame.npy")
    difference = interior(second.w - first.w).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(difference, (-2, -1), atol=0.1)
