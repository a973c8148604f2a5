"""The backend `flowreg_cuda`: what `flowreg` computes, on an NVIDIA GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

from pyflowreg.core.cuda.plan import CudaBackend


def create(backend_params: dict[str, Any]) -> CudaBackend:
    """Make the backend for the device in `backend_params`."""
    return backend_on(str(backend_params["device"]), float(backend_params["max_memory"]))


def missing(backend_params: dict[str, Any]) -> str | None:
    """Why the backend cannot run here, and the way out; None if it can."""
    from pyflowreg.core.cuda.cupy_device import why_missing

    return why_missing(str(backend_params["device"]))


@cache
def backend_on(device: str, share: float) -> CudaBackend:
    """Return the backend of a device: one, so that memory and compiled kernels are there once.

    Parameters
    ----------
    device : str
        Name, such as ``cuda:0``.
    share : float
        Part of the memory that is free now that frames may take.
    """
    from pyflowreg.core.cuda.cupy_device import open_device
    from pyflowreg.core.cuda.rooms import Rooms

    found = open_device(device)
    return CudaBackend(found, Rooms(found, share))
