"""Which source files a kernel is made of."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

IMPORT = re.compile(r"^\s*(?:from|import)\s+([\w.]+)", re.MULTILINE)


@dataclass(frozen=True)
class _File:
    """A source file as it was when first looked at."""

    stamp: tuple[int, int]
    digest: bytes
    imports: tuple[str, ...]


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


class Sources:
    """Source files of a package, as they were when this process imported them.

    A kernel is compiled together with the functions and constants it takes from other modules, so
    that its machine code follows from its own file and all files that are imported from there.

    Parameters
    ----------
    package : Path
        Folder of the package; imports from elsewhere are not followed.
    read_now : Path
        Files in this folder and below are read at once, others when they are asked for.
    """

    def __init__(self, package: Path, read_now: Path) -> None:
        self._package = package
        self._files: dict[Path, _File] = {}
        self._closures: dict[Path, frozenset[Path]] = {}
        for path in read_now.rglob("*.py"):
            with contextlib.suppress(OSError):  # asked for again when it is needed
                self._file(path)

    def _file(self, path: Path) -> _File:
        if path not in self._files:
            stamp = _stamp(path)
            content = path.read_bytes()
            names = IMPORT.findall(content.decode("utf-8", "replace"))
            self._files[path] = _File(stamp, hashlib.sha256(content).digest(), tuple(names))
        return self._files[path]

    def _imported(self, importing: Path, name: str) -> list[Path]:
        """Return the files a name in an import statement may stand for."""
        first, *rest = name.split(".")
        if not first:
            # A relative import; which one does not matter, none is far away.
            return list(importing.parent.rglob("*.py"))
        if first != self._package.name:
            return []
        folder = self._package
        for part in rest:
            if (folder / f"{part}.py").is_file():
                return [folder / f"{part}.py"]
            if not (folder / part).is_dir():
                return []
            folder = folder / part
        return list(folder.rglob("*.py"))

    def files_of(self, path: Path) -> frozenset[Path]:
        """Return a source file and all files of the package it imports, directly or not.

        Parameters
        ----------
        path : Path
            A source file.

        Returns
        -------
        frozenset of Path

        Raises
        ------
        OSError
            If one of them cannot be read.
        """
        if path not in self._closures:
            found: set[Path] = set()
            waiting = [path]
            while waiting:
                current = waiting.pop()
                if current in found:
                    continue
                found.add(current)
                for name in self._file(current).imports:
                    waiting.extend(self._imported(current, name))
            self._closures[path] = frozenset(found)
        return self._closures[path]

    def digest(self, path: Path) -> bytes:
        """Return a digest of the files that `files_of` names.

        Parameters
        ----------
        path : Path
            A source file.

        Returns
        -------
        bytes
            It does not depend on where the package is installed.

        Raises
        ------
        OSError
            If one of them cannot be read.
        """
        digest = hashlib.sha256()
        for name, content in sorted(
            (self._name(file), self._file(file).digest) for file in self.files_of(path)
        ):
            digest.update(f"{name}\n".encode() + content)
        return digest.digest()

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._package) if path.is_relative_to(self._package) else path)

    def unchanged(self, path: Path) -> bool:
        """Return whether the files that `files_of` names are still those first looked at.

        After an update under a running program its old kernels must not be kept as new ones.

        Parameters
        ----------
        path : Path
            A source file.

        Returns
        -------
        bool
            False if one of them cannot be read, too.
        """
        try:
            return all(_stamp(file) == self._file(file).stamp for file in self.files_of(path))
        except OSError:
            return False
