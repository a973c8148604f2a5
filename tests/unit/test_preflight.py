import os

import numpy as np
import pytest
import tifffile

from pyflowreg.errors import ConfigError
from pyflowreg.session import SessionConfig
from pyflowreg.session.preflight import inspect_recording, preflight


def problems_of(config):
    with pytest.raises(ConfigError) as caught:
        preflight(config)
    return caught.value.problems


def movie(path, shape=(5, 12, 14), dtype="uint16"):
    tifffile.imwrite(path, np.zeros(shape, dtype), photometric="minisblack")
    return path


def test_a_good_session(tmp_path):
    for name in ("rec10.tif", "rec9.tif", "rec1.tif"):
        movie(tmp_path / name)
    session = preflight(SessionConfig(root=tmp_path))
    assert [recording.name for recording in session.recordings] == ["rec1", "rec9", "rec10"]
    assert session.centre == 1
    assert session.infos[0]["shape"] == [5, 12, 14, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rec1.tif", "rec10.tif", "rec9.tif"]


def test_inspect_recording(tmp_path):
    info = inspect_recording(movie(tmp_path / "a.tif", (6, 12, 14)), {"n_channels": 2})
    other = inspect_recording(tmp_path / "a.tif", {"n_channels": 3})
    assert info.pop("made_of") != other["made_of"]
    assert info == {
        "path": str(tmp_path / "a.tif"),
        "shape": [3, 12, 14, 2],
        "frames": 3,
        "height": 12,
        "width": 14,
        "channels": 2,
        "dtype": "uint16",
        "itemsize": 2,
        "bytes": 6 * 12 * 14 * 2,
    }


@pytest.mark.usefixtures("without_extras")
def test_all_problems_come_together(tmp_path):
    movie(tmp_path / "a.tif")
    movie(tmp_path / "b.tif", (5, 13, 14))
    movie(tmp_path / "one_frame.tif", (12, 14))
    (tmp_path / "broken.tif").write_bytes(movie(tmp_path / "c.tif").read_bytes()[:200])
    (tmp_path / "text.tif").write_text("not an image")
    (tmp_path / "taken").write_text("a file")
    config = SessionConfig(
        root=tmp_path,
        center="missing.tif",
        output_root="taken",
        final_results=".",
        flow_backend="flowreg_cuda",
        flow_options={"weight": np.ones((1, 3, 3)), "a_data": [0.4]},
    )
    text = "\n".join(problems_of(config))
    for expected in (
        "b.tif is 13 x 14 pixels with 1 channel(s), a.tif is 12 x 14 with 1",
        "one_frame.tif",
        "broken.tif",
        "text.tif",
        "center: 'missing.tif' is not among",
        "output_root: ",
        "final_results: ",
        "is root itself",
        "flow_backend flowreg_cuda is not available",
        "flow_options.weight: is 3 x 3 pixels",
    ):
        assert expected in text
    assert "c.tif is" not in text


def test_the_odd_one_out_is_named_also_if_it_is_the_middle_one(tmp_path):
    movie(tmp_path / "a.tif")
    two_channels = np.zeros((5, 2, 12, 14), np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", two_channels, imagej=True, metadata={"axes": "TCYX"})
    movie(tmp_path / "c.tif")
    (problem,) = problems_of(SessionConfig(root=tmp_path))
    assert problem.startswith("b.tif is 12 x 14 pixels with 2 channel(s)")


def test_reference_frames_beyond_a_recording(tmp_path):
    movie(tmp_path / "a.tif")
    config = SessionConfig(root=tmp_path, flow_options={"reference_frames": [0, 7]})
    preflight(config)
    config.numerics = "matlab"
    (problem,) = problems_of(config)
    assert problem.startswith("a.tif: flow_options.reference_frames: ")


@pytest.mark.usefixtures("without_extras")
def test_missing_root_comes_with_the_other_problems(tmp_path):
    config = SessionConfig(root=tmp_path / "x", flow_backend="flowreg_cuda")
    found = problems_of(config)
    assert len(found) == 2
    assert found[0].startswith("root: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_without_permission(tmp_path):
    movie(tmp_path / "a.tif")
    (tmp_path / "locked").mkdir(mode=0o500)
    (problem,) = problems_of(SessionConfig(root=tmp_path, output_root="locked/out"))
    assert "no permission" in problem


def test_results_never_land_on_a_recording(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    (out / "rec").mkdir(parents=True)
    data.mkdir()
    movie(out / "rec" / "p1.tif")
    (data / "rec").symlink_to(out / "rec")
    (problem,) = problems_of(SessionConfig(root=data, pattern="rec", output_root=out))
    assert "over what is read" in problem


def test_a_link_that_leads_nowhere_is_reported(tmp_path):
    movie(tmp_path / "a.tif")
    (tmp_path / "b.tif").symlink_to(tmp_path / "unmounted" / "b.tif")
    (problem,) = problems_of(SessionConfig(root=tmp_path))
    assert "b.tif" in problem


def test_recordings_too_small_for_the_optical_flow(tmp_path):
    movie(tmp_path / "a.tif", (5, 7, 14))
    (problem,) = problems_of(SessionConfig(root=tmp_path))
    assert "7 x 14" in problem
    assert "at least 8" in problem


@pytest.mark.parametrize("numerics", ["standard", "matlab"])
def test_bins_that_leave_no_movie(tmp_path, numerics):
    movie(tmp_path / "long.tif", (30, 12, 14))
    movie(tmp_path / "short.tif", (5, 12, 14))
    options = {"bin_size": 10, "reference_frames": [0]}
    config = SessionConfig(root=tmp_path, numerics=numerics, flow_options=options)
    (problem,) = problems_of(config)
    assert problem.startswith("short.tif: flow_options.bin_size: 10")


def test_a_reference_image_of_another_size(tmp_path):
    movie(tmp_path / "a.tif")
    np.save(tmp_path / "reference.npy", np.zeros((12, 15)))
    options = {"reference_frames": str(tmp_path / "reference.npy")}
    config = SessionConfig(root=tmp_path, flow_options=options)
    (problem,) = problems_of(config)
    assert "reference.npy" in problem
    assert "(12, 15, 1)" in problem
