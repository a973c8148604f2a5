"""The kernels for the GPU, compiled for the processor."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np

from pyflowreg.core.cuda.sources import KERNELS

HERE = Path(__file__).parent
FLAGS = (
    "-std=c++17", "-O2", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
    "-Wno-missing-field-initializers", f"-I{KERNELS}",
)  # fmt: skip
SCALARS = {
    "P": (np.uint64, ctypes.c_void_p),
    "i": (np.int32, ctypes.c_int),
    "q": (np.int64, ctypes.c_longlong),
    "f": (np.float32, ctypes.c_float),
    "d": (np.float64, ctypes.c_double),
}
"""What parameters of a kind take, and how they are handed over."""


def compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


def has_fma() -> bool:
    """Whether the processor rounds a product with a sum once; what numba compiles then does."""
    if platform.machine() != "x86_64":
        return True
    return " fma " in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")


def build(folder: Path, *more: str) -> Path:
    """Compile the kernels, once for all processes of a test run."""
    flags = (*FLAGS, *more)
    if platform.machine() == "x86_64" and has_fma():
        flags = (*flags, "-mfma")
    sources = [*sorted(KERNELS.iterdir()), HERE / "emulation.cpp"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources) + " ".join(flags)
    library = folder / f"kernels-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        own = library.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [str(compiler()), *flags, str(HERE / "emulation.cpp"), "-o", str(own)], check=True
        )
        own.rename(library)
    return library


class Kernels:
    """Runs kernels.

    Parameters
    ----------
    library : Path
        See `build`.
    threads : int, optional
        Threads per block; 1 is much quicker than many. By default those asked for.
    """

    def __init__(self, library: Path, threads: int | None) -> None:
        self._library = ctypes.CDLL(str(library))
        self._threads = threads

    def signature(self, name: str) -> str:
        """A letter for every parameter, see `SCALARS`."""
        function = getattr(self._library, f"signature_{name}")
        function.restype = ctypes.c_char_p
        return function().decode()

    def run(self, name: str, grid, block: int, shared: int, arguments) -> None:
        held = []
        letters = self.signature(name)
        assert len(letters) == len(arguments), f"{name} takes {letters}"
        for place, (letter, argument) in enumerate(zip(letters, arguments, strict=True)):
            kind, held_as = SCALARS[letter]
            assert type(argument) is kind, f"{name}, argument {place}: {argument!r}"
            held.append(held_as(argument.item()))
        addresses = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
        launch = getattr(self._library, f"launch_{name}")
        seed = zlib.crc32(name.encode())
        failed = launch(*grid, self._threads or block, shared, seed, addresses)
        assert not failed, f"{name}: some threads wait at a barrier that others have passed"
