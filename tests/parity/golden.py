"""Access to the golden files, and the comparison every one of them states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "data" / "golden"
CASES = sorted(path.stem for path in FOLDER.glob("g[01][0-9]_*.npz") if "trace" not in path.name)
FLOW_OPTIONS = ("alpha", "a_data", "weight", "eta", "a_smooth", "levels", "iterations")


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as data:
        arrays = {key: data[key] for key in data}
    for key, factor in (("f1", 8192), ("f2", 8192), ("w_true", 16384)):
        if f"{key}_times_{factor}" in arrays:
            arrays[key] = arrays.pop(f"{key}_times_{factor}") / factor
    return arrays


def flow_options(case: dict[str, np.ndarray]) -> dict[str, Any]:
    options: dict[str, Any] = {
        key: case[key].tolist() if case[key].ndim < 2 else case[key]
        for key in (*FLOW_OPTIONS, "update_lag", "min_level")
    }
    if "uv_init" in case:
        options["uv"] = case["uv_init"]
    return options


def saved_rows(case: dict[str, np.ndarray], w: np.ndarray) -> np.ndarray:
    return w[case["rows_saved"]] if "rows_saved" in case else w


def difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Mean, 99th percentile and maximum of |a - b|."""
    error = np.abs(a - b)
    return float(error.mean()), float(np.percentile(error, 99)), float(error.max())


def end_point_error(case: dict[str, np.ndarray], w: np.ndarray) -> float:
    return float(np.hypot(*np.moveaxis(saved_rows(case, w) - case["w_true"], -1, 0)).mean())
