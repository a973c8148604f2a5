"""The table that the demo ends with: every recording against its known truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import PyflowregError
from pyflowreg.quality.figures import before_after_figure
from pyflowreg.quality.metrics import (
    RecordingMetrics,
    load_displacements,
    load_field,
    recording_metrics,
)
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import centre_index, discover_recordings
from pyflowreg.session.outputs import session_paths
from pyflowreg.simulation.truth import load_truth, stage1_error, stage1_offset, stage2_error

Field = NDArray[np.float32] | NDArray[np.float64]

_HEADER = (
    "   displacement   correlation with      end-point error    end-point error",
    "       (px)          the average        of stage 1 (px)    of stage 2 (px)",
    "   mean    max    before    after      before    after    before    after",
)


@dataclass(frozen=True)
class EndPointErrors:
    """Errors of one recording against its truth, pixels.

    Parameters
    ----------
    stage1_before, stage1 : float
        Median over the frames of the mean over the interior, without and with correction.
    stage2_before, stage2 : float
        Mean over the interior, without and with alignment; zero for the centre recording.
    """

    stage1_before: float
    stage1: float
    stage2_before: float
    stage2: float


def session_errors(
    within: Callable[[int], Field],
    between: Callable[[int], Field],
    truth_files: Sequence[Path],
    centre: int,
) -> list[EndPointErrors]:
    """Score the fields of a whole simulated session; one recording's are held at a time.

    Parameters
    ----------
    within : callable
        Returns the stage-1 fields (T, H, W, 2) of a recording by its position, pixels.
    between : callable
        Returns the stage-2 field (H, W, 2) of a recording by its position, pixels.
    truth_files : sequence of Path
        `<recording>_truth.npz` of the recordings.
    centre : int
        0-based index of the centre recording.

    Returns
    -------
    list of EndPointErrors
        In the order of the recordings. The resting positions of the averages, which stage 1
        decides, are taken into account in stage 2.

    Raises
    ------
    FileNotFoundError
        If a file of the truth is missing.
    ValueError
        If fields do not have the size of their truth.
    """
    centre_offset = stage1_offset(within(centre), load_truth(truth_files[centre]))
    result = []
    for number, path in enumerate(truth_files):
        truth, w, field = load_truth(path), within(number), between(number)
        after = stage2_error(
            field, truth, offset=stage1_offset(w, truth), centre_offset=centre_offset
        )
        result.append(
            EndPointErrors(
                stage1_before=_typical(stage1_error(np.zeros_like(w), truth)),
                stage1=_typical(stage1_error(w, truth)),
                stage2_before=float(stage2_error(np.zeros_like(field), truth).mean()),
                stage2=float(after.mean()),
            )
        )
    return result


def demo_table(config: SessionConfig, truth_dir: Path | str) -> str:
    """Build the table of a finished, simulated session, and say where its files are.

    Parameters
    ----------
    config : SessionConfig
        The session; its `flow_options` must have had `save_w` set.
    truth_dir : path-like
        Folder of the `<recording>_truth.npz`.

    Returns
    -------
    str
        Several lines, ending with a newline.

    Raises
    ------
    ConfigError
        If the recordings or the centre cannot be found.
    InputError
        If results of the session are missing or cannot be read.
    FileNotFoundError
        If a file of the truth is missing.
    """
    recordings = discover_recordings(config)
    centre = centre_index(config, recordings)
    paths = session_paths(config)
    folders = [paths.recording(recording.name) for recording in recordings]
    errors = session_errors(
        lambda number: load_displacements(folders[number].folder),
        lambda number: load_field(folders[number].w_to_reference),
        [Path(truth_dir) / f"{recording.name}_truth.npz" for recording in recordings],
        centre,
    )
    width = max(9, *(len(recording.name) + 1 for recording in recordings))
    first = ("", "", "recording")
    lines = [f"{left:<{width}s}{right}" for left, right in zip(first, _HEADER, strict=True)]
    for number, (recording, error) in enumerate(zip(recordings, errors, strict=True)):
        metrics = recording_metrics(config, recording)
        lines.append(_row(metrics, error, width, centre=number == centre))
    example = folders[0]
    lines += [
        "",
        "End-point error: distance to the known truth, without a border of 12 px; stage 1: median",
        "over the frames. Before: the error of no correction. The centre recording is marked *.",
        "",
        "Where to look",
        f"  corrected frames     {example.compensated}",
        f"  aligned frames       {example.aligned}",
        f"  final valid mask     {paths.final_png}",
        f"  everything as numpy  {paths.final_npz}",
    ]
    return "\n".join(lines) + "\n"


def _row(metrics: RecordingMetrics, errors: EndPointErrors, width: int, *, centre: bool) -> str:
    name = metrics.name + ("*" if centre else "")
    stage2 = f"{'-':>10s}{'-':>9s}"
    if not centre:
        stage2 = f"{errors.stage2_before:10.2f}{errors.stage2:9.2f}"
    return (
        f"{name:<{width}s}{metrics.mean_displacement:7.2f}{metrics.max_displacement:7.2f}"
        f"{metrics.correlation_before:10.3f}{metrics.correlation_after:9.3f}"
        f"{errors.stage1_before:12.2f}{errors.stage1:9.2f}{stage2}"
    )


def _typical(error: NDArray[np.float64]) -> float:
    return float(np.median(error.mean(axis=(1, 2))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table to standard output.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status: 2 if the session cannot be compared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pyflowreg.quality.demo_table",
        description="Compare a finished, simulated session with its known truth.",
    )
    parser.add_argument("--configfile", type=Path, required=True, help="settings of the session")
    parser.add_argument("--truth", type=Path, required=True, help="folder of the known truth")
    parser.add_argument("--figure", type=Path, help="also draw a before/after picture (PNG)")
    options = parser.parse_args(arguments)
    try:
        config = SessionConfig.from_file(options.configfile)
        table = demo_table(config, options.truth)
        if options.figure is not None:
            table += f"  before and after     {before_after_figure(config, options.figure)}\n"
    except PyflowregError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
