"""NVIDIA's compiler library, where it is installed; it needs no GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
from pathlib import Path


def _places():
    try:
        found = importlib.util.find_spec("nvidia")
    except ValueError:
        found = None
    for folder in (found and found.submodule_search_locations) or ():
        yield from Path(folder).glob("c*/lib/libnvrtc.so*")
    roots = [os.environ.get(name) for name in ("CUDA_PATH", "CUDA_HOME")]
    nvcc = shutil.which("nvcc")
    if nvcc:
        roots.append(str(Path(nvcc).resolve().parents[1]))
    for root in filter(None, [*roots, "/usr/local/cuda"]):
        yield from Path(root).glob("lib64/libnvrtc.so*")


def libraries() -> list[Path]:
    """Every nvrtc there is, one per version."""
    found = {path.resolve() for path in _places() if "builtins" not in path.name}
    return sorted(path for path in found if "alt" not in path.name)


class Nvrtc:
    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def _call(self, name, *arguments):
        function = getattr(self._library, f"nvrtc{name}")
        return function(*arguments)

    @property
    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        assert self._call("GetNumSupportedArchs", ctypes.byref(count)) == 0
        found = (ctypes.c_int * count.value)()
        assert self._call("GetSupportedArchs", found) == 0
        return list(found)

    def compile(self, source: str, options) -> bytes:
        """Compile to machine code; an error has the compiler's messages."""
        program = ctypes.c_void_p()
        code = self._call(
            "CreateProgram", ctypes.byref(program), source.encode(), b"all.cu", 0, None, None
        )
        assert code == 0
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        try:
            failed = self._call("CompileProgram", program, len(options), given)
            size = ctypes.c_size_t()
            self._call("GetProgramLogSize", program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            self._call("GetProgramLog", program, log)
            assert not failed, log.value.decode()
            assert "all.cu" not in log.value.decode(), log.value.decode()
            self._call("GetCUBINSize", program, ctypes.byref(size))
            binary = ctypes.create_string_buffer(size.value)
            self._call("GetCUBIN", program, binary)
            return binary.raw
        finally:
            self._call("DestroyProgram", ctypes.byref(program))


def kernels_in(binary: bytes) -> set[str]:
    """Names of the kernels in machine code."""
    return {found.decode() for found in re.findall(rb"\.text\.(\w+)\x00", binary)}
