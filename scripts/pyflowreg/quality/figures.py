"""The before/after picture of a session."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pyflowreg.core.warping import warp_frame
from pyflowreg.errors import ConfigError
from pyflowreg.io import open_reader
from pyflowreg.io.arrays import read_npz
from pyflowreg.io.atomic import atomic_write_bytes
from pyflowreg.quality.metrics import (
    Image,
    displacement_summary,
    load_field,
    movie_average,
)
from pyflowreg.session.averages import temporal_average
from pyflowreg.session.discovery import centre_index, discover_recordings
from pyflowreg.session.outputs import session_paths

if TYPE_CHECKING:
    from pyflowreg.session.config import SessionConfig
    from pyflowreg.session.discovery import Recording
    from pyflowreg.session.outputs import SessionPaths

DPI = 150
_INK = "0.15"
_MASK = "#f0c000"


def before_after_figure(
    config: SessionConfig, path: Path | str, *, recording: str | None = None, channel: int = 0
) -> Path:
    """Draw what the correction did: within one recording, and between it and the centre.

    Top: a raw frame, the average of the raw and of the corrected frames. Bottom: averages of the
    centre (magenta) and of the recording (green) before and after alignment, white where the two
    agree, with the outline of the final mask; and the displacement between them.

    Parameters
    ----------
    config : SessionConfig
        A session that went through stage 3.
    path : path-like
        The PNG to write. Equal files in, equal file out.
    recording : str, optional
        Name of the recording; the one that moved most, but not the centre, if not given.
    channel : int, default 0
        Channel to show.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError
        If the session has no such recording.

    Raises
    ------
    ConfigError
        If the recordings or the centre cannot be found.
    InputError
        If results of a stage are missing or cannot be read.
    StopIteration
        If there is no recording of that name.
    IndexError
        If there is no such channel.
    OutputError
        If the PNG cannot be written.
    """
    recordings = discover_recordings(config)
    centre = recordings[centre_index(config, recordings)]
    paths = session_paths(config)
    shown = _choose(recordings, centre, paths, recording)
    files = paths.recording(shown.name)
    with open_reader(shown.path, config.input_options) as reader:
        raw = movie_average(reader)
        single = reader.read(reader.shape[0] // 2, reader.shape[0] // 2 + 1)[0].astype(np.float64)
    corrected = temporal_average(files)
    reference = temporal_average(paths.recording(centre.name))
    field = load_field(files.w_to_reference)
    aligned = warp_frame(corrected, field, np.zeros_like(corrected))
    mask = read_npz(paths.final_npz)["final_valid"].astype(bool)
    figure = _draw(
        [image[..., channel] for image in (single, raw, corrected, reference, aligned)],
        field,
        mask,
        (shown.name, centre.name),
    )
    picture = io.BytesIO()
    # no software version in the file, so that it changes only if the picture does
    figure.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
    atomic_write_bytes(path, picture.getvalue())
    return Path(path)


def _choose(
    recordings: list[Recording], centre: Recording, paths: SessionPaths, name: str | None
) -> Recording:
    """Return the recording called `name`, or the one other than the centre that moved most."""
    if name is not None:
        found = next((r for r in recordings if r.name == name), None)
        if found is None:
            known = ", ".join(r.name for r in recordings)
            raise ConfigError([f"recording is {name!r}; the session has {known}."])
        return found
    others = [r for r in recordings if r.name != centre.name] or [centre]
    return max(others, key=lambda r: displacement_summary(paths.recording(r.name).statistics)[0])


def _draw(images: list[Image], field: Image, mask: np.ndarray, names: tuple[str, str]) -> Figure:
    single, raw, corrected, reference, aligned = images
    height, width = raw.shape
    side = 3.6  # inches per picture
    figure = Figure(
        figsize=(3 * side + 0.6, 2 * (side * height / width + 0.34)),
        layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04, wspace=0.02, hspace=0.03),
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    shown, centre = names
    limits = np.percentile(corrected[mask] if mask.any() else corrected, (1.0, 99.7))
    top = (
        (single, np.percentile(single, (1.0, 99.7)), f"{shown}: one raw frame"),
        (raw, limits, "average of the raw frames"),
        (corrected, limits, "average after motion correction"),
    )
    for axis, (image, (low, high), title) in zip(axes[0], top, strict=True):
        axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        _frame(axis, title)
    titles = (f"{centre} (magenta) and {shown} (green)", "the same after alignment")
    for axis, image, title in zip(axes[1], (corrected, aligned), titles, strict=False):
        axis.imshow(_overlay(reference, image, mask), interpolation="nearest")
        _frame(axis, title)
    axes[1, 1].contour(mask, levels=[0.5], colors=[_MASK], linewidths=1.2)
    axes[1, 1].plot([], [], color=_MASK, linewidth=1.2, label="valid in every frame")
    axes[1, 1].legend(
        loc="lower right", fontsize=7, framealpha=0.7, facecolor="black", labelcolor="white"
    )
    _draw_field(axes[1, 2], field)
    return figure


def _draw_field(axis: Axes, field: Image) -> None:
    """Draw the length of a field (H, W, 2) in colour, and its direction as arrows."""
    height, width = field.shape[:2]
    picture = axis.imshow(np.hypot(field[..., 0], field[..., 1]), cmap="viridis")
    step = max(4, min(height, width) // 9)
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    arrows = field[rows, columns]
    if arrows.any():  # arrows without length cannot be scaled
        axis.quiver(
            columns, rows, arrows[..., 0], arrows[..., 1], angles="xy", color="white", width=0.004
        )
    bar = axis.inset_axes((1.02, 0.0, 0.035, 1.0))
    axis.figure.colorbar(picture, cax=bar)
    bar.tick_params(labelsize=8, colors=_INK, length=2)
    bar.set_frame_on(False)
    _frame(axis, "displacement between them (px)")


def _frame(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=9, color=_INK, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _overlay(reference: Image, other: Image, mask: np.ndarray) -> Image:
    """Put one image into magenta and the other into green, (H, W, 3) in 0..1."""
    magenta, green = _stretched(reference, mask), _stretched(other, mask)
    return np.stack([magenta, green, magenta], axis=-1)


def _stretched(image: Image, mask: np.ndarray) -> Image:
    low, high = np.percentile(image[mask] if mask.any() else image, (2.0, 99.5))
    scaled = np.clip((image - low) / max(high - low, np.finfo(float).tiny), 0.0, 1.0)
    result: Image = scaled**0.8
    return result
