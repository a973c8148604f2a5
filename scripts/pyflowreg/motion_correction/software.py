"""What of the software the bytes of a result depend on."""

from __future__ import annotations

import zlib
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import h5py

from pyflowreg import NUMERICS_REVISION, __version__
from pyflowreg.core.backend_entries import BACKENDS

_PACKAGES = ("h5py", "numba", "numpy", "scipy", "tifffile")


@cache
def software_revision() -> str:
    """Return a text that differs between revisions whose files could differ in a byte.

    Returns
    -------
    str
        For people, too. The libraries are named because they decide where in a file a frame
        stands: a file that one version began cannot be continued by another.
    """
    libraries = [f"{name} {_version(name)}" for name in _PACKAGES]
    libraries += [f"HDF5 {h5py.version.hdf5_version}", f"zlib {zlib.ZLIB_RUNTIME_VERSION}"]
    return f"pyflowreg {__version__}, numerics {NUMERICS_REVISION}, {', '.join(libraries)}"


def libraries_of(backend: str) -> str:
    """Return the versions of the libraries with which a flow backend computes.

    Parameters
    ----------
    backend : str
        Its name; it has to be installed.

    Returns
    -------
    str
        For people, too; empty for one that needs none of its own.
    """
    modules = BACKENDS[backend].imports
    return ", ".join(
        f"{name} {getattr(import_module(name), '__version__', '?')}" for name in modules
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
