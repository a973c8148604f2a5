"""The backend `flowreg_cuda`: what `flowreg` computes, on an NVIDIA GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

from pyflowreg.core.cuda.plan import CudaBackend

SHARE = 0.8
"""Part of the memory that is free at the beginning that frames may take."""


def create(backend_params: dict[str, Any]) -> CudaBackend:
    """Make the backend for the device in `backend_params`."""
    return _backend(str(backend_params.get("device", "cuda:0")))


def missing(backend_params: dict[str, Any]) -> str | None:
    """Why the backend cannot run here, and the way out; None if it can."""
    from pyflowreg.core.cuda.cupy_device import why_missing

    return why_missing(str(backend_params.get("device", "cuda:0")))


@cache
def _backend(device: str) -> CudaBackend:
    """One per device, so that its memory and its compiled kernels are there once."""
    from pyflowreg.core.cuda.cupy_device import open_device
    from pyflowreg.core.cuda.rooms import Rooms

    found = open_device(device)
    return CudaBackend(found, Rooms(found, SHARE))
