"""The kernels for the GPU, compiled for the processor, as a device of the backend."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyflowreg.core.cuda.device import ALIGNMENT, DeviceArray, DeviceMemoryError
from pyflowreg.core.cuda.sources import KERNELS

HERE = Path(__file__).parent
FLAGS = (
    "-std=c++17", "-O2", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
    "-Wno-missing-field-initializers", f"-I{KERNELS}",
)  # fmt: skip
CODES = {"int32": "i", "int64": "q", "float32": "f", "float64": "d"}


def compiler() -> str | None:
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    return None


def has_fma() -> bool:
    """Whether the processor rounds a product with a sum once; what numba compiles then does."""
    if platform.machine() != "x86_64":
        return True
    return " fma " in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")


def build(folder: Path) -> Path:
    """Compile the kernels, once for all processes of a test run."""
    flags = (*FLAGS, "-mfma") if platform.machine() == "x86_64" and has_fma() else FLAGS
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


@dataclass
class Block:
    """Memory of the device."""

    array: np.ndarray
    device: EmulatedDevice

    @property
    def pointer(self) -> int:
        return self.array.ctypes.data

    @property
    def size(self) -> int:
        return self.array.nbytes

    def __del__(self) -> None:
        self.device.taken -= self.size


class EmulatedDevice:
    """Runs kernels one after the other, or notes what was asked of it.

    Parameters
    ----------
    library : Path
        Compiled kernels.
    threads : int, optional
        Threads per block instead of those asked for; 1 is much quicker and gives the same.
    memory : int
        Bytes it has.
    """

    name = "the emulated device"
    processors = 2

    def __init__(
        self,
        library: Path,
        *,
        threads: int | None = 1,
        memory: int = 2**31,
        shared_bytes: int = 232448,
    ) -> None:
        self.library = ctypes.CDLL(str(library))
        self.threads = threads
        self.memory = memory
        self.shared_bytes = shared_bytes
        self.taken = 0
        self.launched: list[str] = []
        self.waits = 0

    def free_bytes(self) -> int:
        return self.memory - self.taken

    def allocate(self, size: int) -> Block:
        if size > self.free_bytes():
            raise DeviceMemoryError(f"{size} bytes")
        whole = np.full(size + ALIGNMENT, 0xFF, np.uint8)  # no numbers
        first = -whole.ctypes.data % ALIGNMENT
        self.taken += size
        return Block(whole[first : first + size], self)

    def stream(self) -> EmulatedStream:
        return EmulatedStream(self)


def _view(array: DeviceArray) -> np.ndarray:
    owner: Any = array.owner
    first = array.pointer - owner.pointer
    assert first >= 0
    assert first + array.nbytes <= owner.size
    return owner.array[first : first + array.nbytes].view(array.dtype).reshape(array.shape)


class EmulatedStream:
    """Does at once what it is asked for, but hands out results only after waiting."""

    def __init__(self, device: EmulatedDevice) -> None:
        self._device = device
        self._coming: list[tuple[np.ndarray, np.ndarray]] = []

    def launch(self, kernel, grid, block, *arguments, shared=0) -> None:
        device = self._device
        assert 1 <= grid[0] < 2**31
        assert 1 <= grid[1] < 2**16
        assert 1 <= block <= 512
        assert shared <= device.shared_bytes
        values = [self._value(argument) for argument in arguments]
        letters = "".join("P" if isinstance(v, ctypes.c_void_p) else v[1] for v in values)
        signature = getattr(device.library, f"signature_{kernel}")
        signature.restype = ctypes.c_char_p
        assert letters == signature().decode(), f"{kernel}: {letters}"
        held = [v if isinstance(v, ctypes.c_void_p) else v[0] for v in values]
        addresses = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
        launch = getattr(device.library, f"launch_{kernel}")
        threads = device.threads or block
        seed = zlib.crc32(kernel.encode())
        assert launch(*grid, threads, shared, seed, addresses) == 0, f"{kernel}: barriers differ"
        device.launched.append(kernel)

    @staticmethod
    def _value(argument):
        if argument is None:
            return ctypes.c_void_p(None)
        if isinstance(argument, DeviceArray):
            _view(argument)
            return ctypes.c_void_p(argument.pointer)
        scalar = np.int32(argument) if isinstance(argument, int) else argument
        code = CODES[scalar.dtype.name]
        kinds = {"i": ctypes.c_int, "q": ctypes.c_longlong, "f": ctypes.c_float}
        return kinds.get(code, ctypes.c_double)(scalar.item()), code

    def upload(self, target, source) -> None:
        assert target.dtype == source.dtype
        assert target.size == source.size
        assert source.flags.c_contiguous
        _view(target)[...] = source.reshape(target.shape)

    def download(self, source):
        out = np.full(source.shape, 77, source.dtype)
        self._coming.append((out, _view(source).copy()))
        return out

    def clear(self, target) -> None:
        _view(target)[...] = 0

    def wait(self) -> None:
        for out, found in self._coming:
            out[...] = found
        self._coming.clear()
        self._device.waits += 1
