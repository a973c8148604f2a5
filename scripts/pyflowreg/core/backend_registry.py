"""Flow backends by name; nothing is imported until a backend is asked for.

An entry says where a backend is and what it needs; `pyflowreg.core.backend_types` says what its
module has to offer. This module is read in every job of the workflow: no numerical libraries.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pyflowreg.core import backend_params as kinds
from pyflowreg.core.backend_params import Param, completed
from pyflowreg.core.backend_types import Backend, FlowPlan
from pyflowreg.errors import BackendError, ConfigError

__all__ = [
    "BACKENDS",
    "Availability",
    "Backend",
    "BackendEntry",
    "FlowPlan",
    "availability",
    "check_backend",
    "check_params",
    "get_backend",
    "result_params",
]

CHUNK_BYTES = 24 * 2**20
"""Size of one chunk of frames with its fields in float64, on the host."""


def _is_gpu(params: Mapping[str, Any]) -> bool:
    return str(params["device"]) != "cpu"


def _never(params: Mapping[str, Any]) -> bool:
    del params
    return False


@dataclass(frozen=True)
class BackendEntry:
    """What is known about a backend without importing it.

    Parameters
    ----------
    name : str
        Value of `flow_backend`.
    module : str
        Module with `create` and `missing`, see `backend_types`.
    summary : str
        What it is, in a few words.
    extra : str, optional
        Optional dependencies of this project it needs (``pip install .[extra]``).
    imports : tuple of str
        Modules that come with the extra; looked for, not imported, to see if it is installed.
    params : tuple of Param
        Keys of `backend_params`.
    unused : tuple of str
        Settings of the flow (names of `OFOptions`) it has no use for: values other than the
        defaults are refused.
    uses_gpu : callable
        Whether it computes on a GPU, from all values of its `params`.
    chunk_bytes : int
        Frames it is given at a time, as bytes of a frame with its field in float64 on the host:
        (C + 2) * 8 per pixel. Memory is reserved for it before any job starts.
    """

    name: str
    module: str
    summary: str
    extra: str | None = None
    imports: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    unused: tuple[str, ...] = ()
    uses_gpu: Callable[[Mapping[str, Any]], bool] = _never
    chunk_bytes: int = CHUNK_BYTES

    def values(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Values of all keys of `backend_params`, defaults filled in."""
        return completed(self.params, given or {})


_ENTRIES = (
    BackendEntry(
        "flowreg",
        "pyflowreg.core.backends.flowreg",
        "compiled kernels on the CPU; every computer has it",
    ),
    BackendEntry(
        "flowreg_cuda",
        "pyflowreg.core.backends.flowreg_cuda",
        "the same results on an NVIDIA GPU",
        extra="cuda",
        imports=("cupy",),
        params=(kinds.device(("cuda",), "cuda:0"),),
        uses_gpu=_is_gpu,
        chunk_bytes=1536 * 2**20,
    ),
    BackendEntry(
        "flowreg_torch",
        "pyflowreg.core.backends.flowreg_torch",
        "nearly the same results with PyTorch, on any of its devices",
        extra="torch",
        imports=("torch",),
        params=(kinds.device(("cuda", "mps", "cpu"), "cuda:0"),),
        uses_gpu=_is_gpu,
        chunk_bytes=192 * 2**20,
    ),
    BackendEntry(
        "diso",
        "pyflowreg.core.backends.diso",
        "OpenCV's dense inverse search: another method, on the CPU",
        extra="diso",
        imports=("cv2",),
    ),
)
BACKENDS = {entry.name: entry for entry in _ENTRIES}
"""All backends by name."""


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here.

    Parameters
    ----------
    available : bool
        Whether it can.
    why : str
        Why not, and the way out; empty if it can.
    """

    available: bool
    why: str = ""


def entry_of(name: str) -> BackendEntry:
    """Return the entry of a backend.

    Raises
    ------
    BackendError
        If there is none of that name.
    """
    if name in BACKENDS:
        return BACKENDS[name]
    near = difflib.get_close_matches(str(name), BACKENDS, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise BackendError(
        f"flow_backend is {name!r}, which does not exist. There are {', '.join(BACKENDS)}.{hint}"
    )


def install_command(extra: str) -> str:
    """Return the command that installs optional dependencies of this project."""
    repository = Path(__file__).resolve().parents[3]
    if (repository / "pyproject.toml").is_file():
        return f'python -m pip install -e "{repository}[{extra}]"'
    return f'python -m pip install ".[{extra}]" in a copy of this project\'s repository'


def _not_installed(entry: BackendEntry) -> str | None:
    """Why a backend is not installed; looks for modules without importing them."""
    for module in (*entry.imports, entry.module):
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):  # a parent is missing, or something odd took its place
            found = False
        if not found and module == entry.module:
            return "this version does not have it yet"
        if not found:
            assert entry.extra is not None
            return f"{module} is not installed; install it with {install_command(entry.extra)}"
    return None


def availability(
    name: str, params: Mapping[str, Any] | None = None, *, on_this_machine: bool = True
) -> Availability:
    """Tell whether a backend can be used.

    Parameters
    ----------
    name : str
        Its name.
    params : mapping, optional
        Its `backend_params`.
    on_this_machine : bool
        Also look for the device it computes on, for which the backend is imported. Without, only
        whether what it needs is installed: jobs of a cluster run elsewhere.

    Returns
    -------
    Availability
    """
    entry = entry_of(name)
    why = _not_installed(entry)
    if why is None and on_this_machine:
        try:
            why = import_module(entry.module).missing(entry.values(params))
        except ImportError as error:
            # Installed, but not whole: another version, a library of the system that is missing.
            why = f"it cannot be imported ({error})"
    return Availability(why is None, why or "")


def check_backend(
    name: str, params: Mapping[str, Any] | None = None, *, on_this_machine: bool = False
) -> None:
    """Raise `BackendError` unless a backend can be used; see `availability`.

    Raises
    ------
    BackendError
        With the reason and the way out. No other backend or device takes its place.
    """
    found = availability(name, params, on_this_machine=on_this_machine)
    if not found.available:
        raise BackendError(f"flow_backend {name} is not available: {found.why}.")


def check_params(name: str, params: Mapping[str, Any]) -> None:
    """Refuse keys of `backend_params` that a backend does not know, and values it cannot use.

    Raises
    ------
    ConfigError
        Naming each. The key `device` is tolerated for every backend.
    """
    from pyflowreg.settings import shown, unknown_key

    known = {param.name: param for param in BACKENDS[name].params}
    problems = []
    for key, value in params.items():
        param = known.get(key)
        if param is None and key != "device":
            problems.append(unknown_key(f"backend_params.{key}", str(key), known))
        elif param is not None and value != param.default and not param.is_allowed(value):
            text = f"backend_params.{key}: {shown(value)} is not allowed; allowed: {param.allowed}."
            problems.append(text)
    if problems:
        raise ConfigError(problems)


def result_params(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results depend on of the settings of a backend, defaults filled in.

    Parameters
    ----------
    name : str
        Name of the backend.
    params : mapping
        Its `backend_params`.

    Returns
    -------
    dict
        For records and fingerprints.
    """
    entry = BACKENDS[name]
    values = entry.values(params)
    return {
        param.name: param.in_results(values[param.name])
        for param in entry.params
        if param.in_results is not None
    }


def uses_gpu(name: str, params: Mapping[str, Any]) -> bool:
    """Tell whether a backend computes on a GPU with these settings."""
    entry = BACKENDS[name]
    return entry.uses_gpu(entry.values(params))


def get_backend(name: str, backend_params: Mapping[str, Any] | None = None) -> Backend:
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
        If the backend is unknown, not installed, or has no device here.
    ConfigError
        If its settings cannot be used.
    """
    entry = entry_of(name)
    check_params(name, backend_params or {})
    check_backend(name, backend_params, on_this_machine=True)
    backend: Backend = import_module(entry.module).create(entry.values(backend_params))
    return backend
