"""Names that are legal on a disk and awkward in a workflow."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from pyflowreg.session import cli

LONG = "".join(f"{number:03d}_" for number in range(60))
LONGEST = 233  # bytes, what file systems leave beside the names of results
NAMES = ["-größe{1} a+b\n,c=d", f'it\'s "$x" {LONG}'[:LONGEST]]
MORE = ["--help", "back\\slash", "#;&|!", "[1]*?", "%d 100%", "~", " blank ", "a:1@b", "t\tb"]
MORE += ["x" + "".join(f"ü{number:02d}" for number in range(58))]


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


def test_more_awkward_names(fresh: Any, monkeypatch: Any) -> None:
    """By the command, in one session; a workflow of so many jobs would take minutes."""
    first = fresh.root / "recording_01.tif"
    for name in MORE:
        shutil.copy(first, fresh.root / f"{name}.tif")
    first.unlink()
    monkeypatch.chdir(fresh.folder)
    assert cli.main(["run", "--config", "settings.yaml"]) == 0
    for name in MORE:
        assert (fresh.root / "final_results" / f"aligned_{name}.tif").is_file()
        assert (fresh.root / "compensated_outputs" / name / "w_to_reference.npz").is_file()
    assert "Nothing to be done" in fresh.dry_run().text


@pytest.mark.parametrize("name", ["x{recording}", "a<b>c"])
def test_names_a_snakefile_cannot_hold_are_refused(fresh: Any, name: str) -> None:
    (fresh.root / "recording_01.tif").rename(fresh.root / f"{name}.tif")
    result = fresh.snakemake("-n")
    assert result.status != 0
    assert f"{name}.tif" in result.text
    assert "pyflowreg-session" in result.text
    assert "Traceback" not in result.text
