"""What a run of the workflow leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

RECORDINGS = ["recording_01", "recording_02", "recording_03"]
RULES_PER_RECORDING = ["inspect_recording", "stage1_compensate", "stage3_align"]


def test_makes_every_file_of_the_session(finished: Any) -> None:
    results = finished.root / "final_results"
    for name in RECORDINGS:
        folder = finished.root / "compensated_outputs" / name
        with h5py.File(folder / "compensated.hdf5") as file:
            assert file["ch1"].shape == (12, 48, 48)
            assert file["ch1"].dtype == np.uint16
        with h5py.File(folder / "idx.hdf") as file:
            assert set(np.unique(file["idx"][()])) <= {0, 255}
        assert np.load(folder / "temporal_average.npy").shape == (48, 48, 1)
        with np.load(folder / "w_to_reference.npz") as field:
            assert field["u"].shape == field["v"].shape == (48, 48)
        for file in ("statistics.npz", "reference_frame.npy", "status.json", "inspect.json"):
            assert (folder / file).stat().st_size > 0
        assert (results / f"aligned_{name}.tif").stat().st_size > 0
        assert (results / f"{name}_valid_idx.png").stat().st_size > 0
        assert (results / f"{name}_valid_idx_aligned.png").stat().st_size > 0
    with np.load(results / "final_valid_idx.npz") as bundle:
        assert bundle["final_valid"].shape == (48, 48)
        assert int(bundle["middle_idx"]) == 1
    assert (results / "final_valid_idx.mat").exists()


def test_writes_nothing_else(finished: Any) -> None:
    strays = [path for path in finished.root.rglob("*") if re.search(r"tmp|\.part", path.name)]
    assert strays == []
    assert sorted(path.name for path in finished.root.iterdir()) == [
        "compensated_outputs",
        "final_results",
        *(f"{name}.tif" for name in RECORDINGS),
        "truth",
    ]


def test_every_job_has_a_log_named_like_its_rule(finished: Any) -> None:
    logs = [f"{rule}/{name}.log" for rule in RULES_PER_RECORDING for name in RECORDINGS]
    logs += ["stage2_between_avgs.log", "stage3_valid_mask.log"]
    for log in logs:
        text = (finished.folder / "logs" / log).read_text()
        assert "numerics revision" in text
        assert "peak memory" in text
        assert text.rstrip().endswith("Done.")


def test_header_holds_what_resources_need(finished: Any) -> None:
    path = finished.root / "compensated_outputs" / "recording_01" / "inspect.json"
    header = json.loads(path.read_text())
    assert header["shape"] == [12, 48, 48, 1]
    assert header["itemsize"] == 2


def test_recordings_are_not_touched(finished: Any, raw_session: Path) -> None:
    for name in RECORDINGS:
        raw = (raw_session / "session" / f"{name}.tif").read_bytes()
        assert (finished.root / f"{name}.tif").read_bytes() == raw


def test_second_run_has_nothing_to_do(finished: Any) -> None:
    result = finished.snakemake()
    assert result.status == 0
    assert "Nothing to be done" in result.text


def test_all_cores_go_to_one_recording(finished_session: Path) -> None:
    text = (finished_session / "output.txt").read_text()
    threads = re.findall(r"rule stage1_compensate:(?:\n    .*)*?\n    threads: (\d+)", text)
    assert threads == ["2"] * 3
