"""Compiled kernels on disk.

Numba's own cache does not fit: it knows a kernel by the file that holds it, so that after a change
of a function from another file, compiled into the kernel, the old machine code would go on being
used; processes that compile at the same time can exchange their files; and a file that cannot be
read ends the program.

Here every kernel has one file per signature, processor, numba version and state of the sources,
all of which are in its name, so that whoever writes it writes the same. Any number of processes, on
any number of machines that share the disk, may read and write at once. Whatever goes wrong, the
kernel is compiled again and the program goes on.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba

from pyflowreg.core.compilation.log import CompileLog
from pyflowreg.core.compilation.sources import Sources
from pyflowreg.core.compilation.store import Store

logger = logging.getLogger(__name__)

VERSIONS = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag)
# Settings of numba that change machine code; the processor and its features are in the key as well.
CODE_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")
# What restoring or storing a kernel may raise when numba is not as expected.
UNUSABLE = (
    OSError, ValueError, TypeError, AttributeError, ImportError, LookupError, EOFError,
    pickle.PickleError,
)  # fmt: skip


class KernelCache:
    """Stands in for numba's cache of one compiled function; numba calls it by these names.

    Parameters
    ----------
    function : callable
        The Python function.
    sources : Sources
        What it is made of.
    store : Store
        Where files are kept.
    log : CompileLog
        Is told what is compiled.
    """

    def __init__(
        self, function: Callable[..., Any], sources: Sources, store: Store, log: CompileLog
    ) -> None:
        self._function = function
        self._path = Path(inspect.getfile(function)).resolve()
        self._sources = sources
        self._store = store
        self._log = log

    @property
    def cache_path(self) -> str:
        """First folder looked into; a part of numba's statistics."""
        return str(self._store.folders[0])

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function for a signature, None if it has to be compiled."""
        target_context.refresh()
        compiled = None
        if self._sources.unchanged(self._path):
            try:
                compiled = self._restore(sig, target_context)
            except UNUSABLE as error:
                logger.debug("%s is compiled again: %r", self._function.__name__, error)
        if compiled is None:
            self._log.start((self, sig), self._store)
        return compiled

    def _restore(self, sig: Any, target_context: Any) -> Any:
        from numba.core.compiler import CompileResult

        content = self._store.read(self._file_name(sig, target_context.codegen()))
        if content is None:
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(content))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function."""
        self._log.stop((self, sig))
        if not self._sources.unchanged(self._path):
            return
        try:
            if data.lifted or data.library.has_dynamic_globals:
                logger.debug("%s holds addresses and is not kept", self._function.__name__)
                return
            from numba.core.serialize import dumps

            self._store.write(self._file_name(sig, data.codegen), dumps(data._reduce()))
        except UNUSABLE as error:
            logger.warning("The kernel %s cannot be kept: %r", self._function.__name__, error)

    def _file_name(self, sig: Any, codegen: Any) -> str:
        """Return a name that no other function, signature, processor or source has."""
        function = self._function
        settings = [getattr(numba.config, name, None) for name in CODE_SETTINGS]
        names = (function.__module__, function.__qualname__, str(sig))
        key = hashlib.sha256(repr((*names, *VERSIONS, *settings)).encode())
        key.update(repr(codegen.magic_tuple()).encode())
        key.update(self._sources.digest(self._path))
        key.update(function.__code__.co_code)
        if function.__closure__:
            from numba.core.serialize import dumps

            key.update(dumps([cell.cell_contents for cell in function.__closure__]))
        return f"{function.__name__}-{key.hexdigest()[:32]}.kernel"

    def enable(self) -> None:
        """Do nothing; a part of numba's interface."""

    def disable(self) -> None:
        """Do nothing; a part of numba's interface."""

    def flush(self) -> None:
        """Do nothing; a part of numba's interface."""
