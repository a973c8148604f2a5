"""Fingerprints: which settings, input and software revision a result was made with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg import NUMERICS_REVISION
from pyflowreg.io.atomic import atomic_write_json


def digest(*parts: Any) -> str:
    """Hash of settings (anything JSON can hold) and the numerics revision, hexadecimal."""
    text = json.dumps([NUMERICS_REVISION, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def array_digest(array: NDArray[Any]) -> str:
    """Hash of an array's shape, type and values, hexadecimal."""
    head = f"{array.shape} {array.dtype.str} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def file_identity(path: Path) -> list[Any]:
    """Size and time of change of a file, or of the files in a folder; no content is read."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(entry.name, entry.stat()) for entry in files if not entry.name.startswith(".")]
    if not path.is_dir():
        return [[stat.st_size, stat.st_mtime_ns] for _, stat in stats]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def read_status(path: Path) -> dict[str, Any]:
    """Content of a status file; empty if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_status(path: Path, stage: str, **entries: Any) -> None:
    """Record that `stage` is done."""
    atomic_write_json(path, {stage: "done", **entries})
