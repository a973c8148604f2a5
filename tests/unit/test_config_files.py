import logging

import pytest

from pyflowreg.errors import ConfigError
from pyflowreg.session import SessionConfig

SEED_TOML = """\
# session.toml
root = "/data/experiment/"
pattern = "*.tif"
center = "recording_03.tif"  # Optional, auto-selects middle if not specified
output_root = "compensated_outputs"
final_results = "final_results"
resume = true
scheduler = "local"  # or "array" for HPC
n_workers = -1  # Stage 1 workers (-1 = all CPU cores)

# Flow backend configuration
flow_backend = "flowreg"  # or "flowreg_torch", "flowreg_cuda", "diso"
[backend_params]
device = "cuda:0"  # For flowreg_torch backend

# Stage 2 parameters
cc_upsample = 4
sigma_smooth = 6.0
alpha_between = 25.0
iterations_between = 100
stage2_constancy_assumption = "gc"  # Options: "gc", "gray", "cs"
"""


def problems_of(call, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return caught.value.problems


def test_toml_with_top_level_keys_below_backend_params(tmp_path, caplog):
    path = tmp_path / "session.toml"
    path.write_text(SEED_TOML.replace("= 4", "= 8").replace('"gc"  #', '"cs"  #'))
    with caplog.at_level(logging.INFO):
        config = SessionConfig.from_toml(path)
    assert config.backend_params == {"device": "cuda:0"}
    assert config.cc_upsample == 8
    assert config.stage2_constancy_assumption == "cs"
    assert config.center == "recording_03.tif"
    assert "cc_upsample, sigma_smooth" in caplog.text
    assert "device is not used by the backend flowreg" in caplog.text
    assert config.options_for().backend_params == {}


def test_key_set_at_top_level_and_below_backend_params(tmp_path):
    path = tmp_path / "session.toml"
    path.write_text("cc_upsample = 2\n" + SEED_TOML)
    (problem,) = problems_of(SessionConfig.from_toml, path)
    assert problem.startswith("cc_upsample: is set at the top level and again")


def test_misspelt_key_below_backend_params_is_reported_at_the_top(tmp_path):
    path = tmp_path / "session.toml"
    path.write_text('root = "r"\n[backend_params]\nsigma_smoth = 3\n')
    assert problems_of(SessionConfig.from_toml, path) == [
        "sigma_smoth: unknown key; did you mean sigma_smooth?"
    ]


def test_session_key_below_flow_options(tmp_path):
    path = tmp_path / "session.toml"
    path.write_text('root = "r"\n[flow_options]\ncc_upsample = 3\n')
    (problem,) = problems_of(SessionConfig.from_toml, path)
    assert problem.startswith("flow_options.cc_upsample: belongs to the top level")


def test_every_door_gives_the_same_settings(tmp_path):
    toml, yml = tmp_path / "a.toml", tmp_path / "a.yml"
    toml.write_text('root = "r"\nalpha_between = 3\n[flow_options]\nquality_setting = "fast"\n')
    yml.write_text("root: r\nalpha_between: 3\nflow_options:\n  quality_setting: fast\n")
    expected = SessionConfig(root="r", alpha_between=3, flow_options={"quality_setting": "fast"})
    assert SessionConfig.from_file(toml) == SessionConfig.from_toml(toml) == expected
    assert SessionConfig.from_file(yml) == SessionConfig.from_yaml(str(yml)) == expected
    assert SessionConfig.from_mapping({"root": "r", "alpha_between": 3.0}).alpha_between == 3.0


def test_from_file_names_the_endings_it_reads():
    (problem,) = problems_of(SessionConfig.from_file, "session.json")
    assert ".toml, .yml or .yaml" in problem


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.toml", "root = ", "is not valid TOML"),
        ("a.toml", "n_workers = " + "9" * 5000, "is not valid TOML"),
        ("a.yml", "root: [", "is not valid YAML"),
        ("a.yml", "root: a\nroot: b", "the key root is given twice"),
        ("a.yml", "!!python/object/apply:os.system [ls]", "is not valid YAML"),
        ("a.yml", "root: &x [*x]", "an alias contains itself"),
        ("a.yml", "- root", "not keys with values"),
        ("a.yml", "3: root", "a key must be a text"),
        ("a.yml", "", "root: is required"),
        ("a.yml", "#" * (2**20 + 1), "larger than 1 MiB"),
        ("missing.yml", None, "cannot be read"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, text, expected):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    assert expected in problems_of(SessionConfig.from_file, path)[0]


def test_yaml_aliases_that_multiply_are_refused(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    path = tmp_path / "a.yml"
    path.write_text("\n".join(lines))
    assert "more than" in problems_of(SessionConfig.from_yaml, path)[0]


def test_yaml_reads_ranges_and_exponents_as_written(tmp_path):
    path = tmp_path / "a.yml"
    path.write_text("root: r\nsigma_smooth: 1e-1\nflow_options: {reference_frames: 50:59}\n")
    config = SessionConfig.from_yaml(path)
    assert config.sigma_smooth == 0.1
    assert config.options_for().reference_indices(100) == list(range(49, 59))
