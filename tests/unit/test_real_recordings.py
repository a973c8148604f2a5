"""Real recordings, if they lie beside the repository."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pyflowreg.io import natural_key, open_reader
from pyflowreg.motion_correction import OFOptions
from pyflowreg.motion_correction.compensate import correct_recording
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the real recordings beside the repository (../shared/data)"
)


def crispness(image):
    """Norm of the gradient of an average, without the noise of its pixels: larger is sharper."""
    y, x = np.gradient(gaussian_filter(image[..., 0].astype(float), 1.5)[16:-16, 16:-16])
    return float(np.sqrt((x**2 + y**2).sum()))


def test_three_trials_as_a_session_of_folders(tmp_path):
    """Part of each frame, at half the number of frames."""
    for trial in ("trial1", "trial2", "trial3"):
        source = DATA / "mushroom_body_3trials" / trial
        (tmp_path / trial).mkdir()
        files = sorted(source.glob("*.tif"), key=lambda path: natural_key(path.name))
        for file in files[:24]:
            frame = tifffile.imread(file)[40:200, 60:260]
            tifffile.imwrite(tmp_path / trial / file.name, frame)
    config = SessionConfig(
        root=tmp_path,
        pattern="trial*",
        center="trial2",
        flow_options={"quality_setting": "fast"},
    )
    folders = run_stage1(config)
    middle, centre, fields = run_stage2(config)
    mask = run_stage3(config, middle, fields)
    assert (middle, centre) == (1, tmp_path / "trial2")
    # trial1 -> 2 (0.4, -1.1) px and 1 -> 3 (0.4, -1.6) px by phase correlation.
    moved = [np.median(w[20:-20, 20:-20], axis=(0, 1)) for w in fields]
    assert np.hypot(*moved[0]) < 3
    assert np.hypot(*moved[2]) < 3
    assert mask.mean() > 0.8
    reference = np.load(folders[1] / "temporal_average.npy")[20:-20, 20:-20]
    for k, folder in enumerate(folders):
        with open_reader(tmp_path / folder.name) as reader:
            raw = reader.read(0, 24)
        average = np.load(folder / "temporal_average.npy")
        assert crispness(average) > crispness(raw.mean(axis=0))
        with open_reader(tmp_path / "final_results" / f"aligned_{folder.name}.tif") as reader:
            aligned = reader.read(0, 24)
        assert aligned.dtype == np.uint16
        assert aligned.shape == raw.shape

        def likeness(image):
            return np.corrcoef(image[20:-20, 20:-20].ravel(), reference.ravel())[0, 1]

        if k != middle:
            assert likeness(aligned.mean(axis=0)) > likeness(average) - 0.005


def test_one_movie_through_hdf5_and_tiff(tmp_path):
    folder = DATA / "optinist_mouse2p"
    tiff = folder / "setup_conda_mouse2p_image.tiff"
    with open_reader(tiff) as reader:
        frames = reader.read(0, 30)
    part = tmp_path / "part.tif"
    tifffile.imwrite(part, frames[..., 0])
    import h5py

    with h5py.File(folder / "sample_hdf5.h5") as file, h5py.File(tmp_path / "part.h5", "w") as out:
        out["data/image"] = file["data/image"][:30]
    results = []
    for name, path, how in (
        ("tif", part, {}),
        ("h5", tmp_path / "part.h5", {"dataset": "data/image"}),
    ):
        options = OFOptions(
            input_file=path,
            input_options=how,
            output_path=tmp_path / name,
            output_format="HDF5",
            output_typename="input",
            quality_setting="fast",
            reference_frames="1:10",
        )
        results.append(correct_recording(options))
        with h5py.File(tmp_path / name / "compensated.hdf5") as file:
            results[-1] = (results[-1], file["ch1"][()])
    (first, video), (second, other) = results
    np.testing.assert_array_equal(video, other)
    np.testing.assert_array_equal(first.reference, second.reference)
    assert crispness(first.temporal_average) > crispness(frames.mean(axis=0))
