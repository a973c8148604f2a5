"""Hostile settings and links through both doors: a message, and nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tifffile

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
SETTINGS = {
    "bomb as weights": BOMB + "root: session\nflow_options: {weight: *a11}\n",
    "call": "root: session\npattern: !!python/object/apply:os.system ['touch pwned']\n",
    "function": "root: session\nflow_options: {preproc_funct: !!python/name:os.system }\n",
}


def files(folder: Path) -> dict[str, bytes]:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def untouched(folder: Path, before: dict[str, bytes]) -> None:
    after = files(folder)
    kept = [name for name in before if name.startswith(("precious/", "session/recording_"))]
    assert kept
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(fresh: Any, name: str) -> None:
    (fresh.folder / "settings.yaml").write_text(SETTINGS[name])
    before = files(fresh.root)
    result = fresh.snakemake("--dry-run")
    assert result.status != 0
    assert "Traceback" not in result.text
    assert len(result.text) < 10_000
    assert files(fresh.root) == before
    assert not (fresh.folder / "pwned").exists()


def test_settings_of_the_command(fresh: Any) -> None:
    (fresh.folder / "settings.yaml").write_text(SETTINGS["bomb as weights"])
    result = fresh.cli()
    assert result.status == 2
    assert "more than 100000 values" in result.text
    assert "Traceback" not in result.text


def test_folder_of_a_recording_that_leads_elsewhere(fresh: Any) -> None:
    precious = fresh.folder / "precious"
    precious.mkdir()
    for name in ("compensated.hdf5", "status.json", "inspect.json"):
        (precious / name).write_text("precious")
    results = fresh.root / "compensated_outputs"
    results.mkdir()
    (results / "recording_01").symlink_to(precious)
    before = files(fresh.root), files(precious)
    for result in (fresh.snakemake("--forceall"), fresh.cli()):
        assert result.status != 0
        assert "recording_01 is a link to" in result.text
        assert "Traceback" not in result.text
    assert (files(fresh.root), files(precious)) == before


def test_results_and_logs_that_lead_elsewhere(fresh: Any) -> None:
    """Also what Snakemake removes before a job, and after one that failed."""
    precious = fresh.folder / "precious"
    precious.mkdir()
    results = fresh.root / "compensated_outputs"
    links = {
        results / "recording_01" / "compensated.hdf5": fresh.root / "recording_01.tif",
        results / "recording_01" / "status.json": precious / "status",
        results / "recording_02" / "temporal_average.npy": fresh.root / "recording_02.tif",
        results / "recording_03" / "compensated.hdf5": fresh.root / "recording_03.tif",
        results / "recording_03" / "idx.hdf": precious / "idx",
        results / "recording_03" / "inspect.json": precious / "header",
        fresh.root / "final_results" / "final_valid_idx.npz": precious / "mask",
        fresh.folder / "logs" / "stage1_compensate" / "recording_01.log": precious / "log",
        fresh.folder / "logs" / "stage1_compensate" / "recording_03.log": precious / "other log",
        fresh.folder / "logs" / "stage2_between_avgs.log": fresh.root / "recording_03.tif",
    }
    for number, (link, target) in enumerate(links.items()):
        link.parent.mkdir(parents=True, exist_ok=True)
        if target.parent == precious:
            target.write_text(f"precious {number}")
        if number % 2:
            os.link(target, link)
        else:
            link.symlink_to(target)
    # Its headers are fine, but a frame cannot be decoded.
    broken = fresh.root / "recording_03.tif"
    frames = tifffile.imread(broken)
    tifffile.imwrite(broken, frames, photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile(broken) as tif:
        place = tif.pages[5].dataoffsets[0]
    with broken.open("r+b") as file:
        file.seek(place)
        file.write(b"\0" * 64)
    fresh.configure(flow_options={"quality_setting": "fast", "iterations": 2, "eta": 0.5})
    before = files(fresh.folder)
    result = fresh.snakemake("--keep-going")
    assert result.status != 0
    assert "recording_03.tif: frame 5 (counted from 0) cannot be decoded" in result.text
    assert (results / "recording_01" / "compensated.hdf5").is_file()
    assert not (results / "recording_01" / "compensated.hdf5").is_symlink()
    untouched(fresh.folder, before)
