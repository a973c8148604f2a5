"""Machine code of the kernels, made by nvrtc when a kind of GPU is met first, and kept.

Not left to cupy, whose compiler would round numbers below 1e-38 to zero and give other bits.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Any, Protocol

from pyflowreg.core.cuda.sources import OPTIONS, kernel_source
from pyflowreg.core.jit import kernel_store

logger = logging.getLogger(__name__)


class Store(Protocol):
    """Keeps files by name; see `pyflowreg.core.compilation.store`."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Keep a file."""
        ...


def target(capability: int, known: list[int]) -> tuple[str, bool]:
    """Choose what to compile for.

    Parameters
    ----------
    capability : int
        Compute capability of the device, in tenths.
    known : list of int
        Those the compiler knows.

    Returns
    -------
    option : str
        For the compiler.
    exact : bool
        Whether it makes machine code; for a device newer than the compiler it makes portable code
        that the driver translates.
    """
    if capability in known:
        return f"-arch=sm_{capability}", True
    older = [arch for arch in known if arch < capability]
    return f"-arch=compute_{max(older)}", False


def machine_code(nvrtc: Any, capability: int, store: Store = kernel_store) -> bytes:
    """Return the kernels compiled for a kind of device.

    Parameters
    ----------
    nvrtc : module
        Like `cupy.cuda.nvrtc`.
    capability : int
        Compute capability of the device, in tenths.
    store : Store
        Where compiled kernels are kept.

    Returns
    -------
    bytes
        What the driver loads.
    """
    source = kernel_source()
    architecture, exact = target(capability, list(nvrtc.getSupportedArchs()))
    options = (*OPTIONS, architecture)
    made_of = repr((source, options, nvrtc.getVersion())).encode()
    name = f"cuda_{capability}-{hashlib.sha256(made_of).hexdigest()[:32]}.kernel"
    kept = store.read(name)
    if kept is not None:
        return kept
    logger.info("Compiling kernels for GPUs of compute capability %.1f, once.", capability / 10)
    started = time.perf_counter()
    code = _compiled(nvrtc, source, options, exact)
    logger.info("Compiled them in %.1f s.", time.perf_counter() - started)
    store.write(name, code)
    return code


def _compiled(nvrtc: Any, source: str, options: tuple[str, ...], exact: bool) -> bytes:
    program = nvrtc.createProgram(source, "kernels.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            raise RuntimeError(nvrtc.getProgramLog(program)) from error
        if exact:
            return bytes(nvrtc.getCUBIN(program))
        portable = nvrtc.getPTX(program)
        return portable.encode() if isinstance(portable, str) else bytes(portable)
    finally:
        nvrtc.destroyProgram(program)
