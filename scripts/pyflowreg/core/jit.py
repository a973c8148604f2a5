"""How every compiled kernel of the package is compiled, and kept.

What a kernel is made of, apart from its arguments, must follow from the sources and the processor:
no constant that comes from the environment or from a file. Kept kernels are used again as long as
the file of the kernel, and those it imports from this package, are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numba

from pyflowreg.core.compilation.cache import KernelCache
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.core.compilation.sources import Sources
from pyflowreg.core.compilation.store import PACKAGE, Store
from pyflowreg.core.interruption import uninterrupted

_SOURCES = Sources(PACKAGE, read_now=PACKAGE / "core")
kernel_store = Store()


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator for a function that is compiled when it is first called.

    Parameters
    ----------
    **options
        Passed on to `numba.njit`.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        # No fastmath: reassociation and contraction would make results depend on the machine.
        # nogil: frames are processed by threads. NumPy's error model: no branch per division.
        # C programs do not call them.
        chosen = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True} | options
        compiled = numba.njit(**chosen)(function)
        compiled._cache = KernelCache(function, _SOURCES, kernel_store, compile_log)
        compiled.compile = _compile_uninterrupted(compiled.compile)
        return compiled

    return decorate


def _compile_uninterrupted(compile_: Callable[..., Any]) -> Callable[..., Any]:
    """Compile or load in one go: LLVM asks for machine code through calls of Python.

    An exception in one of these, as Ctrl-C and SIGTERM are, is lost on the way back through LLVM,
    which goes on without the code and ends the program by a segmentation fault.
    """

    @wraps(compile_)
    def compile_now(signature: Any) -> Any:
        return uninterrupted(lambda: compile_(signature))

    return compile_now


inner_kernel = partial(kernel, no_cpython_wrapper=True)
"""As `kernel`, for functions that only other kernels call: a call from Python ends the program."""

inline_kernel = partial(numba.njit, inline="always", error_model="numpy")
"""Part of the kernels that call it, and compiled with each of them."""
