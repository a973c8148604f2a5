import copy
import json
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest

from pyflowreg.errors import ConfigError
from pyflowreg.session import SessionConfig
from pyflowreg.session.config import get_array_task_id

DEFAULTS = {
    "pattern": "*.tif",
    "center": None,
    "input_options": {},
    "resume": True,
    "scheduler": "local",
    "n_workers": -1,
    "flow_backend": "flowreg",
    "backend_params": {},
    "flow_options": {},
    "numerics": "standard",
    "precision": "single",
    "cc_upsample": 4,
    "sigma_smooth": 6.0,
    "alpha_between": 25.0,
    "iterations_between": 100,
    "stage2_constancy_assumption": "gc",
    "align_chunk_size": 64,
    "align_output_format": "TIFF",
}


def problems_of(call, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return caught.value.problems


def test_defaults():
    config = SessionConfig(root="/data")
    assert {key: getattr(config, key) for key in DEFAULTS} == DEFAULTS
    assert str(config.output_root) == "compensated_outputs"
    assert str(config.final_results) == "final_results"


def test_all_problems_come_together():
    found = problems_of(
        SessionConfig,
        root=3,
        resume="yes",
        n_workers=0,
        alpha=2,
        sigma_smoth=3,
        alpha_between="abc",
        scheduler="aray",
        flow_options={"alhpa": 3, "iterations": "5", "output_path": "x"},
        backend_params=[1],
    )
    text = "\n".join(found)
    for expected in (
        "root: 3 is not allowed",
        "resume: 'yes' is not allowed; allowed is true or false",
        "n_workers: 0 is not allowed; allowed is -1 (all cores), or a whole number >= 1",
        "alpha: is not a key of the session; write it as flow_options.alpha",
        "sigma_smoth: unknown key; did you mean sigma_smooth?",
        "alpha_between: 'abc' is not allowed; allowed is a number > 0",
        "scheduler: 'aray' is not allowed; allowed is one of local, array. Did you mean array?",
        "flow_options.alhpa: unknown key; did you mean alpha?",
        "flow_options.iterations: '5' is not allowed; allowed is a whole number >= 1. Write it as",
        "flow_options.output_path: has no effect in a session",
        "backend_params: [1] is not allowed",
    ):
        assert expected in text
    assert len(found) == 11
    assert "pydantic" not in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resume", 1),
        ("n_workers", -2),
        ("n_workers", True),
        ("n_workers", 2.0),
        ("cc_upsample", 0),
        ("sigma_smooth", -1),
        ("sigma_smooth", float("nan")),
        ("alpha_between", 0),
        ("alpha_between", float("inf")),
        ("alpha_between", True),
        ("iterations_between", 0),
        ("align_chunk_size", 0),
        ("align_output_format", "MAT"),
        ("flow_backend", "numba"),
        ("numerics", "octave"),
        ("precision", "half"),
        ("stage2_constancy_assumption", "gradent"),
        ("pattern", ""),
        ("pattern", "../*.tif"),
        ("pattern", "/data/*.tif"),
        ("pattern", "**.tif"),
        ("center", 3),
        ("center", " "),
        ("output_root", ""),
        ("flow_options", 3),
        ("flow_options", [1]),
        ("input_options", {"dataste": "mov"}),
        ("backend_params", {"devcie": "cuda"}),
    ],
)
def test_values_that_are_refused(key, value):
    (problem,) = problems_of(SessionConfig, root="r", **{key: value})
    assert problem.startswith(key)
    config = SessionConfig(root="r")
    before = copy.deepcopy(config)
    assert problems_of(setattr, config, key, value) == [problem]
    assert config == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"axes": "YX"}, "input_options.axes: 'YX' must name T, Y and X"),
        ({"channels": [0, 0]}, "input_options.channels: [0, 0] must be different"),
        ({"n_channels": "two"}, "input_options.n_channels: 'two' is not allowed"),
        ({"dataste": "mov"}, "input_options.dataste: unknown key; did you mean dataset?"),
    ],
)
def test_input_options_are_checked(options, expected):
    (problem,) = problems_of(SessionConfig, root="r", input_options=options)
    assert problem.startswith(expected)
    assert problem.count("must") <= 1


def test_numpy_numbers_are_numbers():
    config = SessionConfig(root="r", n_workers=np.int64(2), alpha_between=np.float32(2))
    assert (config.n_workers, config.alpha_between) == (2, 2.0)


@pytest.mark.parametrize(
    ("alias", "name"), [("gradient", "gc"), ("brightness", "gray"), ("census", "cs")]
)
def test_long_names_of_data_terms(alias, name):
    config = SessionConfig(
        root="r", stage2_constancy_assumption=alias, flow_options={"constancy_assumption": alias}
    )
    assert config.stage2_constancy_assumption == name
    assert config.options_for().constancy_assumption == name


def test_attributes_can_be_assigned():
    config = SessionConfig(root="r")
    config.n_workers = 3
    config.flow_options = {"quality_setting": "fast", "save_w": True, "buffer_size": 1000}
    assert config.options_for().quality_setting == "fast"
    (problem,) = problems_of(setattr, config, "rot", "x")
    assert problem == "rot: unknown key; did you mean root?"


def test_a_change_inside_flow_options_is_checked_when_used():
    config = SessionConfig(root="r")
    config.flow_options["alhpa"] = 2
    assert problems_of(config.options_for) == [
        "flow_options.alhpa: unknown key; did you mean alpha?"
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("output_path", "x", "has no effect in a session"),
        ("output_format", "TIFF", "align_output_format"),
        ("input_file", "x.tif", "has no effect in a session"),
        ("naming_convention", "batch", "has no effect in a session"),
        ("numerics", "matlab", "belongs to the top level"),
        ("flow_backend", "flowreg", "belongs to the top level"),
        ("save_valid_idx", False, "stage 3 needs the valid masks"),
        ("n_references", 2, "only 1 is"),
        ("use_gpu", True, "flow_backend"),
        ("channel_idx", [1], "input_options.channels"),
    ],
)
def test_flow_options_a_session_cannot_take(key, value, expected):
    (problem,) = problems_of(SessionConfig, root="r", flow_options={key: value})
    assert problem.startswith(f"flow_options.{key}: ")
    assert expected in problem


def test_options_for_a_recording(tmp_path):
    config = SessionConfig(
        root="r", numerics="matlab", precision="double", input_options={"n_channels": 2}
    )
    options = config.options_for(tmp_path / "a.tif", tmp_path / "out")
    assert options.input_file == tmp_path / "a.tif"
    assert options.output_path == tmp_path / "out"
    assert options.output_format == "HDF5"
    assert options.save_valid_idx
    assert options.save_meta_info
    assert (options.numerics, options.precision) == ("matlab", "double")
    assert options.input_options == {"n_channels": 2}
    assert options.output_dtype("int16") == np.int16
    config.flow_options = {"output_typename": "single"}
    assert config.options_for().output_dtype("int16") == np.float32


def test_flow_options_from_a_json_file(tmp_path, caplog):
    path = tmp_path / "options.json"
    values = {"alpha": 2, "reference_frames": [1, 2], "output_path": "x", "save_valid_idx": False}
    path.write_text(json.dumps(values))
    with caplog.at_level(logging.INFO):
        config = SessionConfig(root="r", flow_options=str(path))
    assert config.flow_options == {"alpha": 2, "reference_frames": [0, 1]}
    assert "not taken: output_path, save_valid_idx" in caplog.text
    (problem,) = problems_of(SessionConfig, root="r", flow_options="nowhere.json")
    assert "nowhere.json: cannot be read" in problem


def test_settings_of_a_stage_hold_what_decides_its_results():
    config = SessionConfig(root="r")
    first, second, third = (config.settings_of_stage(stage) for stage in (1, 2, 3))
    json.dumps([first, second, third])
    config.alpha_between = 3
    assert config.settings_of_stage(1) == first
    assert config.settings_of_stage(2) != second
    assert config.settings_of_stage(3) == third
    for key, value in {"n_workers": 3, "resume": False, "align_chunk_size": 2}.items():
        setattr(config, key, value)
    assert config.settings_of_stage(1) == first
    assert config.settings_of_stage(3) == third
    config.flow_options = {"alpha": 1.5, "bin_size": 1}
    assert config.settings_of_stage(1) == first, "a default written out changes nothing"
    config.flow_options = {"weight": np.ones((1, 4, 4))}
    json.dumps(config.settings_of_stage(1))
    assert config.settings_of_stage(1) != first


def test_config_survives_a_trip_to_another_process():
    config = SessionConfig(root="r", flow_options={"alpha": 2})
    assert pickle.loads(pickle.dumps(config)) == config


def test_raw_validation_raises_config_error_too():
    assert "rot" in problems_of(SessionConfig.model_validate, {"root": "r", "rot": 1})[0]
    assert problems_of(SessionConfig.from_mapping, [1])


VARIABLES = ("SLURM_ARRAY_TASK_ID", "SGE_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID")


@pytest.fixture
def no_array(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_array")
@pytest.mark.parametrize("name", VARIABLES)
def test_array_task_id(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    assert get_array_task_id() == 7
    for wrong in ("0", "-1", "1.5", "x", "\u0663"):
        monkeypatch.setenv(name, wrong)
        (problem,) = problems_of(get_array_task_id)
        assert name in problem


@pytest.mark.usefixtures("no_array")
def test_array_task_id_not_set(monkeypatch):
    monkeypatch.setenv("SGE_TASK_ID", "undefined")
    (problem,) = problems_of(get_array_task_id)
    assert "not an array job" in problem
    monkeypatch.setenv("PBS_ARRAY_INDEX", "2")
    assert get_array_task_id() == 2


def test_importing_settings_is_light():
    code = (
        "import sys, pyflowreg.session, pyflowreg.motion_correction\n"
        "from pyflowreg.session import SessionConfig\n"
        "import pyflowreg.session.discovery, pyflowreg.session.cli, pyflowreg.session.preflight\n"
        "SessionConfig(root='r', input_options={'n_channels': 1})\n"
        "heavy = {'numba', 'h5py', 'tifffile', 'scipy', 'matplotlib', 'skimage', 'hdf5storage'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
