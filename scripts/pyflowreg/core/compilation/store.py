"""Folders of files with compiled kernels."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numba

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[2]
FILE = re.compile(r"\.?\w+-[0-9a-f]{32}\.kernel(\.[0-9a-f]{32})?")
UNUSED_SECONDS = 30 * 24 * 3600.0
DAY_SECONDS = 24 * 3600.0
LARGEST_FOLDER = 200 * 1024**2
CHECKSUM = hashlib.sha256().digest_size
NAME_ANOTHER = "The environment variable NUMBA_CACHE_DIR names another folder."


class Store:
    """Files by name; what cannot be read is not there, what cannot be written is said once.

    A file is written beside and renamed, and starts with a checksum. All folders are looked into,
    or only the one of NUMBA_CACHE_DIR; the first one that can be written gets new files.
    """

    def __init__(self) -> None:
        self._given_up = False

    @cached_property
    def folders(self) -> list[Path]:
        """Folders that may hold kernels, the preferred one first."""
        return list(_folders())

    @cached_property
    def writable(self) -> Path | None:
        """Folder that gets new files; None, after a warning, if there is none."""
        reason = "no folder can be made"
        for folder in self.folders:
            problem = _problem_with(folder)
            if problem is not None:
                reason = problem
                continue
            if folder == _temporary():
                logger.warning(
                    "Compiled kernels are kept in %s, which may not last: neither the installation "
                    "nor the user's cache folder can be written. %s",
                    folder,
                    NAME_ANOTHER,
                )
            prune(folder)
            return folder
        self._give_up(reason)
        return None

    def _give_up(self, reason: str) -> None:
        self._given_up = True
        logger.warning(
            "Compiled kernels cannot be kept (%s): every process compiles them again. %s",
            reason,
            NAME_ANOTHER,
        )

    def read(self, name: str) -> bytes | None:
        """Return the content of a file.

        Parameters
        ----------
        name : str
            Name of the file.

        Returns
        -------
        bytes or None
            None if no folder has it undamaged.
        """
        for folder in self.folders:
            path = folder / name
            try:
                content = path.read_bytes()
                if time.time() - path.stat().st_mtime > DAY_SECONDS:
                    _touch(path)
            except OSError:
                continue
            if hashlib.sha256(content[CHECKSUM:]).digest() == content[:CHECKSUM]:
                return content[CHECKSUM:]
            logger.debug("%s is damaged", path)
        return None

    def write(self, name: str, content: bytes) -> None:
        """Keep a file; after a failure, which is logged, no other is tried.

        Parameters
        ----------
        name : str
            Name of the file; one that exists is replaced.
        content : bytes
            Its content.
        """
        folder = self.writable
        if folder is None or self._given_up:
            return
        beside = folder / f".{name}.{uuid.uuid4().hex}"
        try:
            try:
                beside.write_bytes(hashlib.sha256(content).digest() + content)
                beside.replace(folder / name)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(str(error))


def _problem_with(folder: Path) -> str | None:
    """Make a folder if necessary; return why it cannot be written, None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return str(error)
    return None


def _touch(path: Path) -> None:
    """Note that a file is in use."""
    try:
        os.utime(path)
    except OSError:
        logger.debug("%s belongs to somebody else", path)


def _folders() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        chosen = Path(numba.config.CACHE_DIR).absolute() / "pyflowreg-kernels"
        yield chosen
        if _problem_with(chosen) is None:
            return
    if sys.pycache_prefix is None:
        yield PACKAGE / "__pycache__" / "kernels"
    personal = _user_cache()
    if personal is not None:
        yield personal / "pyflowreg" / "kernels"
    temporary = _temporary()
    if temporary is not None and _is_private(temporary):
        yield temporary


def _user_cache() -> Path | None:
    """Return the user's cache folder, None without a home."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if Path(chosen).is_absolute():
        return Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if not home.is_dir():
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir()) / f"pyflowreg-kernels-{os.getuid()}"
    except FileNotFoundError:
        return None


def _is_private(folder: Path) -> bool:
    """Return whether nobody else can write to a folder in a public place; make it if necessary.

    Its name can be guessed, and it holds code that will be run.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return True
    logger.warning("%s is not used for kernels: another user could write to it.", folder)
    return False


def prune(folder: Path) -> None:
    """Remove the kernels of earlier versions: those not used for a month, or beyond 200 MB.

    A program that runs with one of them has it in memory.

    Parameters
    ----------
    folder : Path
        Folder of kernels; other files in it stay.
    """
    found = []
    for path in folder.iterdir():
        if not FILE.fullmatch(path.name):
            continue
        try:
            status = path.lstat()
        except OSError:  # another process was faster
            continue
        found.append((time.time() - status.st_mtime, status.st_size, path))
    total = 0
    for age, size, path in sorted(found):
        total += size
        if age > UNUSED_SECONDS or total > LARGEST_FOLDER:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                logger.debug("%s cannot be removed", path)
