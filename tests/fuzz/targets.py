"""What reads files from outside: each target takes the path of a file, which may be anything.

A target returns what happened, "read" or "refused: why". Any exception but ours is a defect, and so
is an array that is not what was announced.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyflowreg.errors import PyflowregError
from pyflowreg.io import open_reader
from pyflowreg.io.fields import iter_fields, iter_masks, mask_shape
from pyflowreg.motion_correction.checkpoint import Checkpoint
from pyflowreg.motion_correction.options_file import read_options
from pyflowreg.motion_correction.reference import read_reference_image
from pyflowreg.session import SessionConfig
from pyflowreg.session.averages import temporal_average
from pyflowreg.session.cli import parse_of_params
from pyflowreg.session.flow_options import checked_flow_options
from pyflowreg.session.saved_fields import read_field, saved_fingerprint
from pyflowreg.session.status import read_status
from pyflowreg.workflow.plan import Plan
from pyflowreg.workflow.resources import read_header, stage1_mem_mb

SIDE = (5, 6)
"""Rows and columns of everything in the valid files."""
MOST = 2**26
"""Bytes of frames that a target reads of one recording."""


def read_recording(path: Path) -> None:
    with open_reader(path) as reader:
        frames, *rest = reader.shape
        assert frames >= 2
        assert min(rest) >= 1
        size = math.prod(rest) * reader.dtype.itemsize
        count = max(1, min(frames, 8, MOST // size))
        for start in {0, frames - count}:
            block = reader.read(start, start + count)
            assert block.shape == (count, *rest)
            assert block.dtype == reader.dtype
            assert block.dtype.isnative


def read_masks(path: Path) -> None:
    frames, height, width = mask_shape(path)
    first = next(iter_masks(path, 4), None)
    assert (first is None) == (frames == 0)
    if first is not None:
        assert first.shape == (min(frames, 4), height, width)
        assert first.dtype == np.uint8


def read_fields(path: Path) -> None:
    first = next(iter_fields(path, 4), None)
    assert first is None or (first.shape[3] == 2 and first.dtype == np.float32)


def read_average(path: Path) -> None:
    paths: Any = SimpleNamespace(temporal_average=path, name="rec", folder=path.parent)
    average = temporal_average(paths)
    assert average.ndim == 3
    assert average.dtype == np.float64
    assert np.isfinite(average).all()


def read_displacement(path: Path) -> None:
    field = read_field(path)
    assert field is None or (field.ndim == 3 and field.shape[2] == 2)
    fingerprint = saved_fingerprint(path)
    assert fingerprint is None or isinstance(fingerprint, str)


def read_record(path: Path) -> None:
    folder = path.parent / "checkpoint"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "record.npz").symlink_to(path)
    lock: Any = SimpleNamespace(folder=folder, path=folder / "lock")
    state = Checkpoint(lock, {"input": "abc"}, 30.0).state
    assert state is None or all(isinstance(array, np.ndarray) for array in state.values())


def read_reference(path: Path) -> None:
    image = read_reference_image(path, (*SIDE, 1))
    assert image.shape == (*SIDE, 1)
    assert np.isfinite(image).all()


def read_flow_options(path: Path) -> None:
    read_options(path)
    checked_flow_options(path)


def read_status_file(path: Path) -> None:
    assert isinstance(read_status(path), dict)


def read_header_file(path: Path) -> None:
    assert stage1_mem_mb(read_header(path)) > 0


def read_settings(path: Path) -> None:
    SessionConfig.from_file(path)


def read_of_params(path: Path) -> None:
    entries = path.read_text(encoding="utf-8", errors="surrogateescape").split("\x01")
    checked_flow_options(parse_of_params(entries))


def read_workflow_settings(path: Path) -> None:
    """As Snakemake does: its own loader first, which may make anything of a file."""
    import yaml

    try:
        content = yaml.load(path.read_bytes(), Loader=yaml.FullLoader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, LookupError):
        return  # Snakemake's own message
    if isinstance(content, dict):
        Plan.from_mapping(content)


@dataclass(frozen=True)
class Target:
    """A reader: the suffix its files have, and what it does."""

    suffix: str
    read: Callable[[Path], None]


TARGETS = {
    "tiff": Target(".tif", read_recording),
    "hdf5": Target(".h5", read_recording),
    "mat5": Target(".mat", read_recording),
    "mat73": Target(".mat", read_recording),
    "masks": Target(".hdf", read_masks),
    "fields": Target(".h5", read_fields),
    "average": Target(".npy", read_average),
    "displacement": Target(".npz", read_displacement),
    "record": Target(".npz", read_record),
    "reference_npy": Target(".npy", read_reference),
    "reference_tiff": Target(".tif", read_reference),
    "reference_image": Target(".png", read_reference),
    "flow_options": Target(".json", read_flow_options),
    "status": Target(".json", read_status_file),
    "header": Target(".json", read_header_file),
    "yaml": Target(".yaml", read_settings),
    "toml": Target(".toml", read_settings),
    "of_params": Target(".txt", read_of_params),
    "workflow": Target(".yaml", read_workflow_settings),
}


def outcome(name: str, path: Path) -> str:
    """Let a target read a file; every exception that is not ours passes.

    Returns
    -------
    str
        "read", or "refused: " and the message.
    """
    try:
        TARGETS[name].read(path)
    except PyflowregError as error:
        text = str(error)
        assert text.strip(), "an empty message"
        assert len(text) < 20_000, f"a message of {len(text)} characters"
        assert "Traceback" not in text
        return f"refused: {text}"
    return "read"
