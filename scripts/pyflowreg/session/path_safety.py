"""Nothing but a session's own results is written or removed, wherever links and settings lead.

Files appear by renaming, which replaces a name and never what a link of that name leads to. So it
is the folders that have to be where they seem to be, and no name of a result may be that of an
input.
"""

# Thousands of names are compared as texts.
# ruff: noqa: PTH100, PTH112, PTH114, PTH115, PTH118

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from pyflowreg.errors import ConfigError
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording
from pyflowreg.session.outputs import ALIGNED_SUFFIX, RecordingPaths, SessionPaths, session_paths

_HOPS = 40
# Records, and files that are being written.
_CHANGING = re.compile(r"stage[123](_[a-z0-9]+)?_[0-9a-f]{12}\.json|\..*-[0-9a-f]{8}\.tmp.*")


def path_problems(
    config: SessionConfig, recordings: Sequence[Recording], others: Iterable[str | Path] = ()
) -> list[str]:
    """Return what would make a session change something else than its results.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recordings : sequence of Recording
        Its recordings, or some of them.
    others : iterable of path
        Files that are read besides the recordings and what the settings name.

    Returns
    -------
    list of str
        Problems; nothing is opened.
    """
    paths = session_paths(config)
    problems = []
    for recording in recordings:
        files = paths.recording(recording.name)
        problems += [
            f"{folder} is a link to {os.path.realpath(folder)}: results would be written or "
            "removed there. Remove the link, or set output_root to where the results shall be."
            for folder in (files.folder, files.checkpoint)
            if os.path.islink(folder)
        ]
    return problems or _overwritten(config, paths, recordings, others)


def check_paths(config: SessionConfig, recordings: Sequence[Recording]) -> None:
    """Refuse a session that would change something else than its results.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recordings : sequence of Recording
        Its recordings, or those that are worked on.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    problems = path_problems(config, recordings)
    if problems:
        raise ConfigError(problems)


def _overwritten(
    config: SessionConfig,
    paths: SessionPaths,
    recordings: Sequence[Recording],
    others: Iterable[str | Path],
) -> list[str]:
    """Return inputs that results would be written over, or into."""
    inputs: dict[str, dict[str, Path]] = {}
    folders: dict[str, Path] = {}
    read = (*(recording.path for recording in recordings), *_named(config), *map(Path, others))
    for path in read:
        for folder, name in _places(path):
            inputs.setdefault(folder, {})[name] = path
            if os.path.isdir(f"{folder}/{name}"):
                folders[f"{folder}/{name}"] = path
    hits: dict[Path, str] = {}
    for real, names in _written(paths, recordings):
        for path in _hit(real, names, inputs, folders):
            hits.setdefault(path, real)
    return [
        f"{path}: results would be written to {real}, over what is read. Choose another "
        "output_root or final_results, or move what is read."
        for path, real in hits.items()
    ]


def _named(config: SessionConfig) -> Iterator[Path]:
    """Yield the files that the settings name: that of the options, and the reference image."""
    if config._options_file is not None:
        yield config._options_file
    reference = config.options_for().reference_frames
    if isinstance(reference, Path):
        yield reference


def _hit(
    real: str,
    names: frozenset[str],
    inputs: Mapping[str, Mapping[str, Path]],
    folders: Mapping[str, Path],
) -> Iterator[Path]:
    """Yield inputs that files of these names in a folder replace, or that contain the folder."""
    for name, path in inputs.get(real, {}).items():
        if name in names or _CHANGING.fullmatch(name):
            yield path
    while folders and real:
        if real in folders:
            yield folders[real]
        real = real.rpartition("/")[0]


@cache
def _real(folder: str) -> str:
    return os.path.realpath(folder).rstrip("/")


def _places(path: Path) -> Iterator[tuple[str, str]]:
    """Yield every folder and name through which a path leads to its file."""
    current = os.path.abspath(path)
    for _ in range(_HOPS):
        folder, name = os.path.split(current)
        yield _real(folder), name
        try:
            current = os.path.join(_real(folder), os.readlink(current))
        except OSError:
            return


def _written(
    paths: SessionPaths, recordings: Sequence[Recording]
) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each folder that is written to, links resolved, with the names of its files."""
    _real.cache_clear()
    root = _real(str(paths.output_root))
    final = {path.name for path in (paths.final_png, paths.final_npz, paths.final_mat)}
    final.add(paths.status.name)
    for recording in recordings:
        files = paths.recording(recording.name)
        names = _in_folder(files)
        yield f"{root}/{recording.name}", names
        yield f"{root}/{recording.name}/{files.checkpoint.name}", names | _IN_CHECKPOINT
        final |= {files.valid_png.name, files.aligned_valid_png.name}
        final |= {f"aligned_{recording.name}{suffix}" for suffix in ALIGNED_SUFFIX.values()}
    yield root, frozenset()
    yield _real(str(paths.final_results)), frozenset(final)


_IN_CHECKPOINT = frozenset({"lock", "record.npz", "record.new"})


def _in_folder(files: RecordingPaths) -> frozenset[str]:
    written = (
        files.compensated,
        files.idx,
        files.displacements,
        files.temporal_average,
        files.statistics,
        files.reference_frame,
        files.status,
        files.header,
        files.w_to_reference,
    )
    return frozenset(path.name for path in written)
