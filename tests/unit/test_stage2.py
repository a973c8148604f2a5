"""Stage 2: displacements between temporal averages."""

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest

from pyflowreg.errors import BackendError, ConfigError, InputError
from pyflowreg.session import SessionConfig
from pyflowreg.session import stage2_between_avgs as stage2

from .scenes import interior, save_tiff, seen

SIZE = (64, 72)
BOTH = pytest.mark.parametrize("numerics", ["standard", "matlab"])


def average(dx=0.0, dy=0.0, channels=1, size=SIZE):
    return 100 + 500 * np.stack([seen(*size, dx, dy, 50 * c) for c in range(channels)], axis=-1)


@pytest.fixture
def session(tmp_path):
    """Session of which only the temporal averages are there."""

    def make(averages, **settings):
        config = SessionConfig(root=tmp_path / "data", **settings)
        for k, image in enumerate(averages):
            save_tiff(config.root / f"rec{k + 8}.tif", np.zeros((2, 8, 8, 1), np.uint8))
            folder = config.root / "compensated_outputs" / f"rec{k + 8}"
            folder.mkdir(parents=True)
            np.save(folder / "temporal_average.npy", image)
        return config

    return make


@pytest.fixture
def computed(monkeypatch):
    """How often a displacement is really computed."""
    calls = []
    real = stage2.compute_between_displacement

    def spy(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(stage2, "compute_between_displacement", spy)
    return calls


def error(w, truth, border=16):
    return float(np.hypot(*np.moveaxis(interior(w - truth, border), -1, 0)).mean())


def test_return_values_and_files(session):
    config = session([average(), average(2, 1), average(-1, 0)])
    middle, centre, fields = stage2.run_stage2(config)
    assert middle == 1
    assert centre == config.root / "rec9.tif"
    assert len(fields) == 3
    assert not fields[1].any()
    for name, w in zip(("rec8", "rec9", "rec10"), fields, strict=True):
        assert w.shape == (*SIZE, 2)
        assert w.dtype == np.float64
        with np.load(config.root / "compensated_outputs" / name / "w_to_reference.npz") as data:
            assert set(data) == {"u", "v", "fingerprint"}
            assert data["u"].shape == SIZE
            assert data["u"].dtype == data["v"].dtype == np.float64
            np.testing.assert_array_equal(np.stack([data["u"], data["v"]], axis=-1), w)
    # centre(x) = recording(x + u)
    assert error(fields[0], (2, 1)) < 0.1
    assert error(fields[2], (3, 1)) < 0.1


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, 0.1),
        ({"stage2_constancy_assumption": "gray"}, 0.1),
        ({"stage2_constancy_assumption": "census"}, 0.4),
        ({"sigma_smooth": 0}, 0.1),
        ({"sigma_smooth": 2.5}, 0.1),
        ({"cc_upsample": 1}, 0.3),
        ({"precision": "double"}, 0.1),
        ({"numerics": "matlab"}, 0.3),
        ({"numerics": "matlab", "precision": "double"}, 0.3),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_shift_is_recovered(session, settings, allowed, channels):
    config = session([average(3.3, -2.6, channels), average(channels=channels)], **settings)
    _, _, fields = stage2.run_stage2(config)
    assert error(fields[0], (-3.3, 2.6)) < allowed


def test_a_smooth_deformation_is_recovered(session):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    truth = np.stack([4 + 1.5 * np.sin(y / 14), -3 + 1.5 * np.cos(x / 14)], axis=-1)
    from pyflowreg.core.warping import warp_frame

    moving = average()
    fixed = warp_frame(moving, truth, moving)
    config = session([moving, fixed])
    assert error(stage2.run_stage2(config)[2][0], truth) < 0.4


@BOTH
@pytest.mark.parametrize("shift", [(30, 0), (-20, 25), (0, -31)])
def test_large_shifts(session, numerics, shift):
    """Up to half the frame; the rest of the picture is not in both averages."""
    config = session([average(*shift), average()], numerics=numerics)
    w = stage2.run_stage2(config)[2][0]
    inside = np.ones(SIZE, bool)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    u, v = -shift[0], -shift[1]
    inside &= (x + u >= 8) & (x + u < SIZE[1] - 8) & (y + v >= 8) & (y + v < SIZE[0] - 8)
    inside &= (x >= 8) & (x < SIZE[1] - 8) & (y >= 8) & (y < SIZE[0] - 8)
    found = np.median(w[inside], axis=0)
    assert np.abs(found - (u, v)).max() < 1.5


def test_equal_averages_have_no_displacement(session):
    for w in stage2.run_stage2(session([average()] * 3))[2]:
        assert not w.any()


@BOTH
@pytest.mark.parametrize("centre", ["rec8.tif", "rec10.tif"])
def test_constant_averages_have_no_displacement(session, caplog, numerics, centre):
    flat = np.full((*SIZE, 1), 7.0)
    config = session([flat, flat + 1e-12, average()], numerics=numerics, center=centre)
    for w in stage2.run_stage2(config)[2]:
        assert not w.any()
    assert "is constant; the displacement is set to zero" in caplog.text


def test_the_weight_of_a_channel(session):
    """Channel 1 shows something else that moves the other way."""
    first = np.concatenate([average(2, 0), average(-2, 0)], axis=-1)
    config = session([first, average(channels=1).repeat(2, axis=-1)])
    for weight, u in (([1, 0], -2), ([0, 1], 2)):
        config.flow_options = {"weight": weight}
        assert error(stage2.run_stage2(config)[2][0], (u, 0)) < 0.2


def test_the_centre_is_chosen(session):
    config = session([average(1), average(), average(2)], center="rec10.tif")
    middle, centre, fields = stage2.run_stage2(config)
    assert (middle, centre.name) == (2, "rec10.tif")
    assert not fields[2].any()
    assert error(fields[1], (2, 0)) < 0.1


def test_another_centre_of_the_same_average_leaves_one_record(session, computed):
    config = session([average(), average(1), average()])
    for centre in ("rec8.tif", "rec10.tif"):
        config.center = centre
        stage2.run_stage2(config)
        for folder in (config.root / "compensated_outputs").iterdir():
            assert len(list(folder.glob("stage2_*.json"))) == 1
    assert len(computed) == 3, "the field of rec9 is the same"


def test_a_second_run_computes_nothing(session, computed):
    config = session([average(1), average(), average(2)])
    first = stage2.run_stage2(config)[2]
    assert len(computed) == 2
    files = {path: path.stat().st_mtime_ns for path in config.root.rglob("*.npz")}
    second = stage2.run_stage2(config)[2]
    assert len(computed) == 2
    assert files == {path: path.stat().st_mtime_ns for path in config.root.rglob("*.npz")}
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"sigma_smooth": 3.0}, 2),
        ({"alpha_between": 5}, 2),
        ({"iterations_between": 20}, 2),
        ({"cc_upsample": 2}, 2),
        ({"stage2_constancy_assumption": "gray"}, 2),
        ({"numerics": "matlab"}, 2),
        ({"precision": "double"}, 2),
        ({"center": "rec8.tif"}, 2),
        ({"resume": False}, 2),
        ({"flow_options": {"weight": [3, 1]}}, 2),
        ({"flow_options": {"alpha": 7}}, 0),
        ({"align_chunk_size": 3}, 0),
        ({"n_workers": 1}, 0),
    ],
)
def test_what_a_changed_setting_redoes(session, computed, change, count):
    config = session([average(1), average(), average(2)])
    stage2.run_stage2(config)
    computed.clear()
    for key, value in change.items():
        setattr(config, key, value)
    stage2.run_stage2(config)
    assert len(computed) == count


def test_a_changed_average_redoes_its_recording(session, computed):
    config = session([average(1), average(), average(2)])
    stage2.run_stage2(config)
    computed.clear()
    np.save(config.root / "compensated_outputs" / "rec10" / "temporal_average.npy", average(4))
    assert error(stage2.run_stage2(config)[2][2], (-4, 0)) < 0.1
    assert len(computed) == 1


@pytest.mark.parametrize("content", [b"", b"PK no zip", None])
def test_a_damaged_field_is_made_again(session, computed, content):
    config = session([average(1), average()])
    before = stage2.run_stage2(config)[2]
    path = config.root / "compensated_outputs" / "rec8" / "w_to_reference.npz"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    np.testing.assert_array_equal(stage2.run_stage2(config)[2], before)


def test_without_stage_1(session):
    config = session([average(), average(), average()])
    for name in ("rec8", "rec10"):
        (config.root / "compensated_outputs" / name / "temporal_average.npy").unlink()
    with pytest.raises(ConfigError) as caught:
        stage2.run_stage2(config)
    assert len(caught.value.problems) == 2
    assert "rec8 has no corrected frames" in caught.value.problems[0]
    assert "run stage 1 first" in caught.value.problems[1]
    assert not list(config.root.rglob("w_to_reference.npz"))


def test_averages_that_do_not_fit(session):
    config = session([average(), average(size=(64, 64)), average()])
    with pytest.raises(ConfigError, match=r"average of rec9 has shape \(64, 64, 1\)"):
        stage2.run_stage2(config)


@pytest.mark.parametrize("content", ["nan", "text", "shape"])
def test_an_average_that_cannot_be_used(session, content):
    config = session([average(), average()])
    path = config.root / "compensated_outputs" / "rec9" / "temporal_average.npy"
    if content == "text":
        path.write_text("no array")
    else:
        np.save(path, np.full(SIZE, np.nan) if content == "nan" else np.zeros(5))
    with pytest.raises((ConfigError, InputError), match=r"temporal_average\.npy .*Delete it"):
        stage2.run_stage2(config)


@pytest.mark.parametrize("name", ["compensated.HDF5", "compensated.h5", "compensated.hdf5"])
def test_frames_of_another_program(session, name):
    """Only the frames are there, named as the toolbox does."""
    config = session([average(), average(), average()])
    for k in (8, 9, 10):
        folder = config.root / "compensated_outputs" / f"rec{k}"
        (folder / "temporal_average.npy").unlink()
        with h5py.File(folder / name, "w") as file:
            for c in (1, 2):
                frames = average(k - 9, 0)[..., 0] + np.array([-1, 1])[:, None, None]
                file[f"ch{c}"] = c * frames
    _, _, fields = stage2.run_stage2(config)
    assert error(fields[2], (-1, 0)) < 0.1
    saved = np.load(folder / "temporal_average.npy")
    np.testing.assert_allclose(saved, np.concatenate([average(1), 2 * average(1)], axis=-1))


def test_averages_without_a_channel_axis(session):
    config = session([average(1)[..., 0], average()[..., 0]])
    assert error(stage2.run_stage2(config)[2][0], (-1, 0)) < 0.1


@pytest.mark.usefixtures("without_extras")
@pytest.mark.parametrize("backend", ["flowreg_torch", "flowreg_cuda", "diso"])
def test_a_backend_that_is_not_there(session, backend):
    config = session([average(1), average()], flow_backend=backend)
    with pytest.raises(BackendError, match=rf"flow_backend {backend} is not.* pip install .*\["):
        stage2.run_stage2(config)
    assert not list(Path(config.root).rglob("w_to_reference.npz"))


def test_the_size_of_displacements_is_logged(session, caplog):
    with caplog.at_level(logging.INFO):
        stage2.run_stage2(session([average(2), average()]))
    assert "rec8: displacement 2.0" in caplog.text
