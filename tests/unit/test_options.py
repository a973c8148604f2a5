import json
import logging

import numpy as np
import pytest

from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction import OFOptions

TOOLBOX_DEFAULTS = {
    "output_format": "MAT",
    "alpha": 1.5,
    "weight": (0.5, 0.5),
    "levels": 100,
    "quality_setting": "quality",
    "min_level": -1,
    "eta": 0.8,
    "update_lag": 5,
    "iterations": 50,
    "a_smooth": 1.0,
    "a_data": 0.45,
    "sigma": ((1.0, 1.0, 0.1), (1.0, 1.0, 0.1)),
    "bin_size": 1,
    "buffer_size": 400,
    "reference_frames": "50:500",
    "save_meta_info": True,
    "save_w": False,
    "save_valid_idx": False,
    "output_typename": "double",
    "channel_normalization": "joint",
    "interpolation_method": "cubic",
    "cc_initialization": False,
    "update_reference": False,
    "update_initialization_w": True,
    "n_references": 1,
    "min_frames_per_reference": 20,
    "naming_convention": "default",
    "use_gpu": False,
    "verbose": False,
    "constancy_assumption": "gc",
    "numerics": "standard",
    "precision": "single",
    "flow_backend": "flowreg",
}


def problems_of(call, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return caught.value.problems


def test_defaults_of_the_toolbox():
    options = OFOptions()
    assert {key: getattr(options, key) for key in TOOLBOX_DEFAULTS} == TOOLBOX_DEFAULTS
    assert str(options.output_path) == "results"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", "abc"),
        ("alpha", 0),
        ("alpha", [1, 2, 3]),
        ("alpha", []),
        ("alpha", [[1, 2]]),
        ("alpha", 10**400),
        ("alpha", True),
        ("weight", [0, 0]),
        ("weight", [-1, 2]),
        ("weight", [[1, 2]]),
        ("weight", "abc"),
        ("weight", None),
        ("weight", [1, float("nan")]),
        ("levels", 0),
        ("levels", 3.5),
        ("eta", 1),
        ("eta", "0.8"),
        ("a_smooth", 0),
        ("a_data", 1.1),
        ("a_data", []),
        ("sigma", [1, 2]),
        ("sigma", [[1, 1, -1]]),
        ("sigma", 3),
        ("min_level", -2),
        ("bin_size", 0),
        ("buffer_size", 0),
        ("reference_frames", []),
        ("reference_frames", [-1]),
        ("reference_frames", [1.5]),
        ("reference_frames", "0:5"),
        ("reference_frames", "9:5"),
        ("reference_frames", "no/such/file.tif"),
        ("reference_frames", "x" * 5000),
        ("reference_frames", True),
        ("reference_frames", [[1, 2], [3, 4]]),
        ("reference_frames", np.full((3, 3), np.nan)),
        ("output_typename", "float"),
        ("output_format", "BEGONIA"),
        ("n_references", 2),
        ("use_gpu", True),
        ("preproc_funct", "median"),
        ("verbose", 1),
        ("quality_setting", "custom"),
        ("interpolation_method", "spline"),
    ],
)
def test_values_that_are_refused(key, value):
    (problem,) = problems_of(OFOptions, **{key: value})
    assert problem.startswith(f"{key}: ")
    assert "Value error" not in problem
    options = OFOptions()
    assert problems_of(setattr, options, key, value) == [problem]
    assert getattr(options, key) == getattr(OFOptions(), key)


def test_min_level_wins_over_quality_setting(caplog):
    assert [
        OFOptions(quality_setting=name).effective_min_level
        for name in ("quality", "balanced", "fast")
    ] == [0, 4, 6]
    options = OFOptions(quality_setting="fast", min_level=2)
    assert "quality_setting fast has no effect because min_level is 2" in caplog.text
    assert (options.quality_setting, options.effective_min_level) == ("custom", 2)
    assert OFOptions(quality_setting="custom", min_level=0).effective_min_level == 0
    options.min_level = -1
    assert options.quality_setting == "quality"
    options.quality_setting = "balanced"
    assert options.effective_min_level == 4


def test_weights_are_scaled_and_fitted_to_the_channels():
    options = OFOptions(weight=[3, 1])
    assert options.weight == (0.75, 0.25)
    options.weight = np.array([1, 1, 2])
    assert options.weight == (0.25, 0.25, 0.5)
    np.testing.assert_allclose(options.weight_for(3), [0.25, 0.25, 0.5])
    np.testing.assert_allclose(options.weight_for(2), [0.5, 0.5])
    np.testing.assert_allclose(options.weight_for(1), [1])
    np.testing.assert_allclose(OFOptions(weight=[1, 1]).weight_for(4), [0.5, 0.5, 0.25, 0.25])
    assert problems_of(OFOptions(weight=[0, 1]).weight_for, 1)


def test_weight_maps_are_not_scaled():
    maps = np.full((2, 4, 5), 3.0)
    options = OFOptions(weight=maps)
    np.testing.assert_array_equal(options.weight_for(2), maps)
    assert options.weight_for(1).shape == (1, 4, 5)
    assert "one" in problems_of(options.weight_for, 3)[0]


def test_alpha_sigma_and_exponents():
    assert OFOptions(alpha=2).alpha_pair == (2.0, 2.0)
    assert OFOptions(alpha=[2, 3]).alpha_pair == (2.0, 3.0)
    one = OFOptions(sigma=[2, 1, 0.5])
    assert one.sigma_for(0) == one.sigma_for(3) == (2.0, 1.0, 0.5)
    two = OFOptions(sigma=np.array([[1, 1, 0.1], [2, 2, 0.2]]))
    np.testing.assert_allclose(two.sigma_array(3), [[1, 1, 0.1], [2, 2, 0.2], [1, 1, 0.1]])
    np.testing.assert_allclose(OFOptions(a_data=0.5).a_data_for(2), [0.5, 0.5])
    np.testing.assert_allclose(OFOptions(a_data=[0.5, 0.4]).a_data_for(1), [0.5])
    assert problems_of(OFOptions(a_data=[0.5]).a_data_for, 2)


@pytest.mark.parametrize(
    ("value", "n_frames", "expected"),
    [
        ("50:500", 600, range(49, 500)),
        ("1:3", 3, range(3)),
        ("1:2:9", 9, range(0, 9, 2)),
        ([3, 1], 5, [3, 1]),
        (2, 5, [2]),
        (np.int64(2), 5, [2]),
        (np.arange(3), 5, [0, 1, 2]),
        (range(2, 4), 5, [2, 3]),
    ],
)
def test_reference_indices(value, n_frames, expected):
    options = OFOptions(reference_frames=value)
    assert options.reference_is_frames
    assert options.reference_indices(n_frames) == list(expected)


def test_reference_frames_beyond_the_recording(caplog):
    options = OFOptions(reference_frames="3:99999999999")
    with caplog.at_level(logging.WARNING):
        assert options.reference_indices(5) == [2, 3, 4]
        assert "reaches beyond the recording's 5 frames; the 3 that exist are used" in caplog.text
        assert options.reference_indices(2) == [0, 1]
        assert "all frames are used" in caplog.text
        assert OFOptions(reference_frames=[0, 9]).reference_indices(4) == [0]
    (problem,) = problems_of(options.reference_indices, 5, "matlab")
    assert "choose frames that exist" in problem
    options.numerics = "matlab"
    assert problems_of(options.reference_indices, 5) == [problem]


def test_reference_images(tmp_path):
    path = tmp_path / "reference.tif"
    path.write_bytes(b"x")
    for value in (path, str(path), np.ones((4, 5)), np.ones((4, 5, 2), np.uint16)):
        options = OFOptions(reference_frames=value)
        assert not options.reference_is_frames
        assert "is an image" in problems_of(options.reference_indices, 5)[0]


def test_output_dtype():
    assert OFOptions().output_dtype("uint16") == np.float64
    for value in (None, "", "input"):
        assert OFOptions(output_typename=value).output_dtype("int16") == np.int16
    assert OFOptions(output_typename="float32").output_typename == "single"


def test_preproc_funct():
    options = OFOptions(preproc_funct=np.sqrt)
    assert options.preproc_funct is np.sqrt


def test_json_round_trip(tmp_path):
    path = tmp_path / "options.json"
    options = OFOptions(
        alpha=[1, 2],
        weight=[1, 3],
        reference_frames=[4, 5],
        min_level=3,
        output_typename="input",
        constancy_assumption="cs",
        input_file="a.tif",
    )
    assert options.to_json(path) == path
    header, blank, body = path.read_text().split("\n", 2)
    assert header
    assert blank == ""
    saved = json.loads(body)
    assert saved["reference_frames"] == [5, 6], "frames count from 1 in the toolbox's files"
    assert saved["constancy_assumption"] == "cs"
    assert "numerics" not in saved, "only what the toolbox knows, unless it differs"
    assert OFOptions.from_json(path) == options
    assert OFOptions.load_options(str(path)) == options


def test_json_of_the_default_reference_is_a_list_from_1(tmp_path):
    OFOptions().save_options(tmp_path / "o.json")
    loaded = OFOptions.from_json(tmp_path / "o.json")
    assert loaded.reference_indices(600) == OFOptions().reference_indices(600)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 2)])
def test_json_with_a_reference_image(tmp_path, shape):
    import tifffile

    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    OFOptions(reference_frames=image).to_json(tmp_path / "o.json")
    loaded = OFOptions.from_json(tmp_path / "o.json")
    assert loaded.reference_frames == tmp_path / "reference_frames.tif"
    np.testing.assert_array_equal(tifffile.imread(loaded.reference_frames), image)


def test_json_as_matlab_writes_it(tmp_path):
    path = tmp_path / "o.json"
    path.write_text(
        "Compensation options 12-Mar-2022\n\n"
        '{"alpha": 4, "preproc_funct": [], "save_w": 1, "output_typename": [], '
        '"reference_frames": 100, "sigma": [1, 1, 0.1]}'
    )
    options = OFOptions.from_json(path)
    assert options.save_w is True
    assert options.reference_frames == 99
    assert options.output_typename is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is no options file"),
        ("{", "is no options file"),
        ("header\n\n[1]", "holds no keys"),
        ('{"alpha": NaN}', "NaN is not a number"),
        ('{"alpha": 1, "alpha": 2}', "alpha is given twice"),
        ('{"reference_frames": [0, 1]}', "counts frames from 1"),
        ('{"reference_frames": [1e400]}', "is no options file"),
        ('{"alhpa": 1}', "did you mean alpha?"),
    ],
)
def test_json_that_cannot_be_used(tmp_path, text, expected):
    path = tmp_path / "o.json"
    path.write_text(text)
    assert expected in problems_of(OFOptions.from_json, path)[0]


def test_a_function_cannot_be_saved(tmp_path):
    assert problems_of(OFOptions(preproc_funct=np.sqrt).to_json, tmp_path / "o.json")
    assert not list(tmp_path.iterdir())
