"""Stage 3: frames a second of the aligned video, and of reading the valid masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.frames import recording
from bench.setup import Setup
from bench.tables import digits, markdown, summary
from pyflowreg.simulation.motion import pixel_grid, random_smooth_field

TITLE = "Stage 3"


def measure(setup: Setup) -> dict[str, Any]:
    """Correct a recording once, then align it and read its masks."""
    source, _ = recording(setup.work, setup.config(setup.frames))
    folder = setup.work / "stage3"
    options = {
        "quality_setting": "fast",
        "reference_frames": [0, 1, 2],
        "save_valid_idx": True,
        "output_typename": "uint16",
    }
    field, average = setup.work / "stage3_field.npy", setup.work / "stage3_average.npy"
    x, y = pixel_grid(setup.side, setup.side)
    smooth = random_smooth_field(np.random.default_rng(5), setup.side, setup.side).scaled(3.0)
    np.save(field, smooth(x, y) + np.array([2.3, -4.1]))
    np.save(average, np.full((setup.side, setup.side, 1), 150.0))
    seconds: dict[str, list[float]] = {"TIFF": [], "HDF5": [], "masks": []}
    with setup.tool("ours") as tool:
        tool("compensate", recording=str(source), folder=str(folder), options=options)
        for turn in range(setup.repeats + 1):
            for output_format in ("TIFF", "HDF5"):
                call = tool(
                    "align",
                    compensated=str(folder / "compensated.hdf5"),
                    output=str(folder / f"aligned.{'tif' if output_format == 'TIFF' else 'hdf5'}"),
                    field=str(field),
                    average=str(average),
                    threads=setup.threads,
                    output_format=output_format,
                )
                seconds[output_format] += [call.seconds] if turn else []
            masks = tool("read_masks", idx=str(folder / "idx.hdf")).seconds
            seconds["masks"] += [masks] if turn else []
    return {
        "rows": [{"what": what, **summary(found)} for what, found in seconds.items()],
        "frames": setup.frames,
        "side": setup.side,
        "threads": setup.threads,
    }


def table(result: dict[str, Any]) -> str:
    """Return the table: frames a second."""
    names = {"masks": "reading idx.hdf"}
    frames = result["frames"]
    rows = [
        [
            names.get(row["what"], f"aligned video, {row['what']}"),
            digits(frames / row["min"]),
            digits(frames / row["median"]),
            digits(row["min"] / frames * 1000),
        ]
        for row in result["rows"]
    ]
    text = markdown(["work", "frames/s, best", "frames/s, median", "ms per frame"], rows)
    return text + (
        f"\n{frames} frames of {result['side']} x {result['side']} pixels, uint16, "
        f"{result['threads']} threads, file to file.\n"
    )
