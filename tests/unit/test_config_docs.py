import json

import jsonschema
import pytest
import yaml

from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction import OFOptions
from pyflowreg.session import SessionConfig, config_docs
from pyflowreg.session.discovery import discover_recordings


def test_generated_files_are_up_to_date():
    difference = config_docs.drift()
    assert not difference, f"Run `{config_docs.COMMAND}`:\n{difference}"


def test_a_stale_file_shows_a_diff(tmp_path):
    for path in config_docs.rendered():
        (tmp_path / path.name).write_text(path.read_text())
    assert config_docs.drift(tmp_path) == ""
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("cc_upsample: 4", "cc_upsample: 5"))
    difference = config_docs.drift(tmp_path)
    assert "-cc_upsample: 5\n+cc_upsample: 4\n" in difference


def test_every_key_is_explained():
    for model in (SessionConfig, OFOptions):
        for name, field in model.model_fields.items():
            assert field.description, name


def test_the_shipped_file_holds_the_defaults_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SessionConfig.from_yaml(config_docs.CONFIG_FOLDER / "config.yaml")
    assert config.options_for() == SessionConfig(root="data").options_for()
    config.flow_options = {}
    assert config == SessionConfig(root="data")
    with pytest.raises(ConfigError, match="root: the folder data does not exist"):
        discover_recordings(config)


def test_every_commented_key_can_be_switched_on(tmp_path):
    text = config_docs.render_yaml()
    for key in config_docs.FLOW_KEYS:
        text = text.replace(f"  # {key}:", f"  {key}:")
    path = tmp_path / "all.yaml"
    path.write_text(text)
    config = SessionConfig.from_yaml(path)
    assert set(config.flow_options) == set(config_docs.FLOW_KEYS)
    assert config.options_for() == SessionConfig(root="data").options_for()


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(config_docs.render_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"flow_options": "options.json"},
        {"flow_options": {"alpha": [1, 2], "sigma": [1, 1, 0.1], "reference_frames": [1, 2]}},
        {"flow_options": {"weight": [0.5, 0.5], "min_level": -1, "save_valid_idx": True}},
        {"n_workers": 3, "stage2_constancy_assumption": "census", "center": "a.tif"},
        {"input_options": {"axes": "TYX"}, "backend_params": {"device": "cuda"}},
        {"flow_backend": "flowreg_torch", "flow_options": {"output_typename": "input"}},
        {"nworkers": 3},
        {"n_workers": 0},
        {"n_workers": "3"},
        {"resume": "yes"},
        {"alpha_between": 0},
        {"sigma_smooth": "6"},
        {"flow_options": {"alhpa": 1}},
        {"flow_options": {"output_path": "x"}},
        {"flow_options": {"eta": 1}},
        {"flow_options": {"alpha": "2"}},
        {"flow_options": {"save_valid_idx": False}},
        {"flow_options": {"bin_size": 1.5}},
        {"align_output_format": "MAT"},
    ],
)
def test_schema_agrees_with_the_settings(validator, change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "options.json").write_text("{}")
    values = {"root": "data", **change}
    try:
        SessionConfig.from_mapping(values)
        accepted = True
    except ConfigError:
        accepted = False
    assert validator.is_valid(values) == accepted


def test_schema_accepts_the_shipped_file(validator):
    validator.validate(yaml.safe_load(config_docs.render_yaml()))
