from pathlib import Path

import pytest

from pyflowreg.session import SessionConfig, outputs


def test_relative_output_folders_lie_in_root():
    config = SessionConfig(root="/data", output_root="out", final_results="/elsewhere")
    paths = outputs.session_paths(config)
    assert paths.recording("a b").compensated == Path("/data/out/a b/compensated.hdf5")
    assert paths.final_npz == Path("/elsewhere/final_valid_idx.npz")


def test_every_file_of_a_recording():
    files = outputs.recording_paths(SessionConfig(root="r"), "{recording}")
    assert {path.name for path in (files.idx, files.temporal_average, files.statistics)} == {
        "idx.hdf",
        "temporal_average.npy",
        "statistics.npz",
    }
    assert files.displacements == Path("r/compensated_outputs/{recording}/w.h5")
    assert files.w_to_reference.name == "w_to_reference.npz"
    assert files.reference_frame.name == "reference_frame.npy"
    assert files.status == Path("r/compensated_outputs/{recording}/status.json")
    assert files.valid_png == Path("r/final_results/{recording}_valid_idx.png")
    assert files.aligned_valid_png == Path("r/final_results/{recording}_valid_idx_aligned.png")


@pytest.mark.parametrize(("kind", "suffix"), [("TIFF", "tif"), ("HDF5", "hdf5")])
def test_aligned_recordings_by_format(kind, suffix):
    config = SessionConfig(root="r", align_output_format=kind)
    assert outputs.recording_paths(config, "a.b").aligned == Path(
        f"r/final_results/aligned_a.b.{suffix}"
    )


@pytest.mark.parametrize(
    ("find", "ours", "theirs"),
    [
        (outputs.find_compensated, "compensated.hdf5", "compensated.HDF5"),
        (outputs.find_idx, "idx.hdf", "idx.hdf5"),
        (outputs.find_displacements, "w.h5", "w.hdf"),
    ],
)
def test_names_of_the_toolbox_are_found(tmp_path, find, ours, theirs):
    assert find(tmp_path) is None
    (tmp_path / theirs).touch()
    assert find(tmp_path) == tmp_path / theirs
    (tmp_path / ours).touch()
    assert find(tmp_path) == tmp_path / ours
