"""Snakemake, the command line and Python go on from each other's results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1, run_stage1_array
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

from .conftest import SETTINGS, TINY, Workspace, shared

NAMES = ["recording_01", "recording_02", "recording_03"]
STAGE3 = {"stage3_valid_mask": 1, "stage3_align": 3}
STAGE2 = {"stage2_between_avgs": 1, **STAGE3}
ALL = {"stage1_compensate": 3, **STAGE2}
OTHER_STAGE1 = {"flow_options": {**SETTINGS["flow_options"], "alpha": 3}}
OTHER_STAGE2 = {"sigma_smooth": 3.0}


@pytest.fixture(scope="session")
def session_by_command(
    tmp_path_factory: pytest.TempPathFactory, worker_name: str, raw_session: Path
) -> Path:
    """Folder in which the command ran to its end; Snakemake was never there."""

    def make(folder: Path) -> None:
        shutil.copytree(raw_session / "session", folder / "session")
        workspace = Workspace(folder)
        workspace.configure()
        result = workspace.cli()
        assert result.status == 0, result.text

    return shared(tmp_path_factory, worker_name, "command", make)


@pytest.fixture
def by_command(tmp_path: Path, session_by_command: Path) -> Workspace:
    shutil.copytree(session_by_command, tmp_path, dirs_exist_ok=True)
    return Workspace(tmp_path)


def times(workspace: Any, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in workspace.root.glob(pattern)}


def python_config(workspace: Any, **changes: Any) -> SessionConfig:
    return SessionConfig.from_mapping({**SETTINGS, **changes, "root": str(workspace.root)})


def test_nothing_is_left_to_do_after_the_command(by_command: Any) -> None:
    before = times(by_command, "**/*")
    result = by_command.dry_run()
    assert "Nothing to be done" in result.text
    assert times(by_command, "**/*") == before, "a dry run writes nothing"
    for name in NAMES:
        (by_command.root / "compensated_outputs" / name / "inspect.json").unlink()
    assert "Nothing to be done" in by_command.dry_run().text


def test_a_missing_video_is_all_that_is_made_after_the_command(by_command: Any) -> None:
    (by_command.root / "final_results" / "aligned_recording_03.tif").unlink()
    assert by_command.dry_run().jobs == {"stage3_align": 1}


def test_stage_1_of_an_array_is_continued(fresh: Any) -> None:
    for number in range(1, TINY.n_recordings + 1):
        run_stage1_array(python_config(fresh), task_id=number)
    before = times(fresh, "compensated_outputs/*/compensated.hdf5")
    result = fresh.snakemake()
    assert result.status == 0, result.text
    assert result.jobs == STAGE2
    assert times(fresh, "compensated_outputs/*/compensated.hdf5") == before
    assert "Nothing to be done" in fresh.dry_run().text


@pytest.mark.parametrize(
    ("change", "expected"),
    [(OTHER_STAGE1, ALL), (OTHER_STAGE2, STAGE2), ({"center": "recording_03"}, STAGE2)],
    ids=["stage 1", "stage 2", "centre"],
)
def test_other_settings_than_the_command_had(
    by_command: Any, change: dict[str, Any], expected: dict[str, int]
) -> None:
    by_command.configure(**change)
    assert by_command.dry_run().jobs == expected


@pytest.mark.parametrize(
    ("change", "expected"), [(OTHER_STAGE1, ALL), (OTHER_STAGE2, STAGE2)], ids=["1", "2"]
)
def test_there_and_back(finished: Any, change: dict[str, Any], expected: dict[str, int]) -> None:
    config = python_config(finished, **change)
    run_stage1(config)
    middle, _, fields = run_stage2(config)
    run_stage3(config, middle, fields)
    finished.configure(**change)
    assert "Nothing to be done" in finished.dry_run().text
    finished.configure()
    assert finished.dry_run().jobs == expected


def test_a_stage_that_was_only_begun_with_other_settings(finished: Any) -> None:
    run_stage2(python_config(finished, **OTHER_STAGE2))
    assert finished.dry_run().jobs == STAGE2
    finished.configure(**OTHER_STAGE2)
    assert finished.dry_run().jobs == STAGE3


def test_videos_of_outdated_fields_count_as_none(finished: Any) -> None:
    # Stage 3 alone, after a change of a setting of stage 2.
    run_stage3(python_config(finished, **OTHER_STAGE2))
    finished.configure(**OTHER_STAGE2)
    assert finished.dry_run().jobs == STAGE2


def test_given_fields_are_not_taken_for_saved_ones(finished: Any) -> None:
    config = python_config(finished)
    middle, _, fields = run_stage2(config)
    run_stage3(config, middle, [fields[0] + 1, *fields[1:]])
    assert finished.dry_run().jobs == {"stage3_valid_mask": 1, "stage3_align": 1}


def test_a_recording_added_by_the_command(finished: Any) -> None:
    shutil.copy(finished.root / "recording_01.tif", finished.root / "recording_10.tif")
    before = times(finished, "final_results/aligned_*")
    assert finished.cli().status == 0
    after = times(finished, "final_results/aligned_*")
    assert after.pop(finished.root / "final_results" / "aligned_recording_10.tif")
    assert after == before
    assert "Nothing to be done" in finished.dry_run().text


def test_a_recording_removed_after_the_command(by_command: Any) -> None:
    (by_command.root / "recording_03.tif").unlink()
    assert by_command.dry_run().jobs == {"stage3_valid_mask": 1}


def test_a_record_holds_the_settings(finished: Any) -> None:
    folder = finished.root / "compensated_outputs"
    (record,) = (folder / "recording_01").glob("stage2_*.json")
    settings = json.loads(record.read_text())
    assert settings["center"] == "recording_02"
    assert settings["iterations_between"] == 20
    (record,) = (folder / "recording_01").glob("stage1_*.json")
    assert json.loads(record.read_text())["flow_options"]["iterations"] == 10
