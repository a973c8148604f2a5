"""Files that are not what a stage wrote: noticed by every stage that reads them, and made again.

The table says, for each file and each stage, what happens when the file is damaged. Whatever it
is, one more run of all stages leaves the same bytes as if nothing had happened.
"""

import os

import pytest

from pyflowreg.errors import PyflowregError
from pyflowreg.session import SessionConfig, cli
from pyflowreg.session.discovery import discover_recordings
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import save_fields
from pyflowreg.session.stage3_valid_mask import align_recording, compute_final_mask, run_stage3
from pyflowreg.workflow.intact import find_damage, put_right
from pyflowreg.workflow.plan import Plan

from . import checkpoints as helper
from . import damages
from .scenes import save_session

MADE = "it makes the file again"
TOLD = "it ends with an error that names the file; the next run of all stages makes it again"
UNREAD = "it does not read the file"

TABLE = {
    #                       stage 1  stage 2  mask    align
    "compensated.hdf5": (MADE, UNREAD, UNREAD, TOLD),
    "idx.hdf": (MADE, UNREAD, TOLD, UNREAD),
    "temporal_average.npy": (MADE, MADE, MADE, MADE),
    "statistics.npz": (MADE, UNREAD, UNREAD, UNREAD),
    "reference_frame.npy": (MADE, UNREAD, UNREAD, UNREAD),
    "w.h5": (MADE, UNREAD, UNREAD, UNREAD),
    "status.json": (MADE, TOLD, TOLD, TOLD),
    "w_to_reference.npz": (UNREAD, MADE, TOLD, TOLD),
}
STAGES = {
    "stage 1": run_stage1,
    "stage 2": save_fields,
    "mask": compute_final_mask,
    "align": lambda config: align_recording(config, discover_recordings(config)[0]),
}
ALL = "PYFLOWREG_ALL_FAULTS" in os.environ


def damages_of(name, outcome):
    """Those that are worth the time; all if asked for."""
    few = 1 if outcome == UNREAD else 3
    return damages.DAMAGES[name][: None if ALL else few]


CASES = [
    pytest.param(name, change, stage, outcome, id=f"{name}-{change.__name__}-{stage}")
    for name, outcomes in TABLE.items()
    for stage, outcome in zip(STAGES, outcomes, strict=True)
    for change in damages_of(name, outcome)
]
DAMAGES = [
    pytest.param(name, change, id=f"{name}-{change.__name__}")
    for name, changes in damages.DAMAGES.items()
    for change in changes
]
FIRST = [
    pytest.param(name, change, id=f"{name}-{change.__name__}")
    for name, changes in damages.DAMAGES.items()
    for change in changes[: None if ALL else 1]
]
SAME_LENGTH = {damages.flipped, damages.of_the_other}


def everything(config):
    run_stage1(config)
    save_fields(config)
    run_stage3(config)


def files(config):
    return {
        str(path.relative_to(config.root)): path.read_bytes()
        for folder in ("compensated_outputs", "final_results")
        for path in (config.root / folder).rglob("*")
        if path.is_file()
    }


def restore(config, whole):
    """Put back what differs."""
    now = files(config)
    for name, content in whole.items():
        if now.get(name) != content:
            (config.root / name).write_bytes(content)


@pytest.fixture(scope="module")
def _session(tmp_path_factory):
    root = tmp_path_factory.mktemp("truths") / "data"
    save_session(root, ["rec_1", "rec_2"], [(0, 0), (1, -1)], frames=7, size=(24, 32))
    config = SessionConfig(root=root, flow_options=helper.FLOW, n_workers=1, iterations_between=5)
    everything(config)
    return config, files(config)


@pytest.fixture
def session(_session):
    """Settings of a session with all stages done, and its files; they are put back afterwards."""
    config, whole = _session
    yield _session
    restore(config, whole)
    for name in set(files(config)) - set(whole):
        (config.root / name).unlink()


@pytest.mark.parametrize(("name", "change", "stage", "outcome"), CASES)
def test_what_a_stage_does(session, caplog, name, change, stage, outcome):
    config, whole = session
    path = config.root / "compensated_outputs" / "rec_1" / name
    key = str(path.relative_to(config.root))
    change(path)
    damaged = path.read_bytes()
    assert damaged != whole[key]
    if outcome == TOLD:
        with pytest.raises(PyflowregError) as caught:
            STAGES[stage](config)
        assert str(path) in str(caught.value)
        assert "again" in str(caught.value)
    else:
        STAGES[stage](config)
        if outcome == MADE:
            assert path.read_bytes() == whole[key]
            assert str(path) in caplog.text or name == "w_to_reference.npz"
        else:
            assert path.read_bytes() == damaged
    everything(config)
    made = files(config)
    assert sorted(made) == sorted(whole)
    assert [name for name in whole if made[name] != whole[name]] == []


@pytest.mark.parametrize(("name", "change"), FIRST)
def test_the_command_makes_it_again(session, tmp_path, name, change):
    config, whole = session
    change(config.root / "compensated_outputs" / "rec_1" / name)
    settings = tmp_path / "settings.yaml"
    flow = "".join(f"  {key}: {value}\n" for key, value in helper.FLOW.items())
    settings.write_text(
        f"root: {config.root}\nn_workers: 1\niterations_between: 5\nflow_options:\n{flow}"
    )
    assert cli.main(["run", "--config", str(settings)]) == 0
    assert files(config) == whole


@pytest.mark.parametrize(("name", "change"), DAMAGES)
def test_the_workflow_sees_it_before_its_first_job(session, name, change):
    """Unless the length is right: then the job sees it that reads the file."""
    config, whole = session
    path = config.root / "compensated_outputs" / "rec_1" / name
    change(path)
    recordings = tuple(discover_recordings(config))
    found = find_damage(Plan(config, recordings, recordings[1]))
    if path.stat().st_size == len(whole[str(path.relative_to(config.root))]):
        assert found == []
        assert change in SAME_LENGTH
        return
    (damage,) = found
    assert str(path) in damage.remark
    assert damage.target.exists()
    damage.withdraw()
    assert not damage.target.exists()


@pytest.mark.parametrize("door", ["library", "workflow"])
def test_a_garbled_record_of_stage_1_is_written_again(session, door):
    """It says nothing that is not known; no frame is made again for it."""
    config, whole = session
    (record,) = config.root.glob("compensated_outputs/rec_1/stage1_*.json")
    frames = record.parent / "compensated.hdf5"
    before, made = record.stat().st_mtime_ns, frames.stat().st_mtime_ns
    record.write_bytes(b"\x00garbled")
    os.utime(record, ns=(before, before))
    if door == "library":
        (record.parent / "inspect.json").unlink()
        run_stage1(config)
    else:
        recordings = tuple(discover_recordings(config))
        put_right(Plan(config, recordings, recordings[1]), [])
    assert files(config) == whole
    assert record.stat().st_mtime_ns == before
    assert frames.stat().st_mtime_ns == made


FINAL = [
    "final_valid_idx.npz",
    "final_valid_idx.mat",
    "final_valid_idx.png",
    "rec_1_valid_idx.png",
    "rec_2_valid_idx_aligned.png",
    "aligned_rec_1.tif",
]


@pytest.mark.parametrize("name", FINAL)
@pytest.mark.parametrize("change", [damages.truncated, damages.empty])
def test_final_results(session, name, change):
    config, whole = session
    path = config.root / "final_results" / name
    change(path)
    recordings = tuple(discover_recordings(config))
    (damage,) = find_damage(Plan(config, recordings, recordings[1]))
    assert str(path) in damage.remark
    run_stage3(config)
    assert files(config) == whole
