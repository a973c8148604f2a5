"""Flow backends by name; nothing is imported until a backend is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from pyflowreg.core.parameters import FlowParameters
from pyflowreg.errors import BackendError


class FlowPlan(Protocol):
    """What depends on the fixed frame only, ready for any number of moving frames."""

    def displacements(
        self, moving: NDArray[Any], uv: NDArray[Any] | None = None, threads: int = 1
    ) -> NDArray[Any]:
        """Displacements (T, H, W, 2) of frames (T, H, W, C), all started from `uv` (H, W, 2).

        Two threads may call it at the same time, for chunks that overlap.
        """
        ...


class Backend(Protocol):
    """One implementation of the flow computation."""

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> FlowPlan:
        """Make the plan for one fixed frame (H, W, C)."""
        ...


_BACKENDS = {"flowreg": "pyflowreg.core.backends.flowreg"}


def check_backend(name: str) -> None:
    """Raise `BackendError` unless backend `name` can be used; imports nothing heavy.

    Raises
    ------
    BackendError
        With the names that are available.
    """
    if name in _BACKENDS:
        return
    near = difflib.get_close_matches(str(name), _BACKENDS, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise BackendError(
        f"flow_backend is {name!r}, which this installation does not have. "
        f"Available: {', '.join(_BACKENDS)}.{hint}"
    )


def get_backend(name: str, backend_params: dict[str, Any] | None = None) -> Backend:
    """Load a backend.

    Parameters
    ----------
    name : str
        Backend name.
    backend_params : dict, optional
        Settings of that backend.

    Returns
    -------
    Backend

    Raises
    ------
    BackendError
        If the backend is unknown or not installed.
    """
    check_backend(name)
    backend: Backend = import_module(_BACKENDS[name]).create(backend_params or {})
    return backend
