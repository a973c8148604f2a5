"""Files that appear complete or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import ArrayLike

from pyflowreg.errors import OutputError
from pyflowreg.io.failures import (
    make_folder,
    remove_file,
    sync_folder,
    writing,
    writing_among_others,
)
from pyflowreg.io.stack import Stack
from pyflowreg.processes import ProcessMark

logger = logging.getLogger(__name__)

_STEM = 32
_MARK = r"[0-9a-f]{8}-[0-9a-f]{1,8}-[0-9a-f]{1,16}"
_TEMPORARY = re.compile(
    rf"\.(?P<stem>.*)-(?P<mark>{_MARK})-[0-9a-f]{{8}}\.tmp(?P<suffix>\..*)?", re.DOTALL
)

SCRATCH_VARIABLE = "PYFLOWREG_SCRATCH"
"""Environment variable: a folder on a disk of this machine for files that are being written."""


def scratch_folder() -> Path | None:
    """Return where files are written before they are copied to their place.

    Returns
    -------
    Path or None
        What the environment variable says, with variables such as ``$TMPDIR`` filled in; None if it
        is not set, or names a variable that is set in jobs only.

    Raises
    ------
    OutputError
        If it is no folder.
    """
    text = os.path.expandvars(os.environ.get(SCRATCH_VARIABLE, ""))
    if not text or "$" in text:
        return None
    if not os.path.isdir(text):  # noqa: PTH112 - False also for names that are too long
        raise OutputError(
            f"{SCRATCH_VARIABLE}: {text} is not a folder of this machine. Name one that exists on "
            "every node, for example '$TMPDIR', or unset it."
        )
    return Path(text)


def temporary_sibling(path: Path) -> Path:
    """Name a hidden file in the folder of `path`, with its suffix, that nobody else uses.

    The name tells which process it belongs to. The stem is shortened so that a long but valid name
    stays valid.
    """
    own = f"{ProcessMark.of_this()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.stem[:_STEM]}-{own}.tmp{path.suffix}")


def remove_leftovers(targets: Sequence[Path]) -> None:
    """Remove the temporary files of processes that were killed while they wrote `targets`.

    Parameters
    ----------
    targets : sequence of Path
        Files nobody else is writing now; those of living processes of this machine stay anyhow.

    Raises
    ------
    OutputError
        If that is impossible.
    """
    ours = {(target.parent, _family(target.stem[:_STEM]), target.suffix) for target in targets}
    for folder in {target.parent for target in targets}:
        for file, (stem, suffix), _ in _abandoned(folder):
            if (folder, _family(stem), suffix) in ours:
                _remove_leftover(file)
    scratch = scratch_folder()
    for file, _, mark in _abandoned(scratch) if scratch else ():
        # Other sessions and other machines write there as well.
        if mark.is_here:
            _remove_leftover(file)


def _abandoned(folder: Path) -> Iterator[tuple[Path, tuple[str, str], ProcessMark]]:
    """Temporary files, the stem and suffix they are named after, and who has left them."""
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - twice as fast
    for name in names:
        found = _TEMPORARY.fullmatch(name) if ".tmp" in name else None
        if found and not (mark := ProcessMark.parse(found["mark"])).lives:
            yield folder / name, (found["stem"], found["suffix"] or ""), mark


def _family(stem: str) -> str:
    """Stem without the digest of settings in which the names of records end."""
    return re.sub("_[0-9a-f]{12}$", "_", stem)


def _remove_leftover(file: Path) -> None:
    logger.info("%s was left by a run that was killed, and is removed.", file)
    remove_file(file)


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_paths(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[Path]]:
    """Write several files that are published together.

    Every file is flushed to disk before the first one is renamed, so a full disk or an
    exception (KeyboardInterrupt included) leaves none of them and keeps what was there before.

    Parameters
    ----------
    paths : sequence of path
        Where the files shall appear. Missing folders are made.

    Yields
    ------
    list of Path
        Temporary files to write instead, in the same folders, or in that of
        `scratch_folder`, and with the same suffixes.

    Raises
    ------
    OutputError
        If the disk is full, a folder cannot be made or written, and the like.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        make_folder(target.parent)
    scratch = scratch_folder()
    temporary = [temporary_sibling(target) for target in targets]
    elsewhere = [scratch / file.name for file in temporary] if scratch else []
    try:
        with writing_among_others(dict(zip(elsewhere or temporary, targets, strict=True))):
            yield elsewhere or temporary
        for local, file, target in zip(elsewhere, temporary, targets, strict=False):
            with writing(target):
                shutil.copyfile(local, file)
                local.unlink()
        for file, target in zip(temporary, targets, strict=True):
            with writing(target):
                sync_file(file)
        for file, target in zip(temporary, targets, strict=True):
            with writing(target):
                file.replace(target)
    finally:
        # After success nothing is left under the temporary names. What cannot be removed must not
        # hide the first error; the next run removes it.
        for file in (*elsewhere, *temporary):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
    for target in {target.parent: target for target in targets}.values():
        with writing(target):
            sync_folder(target.parent)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write one file that appears complete or not at all.

    Parameters
    ----------
    path : path
        Where the file shall appear; replaced if it exists. Missing folders are made.

    Yields
    ------
    Path
        A temporary file to write instead, in the same folder and with the same suffix.
    """
    with atomic_paths([path]) as (temporary,):
        yield temporary


def atomic_save_npy(path: str | os.PathLike[str], array: ArrayLike) -> None:
    """Save one array as .npy, complete or not at all.

    Parameters
    ----------
    path : path
        Target, used as given (no suffix is added).
    array : array_like
        Any shape and any dtype but object.
    """
    with atomic_path(path) as temporary, writing(Path(path)), temporary.open("wb") as file:
        np.save(file, np.asarray(array), allow_pickle=False)


def atomic_save_npz(path: str | os.PathLike[str], **arrays: ArrayLike | Stack) -> None:
    """Save named arrays as compressed .npz, complete or not at all.

    Parameters
    ----------
    path : path
        Target, used as given (no suffix is added).
    **arrays : array_like or Stack
        The arrays by name (any but `path`); any dtype but object. Those of a stack become one
        array with another first axis; they are in memory one at a time.
    """
    objects = [name for name, array in arrays.items() if _needs_pickling(array)]
    if objects:
        raise ValueError(f"{path}: {', '.join(objects)} would need pickling; save plain arrays")
    with (
        atomic_path(path) as temporary,
        writing(Path(path)),
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, array in arrays.items():
            # Members of more than 2 GB need another header, which must be chosen in advance.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write_npy(member, array)


def _needs_pickling(array: ArrayLike | Stack) -> bool:
    return not isinstance(array, Stack) and np.asarray(array).dtype.hasobject


def _write_npy(file: IO[bytes], array: ArrayLike | Stack) -> None:
    if not isinstance(array, Stack):
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
        return
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": (array.count, *array.shape),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for part in array:
        file.write(part.tobytes())


def atomic_write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes, complete or not at all."""
    with atomic_path(path) as temporary, writing(Path(path)):
        temporary.write_bytes(content)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text (UTF-8, newlines as given), complete or not at all."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | os.PathLike[str], obj: object) -> None:
    """Write an object as indented JSON, complete or not at all."""
    atomic_write_text(path, json.dumps(obj, indent=2, ensure_ascii=False) + "\n")
