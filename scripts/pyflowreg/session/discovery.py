"""Which recordings a session has, which one is its centre, and which one an array job does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pyflowreg.errors import ConfigError
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.outputs import session_paths
from pyflowreg.settings import nearest

MAX_SHOWN = 10
_DOUBLE_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.tf2", ".ome.tf8")
_RESERVED = ("final", ".", "..")


@dataclass(frozen=True)
class Recording:
    """One recording.

    Parameters
    ----------
    name : str
        File name without its extension, unique in the session; the name of its output folder.
    path : Path
        A file, or a folder of TIFFs.
    """

    name: str
    path: Path


def recording_name(path: Path) -> str:
    """Return the name of the recording at `path`: no extension, nor .ome before it.

    Parameters
    ----------
    path : Path
        A file, or a folder, whose whole name is taken.

    Returns
    -------
    str
        Name of the recording and of its output folder.
    """
    name = path.name
    if path.is_dir():
        return name
    for suffix in _DOUBLE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return path.stem


def discover_recordings(config: SessionConfig) -> list[Recording]:
    """Find the recordings of a session; no file is opened.

    Parameters
    ----------
    config : SessionConfig
        Its `root`, `pattern` and output folders are used.

    Returns
    -------
    list of Recording
        In natural order of the names (``rec2`` before ``rec10``). Hidden files and everything in
        the output folders are left out.

    Raises
    ------
    ConfigError
        If `root` is missing, nothing matches, or two recordings have one name.
    """
    from pyflowreg.io import natural_key

    problems = _root_problems(config.root)
    if problems:
        raise ConfigError(problems)
    found = sorted(_matches(config), key=lambda path: natural_key(str(path)))
    if not found:
        raise ConfigError([_nothing_found(config)])
    recordings = [Recording(recording_name(path), path) for path in found]
    recordings.sort(key=lambda recording: natural_key(recording.name))
    problems = _name_problems(recordings)
    if problems:
        raise ConfigError(problems)
    return recordings


def centre_index(config: SessionConfig, recordings: Sequence[Recording]) -> int:
    """Return the index of the recording all others are aligned to.

    Parameters
    ----------
    config : SessionConfig
        Its `center`: a file name, a path below `root`, or a name without extension; nothing means
        the middle recording.
    recordings : sequence of Recording
        In natural order.

    Returns
    -------
    int
        0-based; ``len(recordings) // 2`` if `center` is not set.

    Raises
    ------
    ConfigError
        If `center` is none of them.
    """
    if config.center is None:
        return len(recordings) // 2
    wanted = config.center.rstrip("/")
    spellings = (
        lambda recording: recording.path.name,
        lambda recording: os.path.relpath(recording.path, config.root),
        lambda recording: str(recording.path),
        lambda recording: recording.name,
    )
    for spelling in spellings:
        hits = [i for i, recording in enumerate(recordings) if spelling(recording) == wanted]
        if len(hits) == 1:
            return hits[0]
    names = [recording.path.name for recording in recordings]
    guess = nearest(wanted, names)
    advice = f" Did you mean {guess}?" if guess else ""
    raise ConfigError(
        [
            f"center: {config.center!r} is not among the {len(names)} recordings: "
            f"{_listing(names)}.{advice}"
        ]
    )


def recording_of_task(recordings: Sequence[Recording], task_id: int) -> Recording:
    """Return the recording of an array job.

    Parameters
    ----------
    recordings : sequence of Recording
        In natural order.
    task_id : int
        Number of the job, counted from 1.

    Returns
    -------
    Recording
        The `task_id`-th.

    Raises
    ------
    ConfigError
        If there is no such recording.
    """
    if not 1 <= task_id <= len(recordings):
        raise ConfigError(
            [
                f"Array job {task_id} has no recording: the session has {len(recordings)}, "
                f"counted from 1. Submit the array as 1-{len(recordings)}."
            ]
        )
    return recordings[task_id - 1]


def _listing(names: Sequence[str]) -> str:
    """Return up to ten names and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def _root_problems(root: Path) -> list[str]:
    # os.path answers False where a Path raises, as for names that are too long.
    if os.path.isdir(root):  # noqa: PTH112
        if not os.access(root, os.R_OK | os.X_OK):
            return [f"root: there is no permission to read the folder {root}."]
        return []
    if os.path.exists(root):  # noqa: PTH110
        return [f"root: {root} is a file; give the folder that holds the recordings."]
    above = root.absolute().parents
    parent = next((folder for folder in above if os.path.isdir(folder)), above[-1])  # noqa: PTH112
    return [
        f"root: the folder {root} does not exist (relative paths start at {Path.cwd()}); "
        f"the nearest folder that exists is {parent}. Set root to the folder of the recordings."
    ]


def _matches(config: SessionConfig) -> list[Path]:
    """Return what matches the pattern, without hidden files and our own outputs."""
    paths = session_paths(config)
    root = os.path.realpath(paths.root)
    outputs = (paths.output_root, paths.final_results)
    # Below root by name, or after following links. An output folder that is root itself is refused
    # by the preflight.
    inside = [
        (follow, Path(follow(folder)))
        for folder in outputs
        for follow in (os.path.abspath, os.path.realpath)
        if Path(follow(paths.root)) in Path(follow(folder)).parents
    ]
    shows_hidden = PurePosixPath(config.pattern).name.startswith(".")
    result = []
    for path in paths.root.glob(config.pattern):
        hidden = any(part.startswith(".") for part in path.relative_to(paths.root).parts)
        ours = any(Path(follow(path)).is_relative_to(folder) for follow, folder in inside)
        if (hidden and not shows_hidden) or ours or os.path.realpath(path) == root:
            continue
        # A link that leads nowhere is kept, so that it is reported as unreadable.
        if path.is_file() or path.is_dir() or path.is_symlink():
            result.append(path)
    return result


def _nothing_found(config: SessionConfig) -> str:
    entries = sorted(path.name + ("/" if path.is_dir() else "") for path in config.root.iterdir())
    there = f"There is: {_listing(entries)}." if entries else "The folder is empty."
    return f"pattern: nothing in {config.root} matches {config.pattern!r}. {there}"


def _name_problems(recordings: Sequence[Recording]) -> list[str]:
    problems = []
    for first, second in pairwise(recordings):
        if first.name == second.name:
            problems.append(
                f"{first.path} and {second.path} would both be called {first.name!r} and share "
                "one output folder. Rename one, or choose a pattern that matches only one."
            )
    problems.extend(
        f"{str(recording.path)!a}: the name is not valid UTF-8. Rename it."
        for recording in recordings
        if any("\ud800" <= letter <= "\udfff" for letter in recording.path.name)
    )
    problems.extend(
        f"{recording.path}: a recording cannot be called {recording.name!r}, because its results "
        "would replace those of the session. Rename it."
        for recording in recordings
        if recording.name in _RESERVED  # . and .. are folders that exist
    )
    return problems
