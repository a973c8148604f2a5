"""Files and folders that may not be read or written: a message, and it goes on once they may."""

import re
import sys
from pathlib import Path

import pytest

from pyflowreg.session import SessionConfig, cli
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import save_fields
from pyflowreg.session.stage3_valid_mask import run_stage3

from . import checkpoints as helper
from .disk_faults import NoPrivileges, in_child
from .scenes import save_session

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how root gives up its privileges")

OUTPUT = "compensated_outputs"
STAGES = {1: run_stage1, 2: save_fields, 3: run_stage3}
# What is made inaccessible, the stage that is run then, and what the message has to say.
CASES = [
    (".", 0o000, 1, r"root: there is no permission to read the folder"),
    ("rec_1.tif", 0o000, 1, r"rec_1\.tif cannot be opened: Permission denied"),
    (OUTPUT, 0o555, 1, r"output_root: .*compensated_outputs.* no permission to write"),
    (f"{OUTPUT}/rec_2", 0o555, 1, r"rec_2/\S+ cannot be (written|made): Permission denied"),
    (f"{OUTPUT}/rec_2/temporal_average.npy", 0o000, 2, r"temporal_average\.npy cannot be read: P"),
    (f"{OUTPUT}/rec_1", 0o555, 2, r"rec_1/stage2_\w+\.json cannot be written: Permission"),
    (f"{OUTPUT}/rec_1/idx.hdf", 0o000, 3, r"idx\.hdf cannot be read.*Permission denied"),
    (f"{OUTPUT}/rec_1/compensated.hdf5", 0o000, 3, r"compensated\.hdf5.* Permission denied"),
    (f"{OUTPUT}/rec_1/w_to_reference.npz", 0o000, 3, r"w_to_reference\.npz cannot be read"),
    (f"{OUTPUT}/rec_1/status.json", 0o000, 3, r"status\.json cannot be read: Permission denied"),
    ("final_results", 0o555, 3, r"final_results: .* cannot be written: there is no permission"),
]


def everything(config):
    for stage in STAGES.values():
        stage(config)


def files(config):
    return {
        str(path.relative_to(config.root)): path.read_bytes()
        for folder in (OUTPUT, "final_results")
        for path in (config.root / folder).rglob("*")
        if path.is_file()
    }


def forget(config, stage):
    """Remove what the stage has to make; its folders stay."""
    patterns = {
        1: [f"{OUTPUT}/rec_2/[!w]*"],
        2: [f"{OUTPUT}/*/w_to_reference.npz"],
        3: ["final_results/*"],
    }
    for pattern in patterns[stage]:
        for path in filter(Path.is_file, config.root.glob(pattern)):
            path.unlink()


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    root = tmp_path_factory.mktemp("permissions") / "data"
    save_session(root, ["rec_1", "rec_2"], [(0, 0), (1, -1)], frames=7, size=(24, 32))
    config = SessionConfig(root=root, flow_options=helper.FLOW, n_workers=1, iterations_between=5)
    everything(config)
    return config, files(config)


@pytest.mark.parametrize(("name", "mode", "stage", "message"), CASES)
def test_what_is_inaccessible_is_told(session, name, mode, stage, message):
    config, whole = session
    forget(config, stage)
    path = config.root / name
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        outcome = in_child(lambda: STAGES[stage](config), NoPrivileges())
    finally:
        path.chmod(before)
    assert outcome.error == "told", outcome.error
    assert re.search(message, outcome.message), outcome.message
    everything(config)
    assert files(config) == whole


def test_a_folder_of_recordings_that_is_read_only(session, tmp_path):
    """Results elsewhere; nothing is written beside the recordings, nor is one changed."""
    config, whole = session
    other = config.model_copy()
    other.output_root, other.final_results = tmp_path / "out", tmp_path / "final"
    before = {path: path.stat() for path in config.root.iterdir()}
    config.root.chmod(0o555)
    for path in config.root.glob("*.tif"):
        path.chmod(0o444)
    try:
        outcome = in_child(lambda: everything(other), NoPrivileges())
    finally:
        config.root.chmod(0o755)
    assert outcome.error == "", outcome.error
    for path in config.root.glob("*.tif"):
        path.chmod(0o644)
        assert path.stat().st_mtime_ns == before[path].st_mtime_ns
    assert sorted(before) == sorted(config.root.iterdir())
    frames = (tmp_path / "out" / "rec_1" / "compensated.hdf5").read_bytes()
    assert frames == whole[f"{OUTPUT}/rec_1/compensated.hdf5"]


def test_the_command_has_one_line_and_a_status(session, tmp_path, capfd):
    config, _ = session
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"root: {config.root}\noutput_root: {tmp_path / 'locked' / 'out'}\n")
    (tmp_path / "locked").mkdir(mode=0o555)

    def work():
        assert cli.main(["run", "--config", str(settings)]) == 2

    assert in_child(work, NoPrivileges()).error == ""
    text = capfd.readouterr().err
    assert f"out cannot be written: there is no permission to write in {tmp_path}" in text
    assert "Traceback" not in text
