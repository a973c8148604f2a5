"""Compiling every kernel before it is needed, for example once before a hundred jobs start.

Nothing here lists the kernels: tiny sessions are run, with all settings that lead to other ones.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pyflowreg.io import open_writer
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import save_fields
from pyflowreg.session.stage3_valid_mask import run_stage3

# Large enough for levels of every combination of number types.
FRAMES, HEIGHT, WIDTH = 4, 76, 72
# Two recordings, so that there is something to align; frames that move, so that nothing is skipped.
RECORDINGS = ("first.h5", "second.h5")
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"precision": "double"},
    {"numerics": "matlab"},
    {"precision": "double", "numerics": "matlab"},
    {"flow_options": {"constancy_assumption": "gray"}, "stage2_constancy_assumption": "gray"},
    {"flow_options": {"constancy_assumption": "cs"}, "stage2_constancy_assumption": "cs"},
)
USUAL, *OTHER_TYPES = "uint16", "int16", "uint8", "float32"


def compile_kernels() -> None:
    """Compile what sessions of one and of two channels need, in every precision and numerics.

    Kernels that are kept from an earlier run are not compiled again. More channels need no others;
    recordings of rare number types do, which the first run compiles.

    Raises
    ------
    OutputError
        If there is no temporary folder with room for a few small files.
    """
    with _only_warnings("pyflowreg.session", "pyflowreg.motion_correction"):
        for channels, settings, dtype in session_settings():
            with tempfile.TemporaryDirectory(prefix="pyflowreg-") as folder:
                run_session(Path(folder), channels, settings, dtype)


def session_settings() -> Iterator[tuple[int, dict[str, Any], str]]:
    """Iterate over channels, settings and number type of the sessions, the usual ones first."""
    for channels in (1, 2):
        for settings in SETTINGS:
            yield channels, settings, USUAL
        for dtype in OTHER_TYPES:
            yield channels, {}, dtype


def run_session(root: Path, channels: int, settings: dict[str, Any], dtype: str) -> None:
    """Run all stages on two recordings of noise that moves by a pixel from frame to frame.

    Parameters
    ----------
    root : Path
        Folder for the recordings and the results.
    channels, settings, dtype
        As from `session_settings`.
    """
    noise = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH, channels)).astype(dtype)
    frames = np.stack([np.roll(noise, frame % 2, axis=1) for frame in range(FRAMES)])
    for name in RECORDINGS:
        with open_writer(root / name, shape=frames.shape, dtype=frames.dtype) as writer:
            writer.write(frames)
        frames = np.roll(frames, 1, axis=1)
    options = {"iterations": 6, "reference_frames": [0, 1]} | settings.get("flow_options", {})
    config = SessionConfig(
        root=root,
        pattern="*.h5",
        n_workers=1,
        **{**settings, "flow_options": options},
    )
    run_stage1(config)
    save_fields(config)
    run_stage3(config)


@contextmanager
def _only_warnings(*names: str) -> Iterator[None]:
    """Hide what the stages report about recordings nobody knows of."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
