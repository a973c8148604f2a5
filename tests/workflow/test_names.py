"""Names that are legal on a disk and awkward in a workflow."""

from __future__ import annotations

from typing import Any

import pytest

NAMES = ["größe{1} a+b", "it's $x"]


def test_awkward_names_work(fresh: Any) -> None:
    folder = fresh.folder / "my {project} é+1"
    fresh.root.rename(folder)
    (folder / "recording_03.tif").unlink()
    for name, recording in zip(NAMES, sorted(folder.glob("*.tif")), strict=True):
        recording.rename(folder / f"{name}.tif")
    fresh.configure(root=folder.name, center=f"{NAMES[0]}.tif")
    result = fresh.snakemake()
    assert result.status == 0, result.text
    for name in NAMES:
        assert (folder / "final_results" / f"aligned_{name}.tif").is_file()
        assert (folder / "compensated_outputs" / name / "w_to_reference.npz").is_file()
    assert "Nothing to be done" in fresh.dry_run().text


@pytest.mark.parametrize("name", ["x{recording}", "a<b>c"])
def test_names_a_snakefile_cannot_hold_are_refused(fresh: Any, name: str) -> None:
    (fresh.root / "recording_01.tif").rename(fresh.root / f"{name}.tif")
    result = fresh.snakemake("-n")
    assert result.status != 0
    assert f"{name}.tif" in result.text
    assert "pyflowreg-session" in result.text
    assert "Traceback" not in result.text
