"""Disks that fill up or forbid writing, at any step of any stage: a message, then it goes on.

What is there after the same command ran on a disk that is well again is the same, byte by byte.
"""

import errno
import os
import random
import re
import shutil

import pytest

from pyflowreg.motion_correction import OFOptions, checkpoint, correction
from pyflowreg.motion_correction.compensate import correct_recording
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import save_fields
from pyflowreg.session.stage3_valid_mask import run_stage3

from . import checkpoints as helper
from .disk_faults import FailingDisk, LargestFile, in_child
from .scenes import save_session

STAGES = {1: run_stage1, 2: save_fields, 3: run_stage3}
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EFBIG]
FAULTS = None if "PYFLOWREG_ALL_FAULTS" in os.environ else 5
"""Faults in one test; None injects one at every step there is."""
TOO_LARGE = r"File too large|the disk is full, or files must not become that large"


@pytest.fixture(scope="module")
def finished_bytes(tmp_path_factory):
    """Settings of a session that went through all stages, and its files."""
    root = tmp_path_factory.mktemp("failing") / "data"
    save_session(root, ["rec_1", "rec_2"], [(0, 0), (1, -1)], frames=7, size=(24, 32))
    config = SessionConfig(
        root=root,
        flow_options=helper.FLOW,
        n_workers=1,
        checkpoint_seconds=1e-9,
        iterations_between=5,
    )
    with pytest.MonkeyPatch.context() as patch:
        helper.small_chunks(patch)
        everything(config)
    return config, files(config)


@pytest.fixture
def session(finished_bytes, monkeypatch):
    """The same, in small chunks, on a disk that seems to have room whatever is asked for."""
    helper.small_chunks(monkeypatch)
    monkeypatch.setattr("pyflowreg.io.space.free_bytes", lambda folder: 10**18)
    return finished_bytes


def everything(config):
    for stage in STAGES.values():
        stage(config)


def files(config):
    """Content of every file by its name, also of those that should not be there."""
    return {name: path.read_bytes() for name, path in found(config).items()}


def visible(config):
    return {name: path for name, path in found(config).items() if "/." not in name}


def found(config):
    return {
        str(path.relative_to(config.root)): path
        for folder in ("compensated_outputs", "final_results")
        for path in (config.root / folder).rglob("*")
        if path.is_file()
    }


def forget(config, stage):
    """Remove what the stage, and those after it, have made."""
    output = config.root / "compensated_outputs"
    shutil.rmtree(config.root / "final_results", ignore_errors=True)
    if stage == 1:
        shutil.rmtree(output, ignore_errors=True)
    if stage <= 2:
        for path in (*output.glob("*/w_to*"), *output.glob("stage2_*")):
            path.unlink()
    for path in output.glob("*/stage3_*"):
        path.unlink()


def check_nothing_half(found, whole):
    """Whatever can be seen is complete."""
    assert [name for name, path in found.items() if path.read_bytes() != whole[name]] == []


def check_message(config, message, text):
    assert re.search(text, message), message
    assert str(config.root) in message, message
    assert "cannot be written" in message or "cannot be made" in message, message


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_may_fail(session, stage):
    config, whole = session
    forget(config, stage)
    steps = in_child(lambda: STAGES[stage](config), FailingDisk(str(config.root))).steps
    assert steps > 10
    moments = range(1, steps + 1)
    if FAULTS:
        moments = sorted(random.Random(stage).sample(moments, FAULTS))
    injected = 0
    for moment in moments:
        number = NUMBERS[moment % len(NUMBERS)]
        forget(config, stage)
        disk = FailingDisk(str(config.root), moment, number)
        error, message, count = in_child(lambda: STAGES[stage](config), disk)
        # How often it is saved varies, so there may be fewer steps this time.
        if count >= moment:
            injected += 1
            assert error == "told", (moment, error)
            check_message(config, message, os.strerror(number))
        check_nothing_half(visible(config), whole)
        everything(config)
        made = files(config)
        assert sorted(made) == sorted(whole), moment
        assert [name for name in whole if made[name] != whole[name]] == [], moment
    assert injected > len(moments) / 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_limit_of_the_size_of_files(session, monkeypatch, stage):
    config, whole = session
    monkeypatch.setattr("pyflowreg.motion_correction.disk.check_space", lambda *a, **k: None)
    monkeypatch.setattr("pyflowreg.session.aligned_video.check_space", lambda *a, **k: None)
    sizes = sorted({len(content) - 1 for content in whole.values()})
    limits = sizes if FAULTS is None else random.Random(stage).sample(sizes, FAULTS)
    told = 0
    for limit in limits:
        forget(config, stage)
        error, message, _ = in_child(lambda: STAGES[stage](config), LargestFile(limit))
        assert error in ("", "told"), (limit, error)
        if error:
            told += 1
            check_message(config, message, TOO_LARGE)
        check_nothing_half(visible(config), whole)
        everything(config)
        assert files(config) == whole, limit
    assert told > 0


@pytest.mark.parametrize("format_", ["HDF5", "TIFF", "MAT", "CAIMAN_HDF5", "MULTIFILE_TIFF"])
def test_every_format_goes_on(tmp_path, monkeypatch, format_):
    helper.small_chunks(monkeypatch)
    monkeypatch.setattr("pyflowreg.motion_correction.disk.check_space", lambda *a, **k: None)
    monkeypatch.setattr("pyflowreg.io.space.free_bytes", lambda folder: 10**18)
    config = helper.session(tmp_path / "data", channels=2)
    options = OFOptions(
        input_file=config.root / "rec.tif", output_path=tmp_path / "out", **helper.FLOW
    )
    options.output_format = format_

    def run():
        with checkpoint.claimed(tmp_path / "out" / ".c", {}, 1e-9, "It") as saved:
            correct_recording(options, threads=1, checkpoint=saved)
            saved.remove()
        return {path.name: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")}

    whole = run()
    steps = in_child(run, FailingDisk(str(tmp_path / "out"))).steps
    disks = [FailingDisk(str(tmp_path / "out"), steps * part // 5) for part in (1, 2, 3, 4)]
    largest = max(map(len, whole.values()))
    disks += [LargestFile(largest // 2), LargestFile(largest - 1)]
    for disk in disks:
        for path in (tmp_path / "out").glob("[!.]*"):
            path.unlink()
        error, message, _ = in_child(run, disk)
        assert error == "told", error
        assert re.search(rf"{tmp_path}/out/?\S* cannot be (written|made)", message), message
        check_nothing_half({path.name: path for path in (tmp_path / "out").glob("[!.]*")}, whole)
        assert run() == whole


def test_nothing_is_started_without_room(finished_bytes, monkeypatch):
    """Nor is anything of an earlier run removed."""
    config, whole = finished_bytes
    changed = config.model_copy()
    changed.flow_options = {**config.flow_options, "alpha": 3}
    monkeypatch.setattr("pyflowreg.io.space.free_bytes", lambda folder: 12_000)
    monkeypatch.setattr(correction, "load_reference", None)
    error, message, _ = in_child(lambda: run_stage1(changed), LargestFile(2**40))
    assert error == "told", error
    assert re.search(
        r"Correcting rec_1 needs 0\.\d+ GB of disk space in .*rec_1, 1\.2e-05 GB are free", message
    )
    assert "Free space on that disk, or choose another output folder, and run again" in message
    assert files(config) == whole
