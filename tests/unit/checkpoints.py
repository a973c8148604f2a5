"""A session of one short recording, corrected in small chunks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pyflowreg.motion_correction import correction
from pyflowreg.session import SessionConfig

from .scenes import movie, save_tiff, wobble

FLOW = {
    "quality_setting": "fast",
    "iterations": 2,
    "reference_frames": [0, 1, 2, 3],
    "buffer_size": 5,
    "save_w": True,
}
FRAMES = 12


def session(root: Path, channels: int = 1, **flow: Any) -> SessionConfig:
    """Settings of a session of one recording, saved after every chunk."""
    save_tiff(root / "rec.tif", movie(wobble(FRAMES), (24, 32), channels, noise=0.05))
    options = {**FLOW, **flow}
    return SessionConfig(root=root, flow_options=options, n_workers=1, checkpoint_seconds=1e-9)


def results(config: SessionConfig) -> dict[str, bytes]:
    """Content of every file of the recording, also of those that should not be there."""
    folder = config.root / "compensated_outputs"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def forget(config: SessionConfig) -> None:
    """Remove all results."""
    shutil.rmtree(config.root / "compensated_outputs", ignore_errors=True)


def small_chunks(monkeypatch: Any, length: int = 2) -> None:
    """Correct so many frames at a time."""
    monkeypatch.setattr(correction, "chunk_length", lambda *size: length)
