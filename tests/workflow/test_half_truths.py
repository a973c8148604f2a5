"""Damaged and half-written results: the workflow and the command name them and make them again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pyflowreg.session import cli

from .conftest import Workspace

THOROUGH = pytest.mark.skipif(
    "PYFLOWREG_ALL_FAULTS" not in os.environ, reason="make test-faults does it"
)


def files(workspace: Workspace) -> dict[str, bytes]:
    return {
        str(path.relative_to(workspace.root)): path.read_bytes()
        for folder in ("compensated_outputs", "final_results")
        for path in (workspace.root / folder).rglob("*")
        if path.is_file()
    }


def check_same(workspace: Workspace, whole: dict[str, bytes]) -> None:
    made = files(workspace)
    assert sorted(made) == sorted(whole)
    assert [name for name in whole if made[name] != whole[name]] == []


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1 - len(content) // 5] ^= 4
    path.write_bytes(content)


def test_what_has_the_wrong_length_is_made_again_at_once(finished: Workspace) -> None:
    """One of every kind of result. The dry run says the same, and changes nothing."""
    whole = files(finished)
    output = finished.root / "compensated_outputs"
    damaged = [
        output / "recording_01" / "compensated.hdf5",
        output / "recording_02" / "w_to_reference.npz",
        finished.root / "final_results" / "final_valid_idx.mat",
        finished.root / "final_results" / "aligned_recording_03.tif",
    ]
    for path in damaged:
        truncate(path)
    before = files(finished)
    preview = finished.dry_run()
    assert files(finished) == before
    assert preview.jobs["stage1_compensate"] == 1
    result = finished.snakemake()
    assert result.status == 0, result.text
    assert preview.jobs == result.jobs
    for path in damaged:
        name = str(path.relative_to(finished.folder))
        assert f"{name} has {path.stat().st_size // 2} bytes instead of" in result.text
    check_same(finished, whole)
    assert "Nothing to be done" in finished.dry_run().text


def test_what_only_its_content_shows_is_told_by_the_job(finished: Workspace) -> None:
    """Then the same command makes it again."""
    whole = files(finished)
    idx = finished.root / "compensated_outputs" / "recording_03" / "idx.hdf"
    flip(idx)
    result = finished.snakemake()
    assert result.status != 0
    assert f"{idx.relative_to(finished.folder)} does not hold what was written" in result.text
    assert "recording_03 no longer counts as corrected" in result.text
    assert "Traceback" not in result.text
    again = finished.snakemake()
    assert again.status == 0, again.text
    assert again.jobs["stage1_compensate"] == 1
    check_same(finished, whole)
    assert "Nothing to be done" in finished.dry_run().text


@THOROUGH
def test_an_average_is_made_again_from_the_frames(finished: Workspace) -> None:
    whole = files(finished)
    average = finished.root / "compensated_outputs" / "recording_02" / "temporal_average.npy"
    flip(average)
    result = finished.snakemake()
    assert result.status == 0, result.text
    assert "stage1_compensate" not in result.jobs
    check_same(finished, whole)


@THOROUGH
def test_a_status_that_is_none(finished: Workspace) -> None:
    whole = files(finished)
    status = finished.root / "compensated_outputs" / "recording_01" / "status.json"
    status.write_text("{")
    result = finished.snakemake()
    assert result.status == 0, result.text
    assert f"{status.relative_to(finished.folder)} is damaged" in result.text
    assert result.jobs["stage1_compensate"] == 1
    check_same(finished, whole)


def half_written(path: Path, frames: int) -> None:
    """What the reference implementation leaves when it is killed: the name, and some frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "ch1", (frames, 48, 48), np.uint16, maxshape=(None, 48, 48), chunks=(1, 48, 48)
        )
        dataset[:] = 7


def truncated(path: Path) -> None:
    """The same, killed before the file was closed."""
    half_written(path, 12)
    truncate(path)


CRASHES: dict[str, Any] = {
    "fewer frames": lambda path: half_written(path, 5),
    "truncated": truncated,
    "empty": lambda path: path.write_bytes(b""),
}


def command(workspace: Workspace, monkeypatch: Any, *arguments: str) -> int:
    """The command, in this process."""
    monkeypatch.chdir(workspace.folder)
    return cli.main(["run", "--config", "settings.yaml", *arguments])


@pytest.mark.parametrize(
    ("door", "crash"),
    [
        *(pytest.param("cli", crash, id=f"cli-{name}") for name, crash in CRASHES.items()),
        pytest.param("snakemake", CRASHES["fewer frames"], id="snakemake-fewer frames"),
    ],
)
def test_the_crash_that_the_reference_implementation_takes_for_finished(
    fresh: Workspace, finished_session: Path, monkeypatch: Any, door: str, crash: Any
) -> None:
    """Beside the frames lies all that its own check asks for, of the same recording."""
    whole = files(Workspace(finished_session))
    folder = fresh.root / "compensated_outputs" / "recording_01"
    folder.mkdir(parents=True)
    made = finished_session / "session" / "compensated_outputs" / "recording_01"
    for name in ("idx.hdf", "temporal_average.npy", "statistics.npz", "reference_frame.npy"):
        shutil.copy(made / name, folder)
    (folder / "status.json").write_text('{"stage1": "done"}')
    crash(folder / "compensated.hdf5")
    if door == "cli":
        assert command(fresh, monkeypatch) == 0
    else:
        result = fresh.snakemake()
        assert result.status == 0, result.text
    now = files(fresh)
    # A copied recording has another time, so another fingerprint.
    changed = {name for name in whole if now.get(name) != whole[name]}
    assert {Path(name).name for name in changed} <= {"status.json"}
    assert sorted(now) == sorted(whole)


@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
@pytest.mark.parametrize("stage", ["2", "3"])
def test_later_stages_refuse_it_as_well(
    fresh: Workspace, monkeypatch: Any, capsys: Any, crash: Any, stage: str
) -> None:
    """Files of other programs are taken as they are, but only if they can be whole."""
    output = fresh.root / "compensated_outputs"
    for number in (1, 2, 3):
        folder = output / f"recording_0{number}"
        half_written(folder / "compensated.HDF5", 12)
        with h5py.File(folder / "idx.hdf", "w") as file:
            file["idx"] = np.ones((12, 48, 48), np.uint8)
        np.savez(folder / "w_to_reference.npz", u=np.zeros((48, 48)), v=np.zeros((48, 48)))
    broken = output / "recording_03" / "compensated.HDF5"
    crash(broken)
    assert command(fresh, monkeypatch, "--stage", stage) == 2
    assert str(broken.relative_to(fresh.folder)) in capsys.readouterr().err
    half_written(broken, 12)
    assert command(fresh, monkeypatch, "--stage", stage) == 0
