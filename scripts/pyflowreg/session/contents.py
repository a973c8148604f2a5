"""What complete results consist of: length and checksum of every file, of large ones in samples.

Stated when a stage is done, beside its settings, so that a file which was truncated, damaged or
replaced by that of another run is noticed by whoever reads it next. Times are no part of it: the
same results have the same contents. Imported while the workflow is parsed: no libraries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyflowreg.errors import UnreadableError

BYTES, CHECKSUM, SAMPLES = "bytes", "sha256", "sha256_of_samples"
FILES = "files"
_BLOCK = 2**20
_SAMPLES, _SAMPLE = 16, 4096

Contents = Mapping[str, Any]
"""By the path below a folder: ``{"bytes": 4096, "sha256": "..."}``; JSON can hold it."""


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def sample_checksum(path: Path) -> str:
    """Return the SHA-256 of sixteen short pieces of a file, from its beginning to its end.

    Another recording's file of the same length is told from it, in a moment however long it is.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    found = hashlib.sha256()
    last = max(path.stat().st_size - _SAMPLE, 0)
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(last * number // (_SAMPLES - 1))
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


def contents_of(
    folder: Path, files: Iterable[Path], large: Iterable[Path] = ()
) -> dict[str, dict[str, Any]]:
    """Describe files that are complete.

    Parameters
    ----------
    folder : Path
        What their names are relative to.
    files : iterable of Path
        Files that are read for their checksum.
    large : iterable of Path
        Files of which samples have to do.

    Returns
    -------
    dict
        See `Contents`.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in files:
        found[_key(folder, path)] = {BYTES: path.stat().st_size, CHECKSUM: checksum(path)}
    for path in large:
        found[_key(folder, path)] = {BYTES: path.stat().st_size, SAMPLES: sample_checksum(path)}
    return found


def _key(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def contents_in(status: Mapping[str, Any]) -> Contents:
    """Return the contents that a status or record states.

    Parameters
    ----------
    status : mapping
        What the file holds.

    Returns
    -------
    Contents
        Empty if there are none, as in files of other programs and earlier versions.
    """
    found = status.get(FILES)
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}


def wrong_length(folder: Path, contents: Contents, path: Path) -> str | None:
    """Compare the length of a file with what was stated.

    Parameters
    ----------
    folder : Path
        What names are relative to.
    contents : Contents
        What was stated.
    path : Path
        The file.

    Returns
    -------
    str or None
        What is wrong, for a message; None if nothing is, nothing was stated, or the file is
        missing or out of reach.
    """
    stated = contents.get(_key(folder, path), {}).get(BYTES)
    try:
        found = path.stat().st_size
    except OSError:
        return None
    return None if stated in (None, found) else f"has {found} bytes instead of {stated}"


def wrong(folder: Path, contents: Contents, path: Path) -> str | None:
    """Compare length and checksum of a file with what was stated.

    Parameters
    ----------
    folder : Path
        What names are relative to.
    contents : Contents
        What was stated.
    path : Path
        The file; as much of it is read as its checksum needs.

    Returns
    -------
    str or None
        As `wrong_length`.

    Raises
    ------
    UnreadableError
        If the system does not let it be read.
    """
    problem = wrong_length(folder, contents, path)
    stated = contents.get(_key(folder, path), {})
    if problem is not None or not path.exists():
        return problem
    for name, compute in ((CHECKSUM, checksum), (SAMPLES, sample_checksum)):
        try:
            if name in stated and compute(path) != stated[name]:
                return "does not hold what was written"
        except OSError as error:
            raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from error
    return None


def wrong_lengths(folder: Path, contents: Contents) -> Iterator[tuple[Path, str]]:
    """Find the files whose length is not what was stated; none is opened.

    Parameters
    ----------
    folder : Path
        What names are relative to.
    contents : Contents
        What was stated.

    Yields
    ------
    path : Path
        A file that exists.
    problem : str
        What is wrong with it, for a message.
    """
    for name in contents:
        problem = wrong_length(folder, contents, folder / name)
        if problem is not None:
            yield folder / name, problem
