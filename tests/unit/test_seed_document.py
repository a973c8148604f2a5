"""Every example of the session API reference, executed; only paths are adapted.

The examples are written out here as that document has them, so that they are checked wherever
these tests run.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from pyflowreg.errors import BackendError, ConfigError
from pyflowreg.session import SessionConfig, cli
from pyflowreg.session.config import TASK_VARIABLES

from .scenes import save_session

TOML = """\
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

YAML = """\
root: /data/experiment/
pattern: "*.tif"
center: recording_03.tif
output_root: compensated_outputs
final_results: final_results
resume: true
scheduler: local
n_workers: -1
flow_backend: flowreg
backend_params:
  device: "cuda:0"
cc_upsample: 4
sigma_smooth: 6.0
alpha_between: 25.0
iterations_between: 100
stage2_constancy_assumption: gc
"""

IMPORTS = """\
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage1_compensate import run_stage1_array
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3
from pyflowreg.core.warping import (
    backward_valid_mask,
    imregister_binary,
    compute_batch_valid_masks
)
from pyflowreg.session.config import get_array_task_id
from pyflowreg.session.stage1_compensate import atomic_save_npy, atomic_save_npz
"""

STAGE_1 = """\
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1

config = SessionConfig.from_toml("session.toml")
config.n_workers = -1

# Override OFOptions directly on the config (or set via TOML/YAML)
config.flow_options = {
    "quality_setting": "fast",
    "save_w": True,
    "buffer_size": 1000,
}

output_folders = run_stage1(config)
"""

ARRAY_JOB = """\
#!/bin/bash
#SBATCH --array=1-10
#SBATCH --job-name=stage1

python -c "
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1_array

config = SessionConfig.from_toml('session.toml')
run_stage1_array(config)
"
"""

BACKEND = """\
config = SessionConfig(
    root="/data/",
    flow_backend="flowreg_torch",  # Use PyTorch backend
    backend_params={"device": "cuda:0"}
)
middle_idx, center_file, displacements = run_stage2(config)
"""

BUNDLE = """\
import numpy as np

data = np.load("final_results/final_valid_idx.npz")
data.keys()
"""

KEYS = [
    "final_valid",
    "aligned_valid_masks",
    "per_seq_valid_masks",
    "displacement_fields_u",
    "displacement_fields_v",
    "temporal_averages",
    "compensated_h5_paths",
    "reference_average",
    "middle_idx",
]

COMMANDS = """\
# Run specific stages
pyflowreg-session run --config session.toml --stage 1
pyflowreg-session run --config session.toml --stage 2
pyflowreg-session run --config session.toml --stage 3

# Run complete pipeline
pyflowreg-session run --config session.toml

# Array job mode (auto-detects task ID)
pyflowreg-session run --config session.toml --stage 1 --array

# Override OFOptions parameters for Stage 1
pyflowreg-session run --config session.toml --stage 1 --of-params quality_setting=fast
"""

ATOMIC = """\
# Safe numpy array save
atomic_save_npy(Path("data.npy"), array)

# Safe npz archive save
atomic_save_npz(Path("data.npz"), array1=arr1, array2=arr2)
"""

COMPLETE = """\
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

# Configure session
config = SessionConfig(
    root="/data/2p_experiment/",
    pattern="recording_*.tif",
    center="recording_005.tif",
    output_root="compensated",
    final_results="results",
    resume=True,
    n_workers=-1,
    flow_backend="flowreg",
    cc_upsample=4,
    sigma_smooth=6.0,
    alpha_between=25.0,
    iterations_between=100,
    stage2_constancy_assumption="gc",
)

# Stage 1: Motion correct each recording
print("Running Stage 1...")
config.flow_options = {
    "quality_setting": "balanced",
    "constancy_assumption": "gc",
    "save_valid_idx": True,
    "save_w": False,
}
output_folders = run_stage1(config)

# Stage 2: Align temporal averages
print("Running Stage 2...")
middle_idx, center_file, displacement_fields = run_stage2(config)

# Stage 3: Compute final valid mask
print("Running Stage 3...")
final_mask = run_stage3(config, middle_idx, displacement_fields)

print(f"Final valid region: {np.sum(final_mask)} pixels")
"""

DEFAULTS = {
    "pattern": "*.tif",
    "center": None,
    "output_root": Path("compensated_outputs"),
    "final_results": Path("final_results"),
    "resume": True,
    "scheduler": "local",
    "n_workers": -1,
    "flow_backend": "flowreg",
    "backend_params": {},
    "flow_options": {},
    "cc_upsample": 4,
    "sigma_smooth": 6.0,
    "alpha_between": 25.0,
    "iterations_between": 100,
    "stage2_constancy_assumption": "gc",
}


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A folder with session.toml and session.yml, beside three recordings; returns their root."""
    for name in TASK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "experiment"
    names = [f"recording_{k:02}" for k in (2, 3, 4)]
    save_session(root, names, [(1, 0), (0, 0), (0, -1)], frames=3, size=(24, 32))
    for name, text in (("session.toml", TOML), ("session.yml", YAML)):
        Path(name).write_text(text.replace("/data/experiment/", f"{root}/"))
    return root


def execute(code, **names):
    exec(compile(code, "example", "exec"), names)
    return names


def test_imports():
    names = execute(IMPORTS)
    assert callable(names["get_array_task_id"])
    assert names["SessionConfig"] is SessionConfig


def test_members_and_defaults():
    config = SessionConfig(root="/data/")
    assert {key: getattr(config, key) for key in DEFAULTS} == DEFAULTS


def test_settings_from_toml_yaml_and_either(session, caplog):
    with caplog.at_level("INFO"):
        config = SessionConfig.from_toml("session.toml")
    assert SessionConfig.from_yaml("session.yml") == config
    assert SessionConfig.from_file("session.toml") == config
    assert SessionConfig.from_file("session.yml") == config
    # The keys after [backend_params] were meant for the top level.
    assert config.backend_params == {"device": "cuda:0"}
    assert config.stage2_constancy_assumption == "gc"
    assert "sigma_smooth" in caplog.text
    assert config.center == "recording_03.tif"
    Path("other.toml").write_text(Path("session.toml").read_text().replace("6.0", "2.5"))
    assert SessionConfig.from_toml("other.toml").sigma_smooth == 2.5


def test_stage_1(session):
    folders = execute(STAGE_1)["output_folders"]
    assert [folder.name for folder in folders] == ["recording_02", "recording_03", "recording_04"]
    for folder in folders:
        for name in ("compensated.hdf5", "idx.hdf", "temporal_average.npy", "w.h5"):
            assert (folder / name).is_file()


def test_array_job(session):
    Path("job.sh").write_text(ARRAY_JOB)
    scripts = sysconfig.get_path("scripts")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{scripts}:{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    # The shell finds the same Python as these tests run in.
    Path("python").symlink_to(sys.executable)
    result = subprocess.run(
        ["bash", "job.sh"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    made = session / "compensated_outputs"
    assert [path.name for path in made.iterdir()] == ["recording_04"]
    assert (made / "recording_04" / "temporal_average.npy").is_file()


@pytest.mark.usefixtures("without_extras")
def test_the_choice_of_a_backend(session):
    from pyflowreg.session.stage2_between_avgs import run_stage2

    execute(STAGE_1)
    code = BACKEND.replace("/data/", f"{session}/")
    with pytest.raises(BackendError, match=r"flowreg_torch is not available.* pip install"):
        execute(code, SessionConfig=SessionConfig, run_stage2=run_stage2)
    config = SessionConfig(root=session, flow_backend="flowreg_torch")
    from pyflowreg.session.stage1_compensate import run_stage1

    with pytest.raises(ConfigError, match=r"flowreg_torch is not available.* pip install"):
        run_stage1(config)


def test_commands(session, monkeypatch, capsys):
    monkeypatch.setenv("PBS_ARRAY_INDEX", "2")
    for line in COMMANDS.splitlines():
        if line.startswith("pyflowreg-session"):
            assert cli.main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    results = session / "final_results"
    for name in ("final_valid_idx.png", "final_valid_idx.npz", "final_valid_idx.mat"):
        assert (results / name).is_file()
    assert len(list(results.glob("aligned_recording_0?.tif"))) == 3
    monkeypatch.chdir(session)
    assert set(execute(BUNDLE)["data"].keys()) >= set(KEYS)


def test_help():
    program = Path(sysconfig.get_path("scripts")) / "pyflowreg-session"
    command = [program] if program.is_file() else [sys.executable, "-m", "pyflowreg.session.cli"]
    result = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "run" in result.stdout
    assert "SLURM_ARRAY_TASK_ID" in result.stdout


@pytest.mark.parametrize("variable", ["SLURM_ARRAY_TASK_ID", "SGE_TASK_ID", "PBS_ARRAY_INDEX"])
def test_array_task_id(session, monkeypatch, variable):
    from pyflowreg.session.config import get_array_task_id

    monkeypatch.setenv(variable, "7")
    assert get_array_task_id() == 7


def test_atomic_saves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = {name: np.arange(k) for k, name in enumerate(("array", "arr1", "arr2"))}
    execute(IMPORTS + ATOMIC, Path=Path, **arrays)
    np.testing.assert_array_equal(np.load("data.npy"), arrays["array"])
    with np.load("data.npz") as data:
        assert set(data) == {"array1", "array2"}
        np.testing.assert_array_equal(data["array2"], arrays["arr2"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npy", "data.npz"]


def test_complete_example(tmp_path, capsys):
    root = tmp_path / "2p_experiment"
    names = [f"recording_{k:03}" for k in (3, 4, 5, 12)]
    save_session(root, names, [(2, 0), (0, -1), (0, 0), (1, 1)], frames=4)
    # `np` is used in the last line and imported nowhere.
    result = execute(COMPLETE.replace("/data/2p_experiment/", f"{root}/"), np=np)
    assert result["middle_idx"] == 2
    assert result["center_file"] == root / "recording_005.tif"
    fields = result["displacement_fields"]
    assert [w.shape for w in fields] == [(40, 48, 2)] * 4
    assert not fields[2].any()
    mask = result["final_mask"]
    assert mask.shape == (40, 48)
    assert mask.dtype == bool
    assert [folder.name for folder in result["output_folders"]] == names
    assert capsys.readouterr().out.splitlines() == [
        "Running Stage 1...",
        "Running Stage 2...",
        "Running Stage 3...",
        f"Final valid region: {mask.sum()} pixels",
    ]
    with np.load(root / "results" / "final_valid_idx.npz") as data:
        assert set(data) - {"recording_names"} == set(KEYS)
        np.testing.assert_array_equal(data["final_valid"], mask)
    for name in names:
        assert (root / "compensated" / name / "w_to_reference.npz").is_file()
        assert (root / "results" / f"aligned_{name}.tif").is_file()
        assert (root / "results" / f"{name}_valid_idx.png").is_file()
