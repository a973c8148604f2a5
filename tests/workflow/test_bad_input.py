"""Input and settings nobody can work with: one message, no job, through both doors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

Break = Callable[[Any], None]


def _movie(path: Path, *shape: int) -> None:
    tifffile.imwrite(path, np.ones(shape, np.uint16), photometric="minisblack")


def misspelt_key(workspace: Any) -> None:
    workspace.configure(sigma_smoth=3.0)


def misspelt_flow_option(workspace: Any) -> None:
    workspace.configure(flow_options={"alhpa": 3})


def wrong_type_and_range(workspace: Any) -> None:
    workspace.configure(cc_upsample="four", alpha_between=-1.0)


def no_root(workspace: Any) -> None:
    workspace.configure(root="sesion")


def nothing_matches(workspace: Any) -> None:
    workspace.configure(pattern="*.h5")


def foreign_center(workspace: Any) -> None:
    workspace.configure(center="recording_07.tif")


def same_stem(workspace: Any) -> None:
    shutil.copy(workspace.root / "recording_01.tif", workspace.root / "recording_01.tiff")
    workspace.configure(pattern="*.tif*")


def other_sizes(workspace: Any) -> None:
    _movie(workspace.root / "recording_04.tif", 12, 40, 48)
    _movie(workspace.root / "recording_05.tif", 12, 48, 52)


def garbage_and_truncated(workspace: Any) -> None:
    (workspace.root / "recording_04.tif").write_bytes(b"not a TIFF at all" * 100)
    path = workspace.root / "recording_03.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_frame(workspace: Any) -> None:
    _movie(workspace.root / "recording_04.tif", 48, 48)


def no_reference_image(workspace: Any) -> None:
    workspace.configure(flow_options={"reference_frames": "template.tif"})


def no_such_device(workspace: Any) -> None:
    # Missing with and without PyTorch, with and without a GPU.
    workspace.configure(flow_backend="flowreg_torch", backend_params={"device": "cuda:63"})


def settings_without_effect(workspace: Any) -> None:
    workspace.configure(flow_backend="diso", alpha_between=9.0, flow_options={"alpha": 3})


CASES: list[tuple[Break, list[str]]] = [
    (misspelt_key, ["sigma_smoth", "did you mean sigma_smooth"]),
    (misspelt_flow_option, ["flow_options.alhpa", "did you mean alpha"]),
    (wrong_type_and_range, ["cc_upsample", "four", "alpha_between", "-1"]),
    (no_root, ["root", "sesion", "does not exist"]),
    (nothing_matches, ["pattern", "*.h5", "recording_01.tif"]),
    (foreign_center, ["center", "recording_07.tif", "recording_01.tif"]),
    (same_stem, ["recording_01.tif", "recording_01.tiff"]),
    (other_sizes, ["recording_04.tif", "40 x 48", "recording_05.tif", "48 x 52"]),
    (garbage_and_truncated, ["recording_03.tif", "recording_04.tif"]),
    (one_frame, ["recording_04.tif", "one frame"]),
    (no_reference_image, ["reference_frames", "template.tif"]),
    (no_such_device, ["flow_backend flowreg_torch is not available"]),
    (settings_without_effect, ["alpha_between: 9.0", "flow_options.alpha: 3.0", "diso"]),
]
IDS = [broken.__name__ for broken, _ in CASES]


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def check(result: Any, expected: list[str]) -> None:
    assert result.status != 0, result.text
    for text in expected:
        assert text in result.text
    assert "Traceback" not in result.text
    assert 'File "' not in result.text


@pytest.mark.parametrize(("broken", "expected"), CASES, ids=IDS)
def test_workflow_stops_before_the_first_job(
    fresh: Any, broken: Break, expected: list[str]
) -> None:
    broken(fresh)
    before = snapshot(fresh.root)
    result = fresh.snakemake()
    check(result, expected)
    assert "Finished jobid" not in result.text
    assert snapshot(fresh.root) == before


@pytest.mark.parametrize(("broken", "expected"), CASES, ids=IDS)
def test_command_line_stops_before_the_first_recording(
    fresh: Any, broken: Break, expected: list[str]
) -> None:
    broken(fresh)
    before = snapshot(fresh.root)
    result = fresh.cli()
    check(result, expected)
    assert result.status == 2
    assert snapshot(fresh.root) == before


def test_settings_that_are_no_settings(fresh: Any) -> None:
    (fresh.folder / "settings.yaml").write_text("- just\n- a list\n")
    result = fresh.snakemake("-n")
    assert result.status != 0
    assert "Traceback" not in result.text
    assert 'File "' not in result.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(fresh: Any) -> None:
    fresh.root.chmod(0o555)
    try:
        result = fresh.snakemake()
    finally:
        fresh.root.chmod(0o755)
    check(result, ["output_root", "permission"])


def test_frames_without_structure_never_give_nan(finished: Any) -> None:
    # A result or a message are both fine.
    _movie(finished.root / "recording_03.tif", 12, 48, 48)
    result = finished.snakemake()
    if result.status == 0:
        folder = finished.root / "compensated_outputs" / "recording_03"
        with np.load(folder / "w_to_reference.npz") as field:
            assert np.isfinite(field["u"]).all()
            assert np.isfinite(field["v"]).all()
    else:
        assert "recording_03" in result.text
        assert "Traceback" not in result.text
