"""Whatever a user writes: it loads, or a ConfigError says why."""

import json
import math

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction import OFOptions
from pyflowreg.session import SessionConfig
from pyflowreg.session.config_files import parse_yaml
from pyflowreg.session.discovery import centre_index, discover_recordings

FEW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
GOOD = {
    "pattern": st.sampled_from(["*.tif", "rec*", "sub/*.h5"]),
    "center": st.none() | st.just("a.tif"),
    "resume": st.booleans(),
    "scheduler": st.sampled_from(["local", "array"]),
    "n_workers": st.just(-1) | st.integers(1, 64),
    "numerics": st.sampled_from(["standard", "matlab"]),
    "precision": st.sampled_from(["single", "double"]),
    "cc_upsample": st.integers(1, 100),
    "sigma_smooth": st.floats(0, 50),
    "alpha_between": st.floats(1e-3, 1e3),
    "iterations_between": st.integers(1, 1000),
    "stage2_constancy_assumption": st.sampled_from(["gc", "gray", "cs"]),
    "align_chunk_size": st.integers(1, 1000),
    "align_output_format": st.sampled_from(["TIFF", "HDF5"]),
    "flow_options": st.fixed_dictionaries(
        {},
        optional={
            "alpha": st.floats(0.1, 10) | st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)).map(list),
            "quality_setting": st.sampled_from(["quality", "balanced", "fast"]),
            "weight": st.lists(st.floats(0.1, 1), min_size=1, max_size=4),
            "reference_frames": st.lists(st.integers(0, 99), min_size=1, max_size=4),
            "save_w": st.booleans(),
        },
    ),
}
GOOD_SETTINGS = st.fixed_dictionaries({"root": st.just("r")}, optional=GOOD)


def problems_of(call, values):
    """Return what `call` makes of `values`, and the problems it found; one of them is empty."""
    try:
        return call(values), []
    except ConfigError as error:
        return None, error.problems


@FEW
@given(GOOD_SETTINGS)
def test_good_settings_survive_every_file_format(tmp_path, values):
    config = SessionConfig.from_mapping(values)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    assert SessionConfig.from_yaml(tmp_path / "a.yaml") == config
    # JSON is YAML too.
    (tmp_path / "b.yaml").write_text(json.dumps(values))
    assert SessionConfig.from_yaml(tmp_path / "b.yaml") == config


@FEW
@given(st.sampled_from(sorted(SessionConfig.model_fields)), VALUES)
def test_any_value_of_the_session_is_taken_or_refused_by_name(key, value):
    config, problems = problems_of(SessionConfig.from_mapping, {"root": "r", key: value})
    assert all(problem.startswith(key) for problem in problems)
    if config:
        json.dumps([config.settings_of_stage(stage) for stage in (1, 2, 3)], allow_nan=False)


@FEW
@given(st.sampled_from(sorted(OFOptions.model_fields)), VALUES)
def test_any_value_of_the_options_is_taken_or_refused_by_name(key, value):
    options, problems = problems_of(OFOptions.from_mapping, {key: value})
    assert all(problem.startswith(key) for problem in problems)
    assert problems or OFOptions(**{key: getattr(options, key)})


@FEW
@given(st.text(max_size=20).filter(lambda key: key not in SessionConfig.model_fields))
def test_unknown_keys_are_errors(key):
    with pytest.raises(ConfigError) as caught:
        SessionConfig.from_mapping({"root": "r", key: 1})
    assert len(caught.value.problems) == 1


@FEW
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_file_brings_down_the_readers(tmp_path, content):
    for name, read in (
        ("a.toml", SessionConfig.from_toml),
        ("a.yaml", SessionConfig.from_yaml),
        ("a.json", OFOptions.from_json),
    ):
        (tmp_path / name).write_bytes(content)
        settings_read, problems = problems_of(read, tmp_path / name)
        assert settings_read or problems


@FEW
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12))
def test_numbers_are_read_as_python_writes_them(number):
    value = parse_yaml(repr(number))
    assert value == number
    assert isinstance(value, type(number))


@FEW
@given(
    st.lists(st.floats(0, 10).map(lambda x: round(x, 3)), min_size=1, max_size=5), st.integers(1, 6)
)
def test_weights_of_enough_entries_sum_to_1(weight, n_channels):
    if not sum(weight[:n_channels]) > 0:
        return
    fitted = OFOptions(weight=weight).weight_for(n_channels)
    assert fitted.shape == (n_channels,)
    if len(weight) >= n_channels:
        assert math.isclose(fitted.sum(), 1)


@FEW
@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=6)
    | st.tuples(st.integers(1, 100), st.integers(0, 100)).map(lambda p: f"{p[0]}:{p[0] + p[1]}"),
    st.integers(1, 120),
)
def test_reference_frames_always_exist(reference, n_frames):
    indices = OFOptions(reference_frames=reference).reference_indices(n_frames)
    assert indices
    assert all(0 <= index < n_frames for index in indices)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cc",)),
            min_size=1,
            max_size=12,
        ).filter(lambda name: not name.startswith(".") and name not in ("final",)),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_any_file_name_is_found_and_can_be_the_centre(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("session")
    for name in names:
        (root / f"{name}.tif").touch()
    config = SessionConfig(root=root)
    recordings = discover_recordings(config)
    assert sorted(recording.path.name for recording in recordings) == sorted(
        f"{name}.tif" for name in names
    )
    for index, recording in enumerate(recordings):
        if recording.path.name.strip():
            config.center = recording.path.name
            assert centre_index(config, recordings) == index
