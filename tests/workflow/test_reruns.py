"""What a change redoes, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

STAGE3 = {"stage3_valid_mask": 1, "stage3_align": 3}
STAGE2 = {"stage2_between_avgs": 1, **STAGE3}
STAGE1 = {"stage1_compensate": 3, "stage2_between_avgs": 1, **STAGE3}
ONE_ADDED = {
    "inspect_recording": 1,
    "stage1_compensate": 1,
    "stage2_between_avgs": 1,
    "stage3_valid_mask": 1,
    "stage3_align": 1,
}
FLOW = {"quality_setting": "fast", "iterations": 10, "reference_frames": [0, 1, 2]}

CHANGES: list[tuple[dict[str, Any], dict[str, int]]] = [
    ({"sigma_smooth": 3.0}, STAGE2),
    ({"stage2_constancy_assumption": "gray"}, STAGE2),
    ({"center": "recording_01.tif"}, STAGE2),
    ({"flow_options": {**FLOW, "alpha": 3}}, STAGE1),
    ({"flow_options": {**FLOW, "save_w": True}}, STAGE1),
    ({"precision": "double"}, {**STAGE1, **STAGE2}),
    ({"flow_backend": "flowreg_cuda"}, {**STAGE1, **STAGE2}),
    ({"backend_params": {"device": "cuda:1"}}, {}),
    ({"align_output_format": "HDF5"}, {"stage3_align": 3}),
    ({"align_chunk_size": 5, "n_workers": 1, "resume": False, "checkpoint_seconds": 5}, {}),
    ({"center": None, "stage2_constancy_assumption": "gradient"}, {}),
]


def aligned_times(workspace: Any) -> dict[str, int]:
    results = workspace.root / "final_results"
    return {path.name: path.stat().st_mtime_ns for path in sorted(results.glob("aligned_*"))}


def field_numbers(workspace: Any) -> dict[str, int]:
    """Numbers of the files of the fields: one that is made again has another."""
    found = workspace.root.glob("compensated_outputs/*/w_to_reference.npz")
    return {path.parent.name: path.stat().st_ino for path in found}


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[str(c)[:40] for c, _ in CHANGES])
def test_a_setting_redoes_what_uses_it(
    finished: Any, change: dict[str, Any], expected: dict[str, int]
) -> None:
    finished.configure(**change)
    result = finished.dry_run()
    assert result.status == 0, result.text
    assert result.jobs == expected
    assert ("Nothing to be done" in result.text) == (not expected)


def test_an_added_and_a_replaced_recording_redo_no_other(finished: Any) -> None:
    shutil.copy(finished.root / "recording_01.tif", finished.root / "recording_10.tif")
    # An older file; Snakemake by itself would not notice.
    shutil.copy(finished.root / "recording_01.tif", finished.root / "recording_03.tif")
    os.utime(finished.root / "recording_03.tif", (1, 1))
    before = aligned_times(finished)
    fields = field_numbers(finished)
    result = finished.snakemake()
    assert result.status == 0, result.text
    per_recording = ("inspect_recording", "stage1_compensate", "stage3_align")
    assert result.jobs == {**ONE_ADDED, **dict.fromkeys(per_recording, 2)}
    assert "recording_03.tif is not what its results were made from" in result.text
    after = aligned_times(finished)
    assert after.pop("aligned_recording_10.tif")
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"aligned_recording_03.tif"}
    same = {name for name, number in field_numbers(finished).items() if fields.get(name) == number}
    assert same == {"recording_01", "recording_02"}
    assert "Nothing to be done" in finished.dry_run().text
    # Nor does the command, although the field of every recording looks newer.
    before = aligned_times(finished)
    assert finished.cli().status == 0
    assert aligned_times(finished) == before


def test_a_changed_recording_redoes_itself(finished: Any) -> None:
    shutil.copyfile(finished.root / "recording_01.tif", finished.root / "recording_03.tif")
    assert finished.dry_run().jobs == ONE_ADDED


def test_a_deleted_video_is_made_again(finished: Any) -> None:
    (finished.root / "final_results" / "aligned_recording_01.tif").unlink()
    assert finished.dry_run().jobs == {"stage3_align": 1}


def test_a_video_left_behind_by_an_interrupted_run_is_found(finished: Any) -> None:
    # As after a run that was killed between stage 1 of one recording and stage 2: stage 2 has to
    # run, and the video is older than the frames it shows.
    folder = finished.root / "compensated_outputs" / "recording_03"
    with (folder / "compensated.hdf5").open("ab") as file:
        file.write(b"\0")
    (folder / "w_to_reference.npz").unlink()
    result = finished.dry_run()
    assert result.jobs["stage2_between_avgs"] == 1
    assert result.jobs["stage3_align"] == 1


def test_forcing_stage_2_redoes_the_videos(finished: Any) -> None:
    result = finished.snakemake("-n", "-q", "rules", "--forcerun", "stage2_between_avgs")
    assert result.jobs == {"stage2_between_avgs": 1, **STAGE3}


def test_without_the_videos_folder_nothing_else_is_redone(finished: Any) -> None:
    shutil.rmtree(finished.root / "final_results")
    assert finished.dry_run().jobs == STAGE3


def test_another_settings_file_replaces_the_default(finished: Any) -> None:
    # A merged file would be refused: the default's root does not exist, nor does its pattern fit.
    config = finished.folder / "config"
    config.mkdir()
    (config / "config.yaml").write_text("root: nowhere\nflow_options: {alpha: 9, eta: 0.5}\n")
    assert "Nothing to be done" in finished.dry_run().text
    default = finished.snakemake("-n", configfile=None)
    assert default.status != 0
    assert "nowhere" in default.text


def test_single_settings_on_the_command_line(finished: Any) -> None:
    config = finished.folder / "config"
    config.mkdir()
    (finished.folder / "settings.yaml").rename(config / "config.yaml")
    assert "Nothing to be done" in finished.snakemake("-n", configfile=None).text
    changed = finished.snakemake(
        "-n", "-q", "rules", "--config", "sigma_smooth=2.5", configfile=None
    )
    assert changed.jobs == STAGE2


def test_editing_documentation_and_code_redoes_nothing(finished: Any, tmp_path: Path) -> None:
    repository = Path(__file__).resolve().parents[2]
    clone = tmp_path / "clone"
    for name in ("Snakefile", "rules", "scripts", "envs", "profiles"):
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, clone / name)
        else:
            clone.mkdir(exist_ok=True)
            shutil.copy(source, clone / name)
    for path in (*clone.glob("scripts/*.py"), *clone.glob("rules/*"), clone / "envs/cpu.yaml"):
        path.write_text(path.read_text() + "\n")
    command = finished.command("-n")
    command[command.index("--snakefile") + 1] = str(clone / "Snakefile")
    result = finished.run(command, PYTHONPATH=str(clone / "scripts"))
    assert "Nothing to be done" in result.text
