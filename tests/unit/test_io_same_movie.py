"""The same real recording through different files gives identical frames."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from pyflowreg.io import natural_key, open_reader

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the real recordings beside the repository (../shared/data)"
)


def frames(path, options=None, stop=None):
    with open_reader(path, options) as reader:
        return reader.read(0, reader.shape[0] if stop is None else stop)


def test_hdf5_tiff_and_folder(tmp_path):
    folder = DATA / "optinist_mouse2p"
    from_hdf5 = frames(folder / "sample_hdf5.h5", stop=200)
    from_tiff = frames(folder / "setup_conda_mouse2p_image.tiff")
    for k, frame in enumerate(from_tiff[:30, ..., 0]):
        tifffile.imwrite(tmp_path / f"frame{k}.tif", frame)
    assert from_hdf5.shape == (200, 128, 128, 1)
    assert from_hdf5.dtype == from_tiff.dtype == np.uint16
    np.testing.assert_array_equal(from_hdf5, from_tiff)
    np.testing.assert_array_equal(from_tiff[:30], frames(tmp_path))


def test_hdf5_with_time_last():
    folder = DATA / "sima_ca1"
    from_hdf5 = frames(folder / "example.h5", {"axes": "YXT"})
    np.testing.assert_array_equal(from_hdf5, frames(folder / "example.tif"))
    assert from_hdf5.shape == (20, 128, 256, 1)


def test_folder_of_single_pages():
    trial = DATA / "mushroom_body_3trials" / "trial1"
    read = frames(trial)
    assert read.shape == (53, 260, 348, 1)
    assert read.dtype == np.uint16
    files = sorted(trial.glob("*.tif"), key=lambda file: natural_key(file.name))
    for k in (0, 9, 10, 52):
        with tifffile.TiffFile(files[k]) as tif:
            np.testing.assert_array_equal(read[k, ..., 0], tif.pages[0].asarray())
