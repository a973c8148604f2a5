"""Flow backends by name; nothing is imported until a backend is asked for.

`pyflowreg.core.backend_entries` says where a backend is and what it needs,
`pyflowreg.core.backend_types` what its module has to offer. This module is read in every job of
the workflow: no numerical libraries.
"""

from __future__ import annotations

import difflib
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pyflowreg.core.backend_entries import BACKENDS, CHUNK_BYTES, BackendEntry, HostNeeds
from pyflowreg.core.backend_types import Backend, FlowPlan
from pyflowreg.errors import BackendError, ConfigError

__all__ = [
    "BACKENDS",
    "CHUNK_BYTES",
    "Availability",
    "Backend",
    "BackendEntry",
    "FlowPlan",
    "HostNeeds",
    "availability",
    "check_backend",
    "check_params",
    "get_backend",
    "host_needs",
    "refusal",
    "result_params",
    "table",
    "unused_setting",
    "uses_gpu",
]


logger = logging.getLogger(__name__)


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
    return f'python -m pip install ".[{extra}]"'


def _not_installed(entry: BackendEntry) -> str | None:
    """Why a backend is not installed; looks for modules without importing them."""
    for module in (*entry.imports, entry.module):
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):  # a parent is missing, or something odd took its place
            found = False
        if not found and module == entry.module:
            return "this version does not have it"
        if not found:
            assert entry.extra is not None
            return f"{module} is not installed; install it with `{install_command(entry.extra)}`"
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
    if why is None and on_this_machine and entry.imports:
        try:
            why = import_module(entry.module).missing(entry.values(params))
        except (ImportError, OSError) as error:
            # Installed, but not whole: another version, a library of the system that is missing,
            # of which PyTorch says so by an OSError.
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


def table() -> list[str]:
    """Describe all backends, and whether they can be used on this machine, one line each.

    Returns
    -------
    list of str
        Name, device, "available" or "missing", and what it is or why it is missing. A backend that
        computes on several devices has a line for each, unless it is not installed.
    """
    rows = []
    for entry in BACKENDS.values():
        installed = availability(entry.name, on_this_machine=False).available
        for device in (entry.devices if installed else ()) or ("",):
            found = availability(entry.name, {"device": device} if device else None)
            state = "available" if found.available else "missing"
            rows.append((entry.name, device, state, found.why or entry.summary))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]


def check_params(name: str, params: Mapping[str, Any]) -> None:
    """Refuse keys of `backend_params` that a backend does not know, and values it cannot use.

    Raises
    ------
    ConfigError
        Naming each. The key `device` is tolerated for every backend.
    """
    from pyflowreg.settings import shown, unknown_key

    known = {param.name: param for param in entry_of(name).params}
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
    entry = entry_of(name)
    values = entry.values(params)
    return {
        param.name: param.in_results(values[param.name])
        for param in entry.params
        if param.in_results is not None
    }


def refusal(name: str, params: Mapping[str, Any], precision: str) -> str | None:
    """Say why a backend cannot compute with these settings; None if it can."""
    entry = entry_of(name)
    why = entry.refuses(entry.values(params), precision)
    return None if why is None else f"flow_backend {name}: {why}."


def unused_setting(name: str, key: str, value: object, default: object) -> str | None:
    """Say that a backend has no use for the value of a setting; None if it has, or if unset.

    Parameters
    ----------
    name : str
        Name of the backend.
    key : str
        Name of the setting in `OFOptions` or `SessionConfig`.
    value, default : object
        Its value, and the one it has if nobody sets it.
    """
    entry = entry_of(name)
    values = value if isinstance(value, list | tuple) else [value]
    # Also one for each direction or channel.
    if key not in entry.unused or value == default or all(one == default for one in values):
        return None
    from pyflowreg.settings import shown

    return (
        f"{key}: {shown(value)} would have no effect, because flow_backend {name} has no use for "
        f"it; remove it ({entry.instead})."
    )


def uses_gpu(name: str, params: Mapping[str, Any]) -> bool:
    """Tell whether a backend computes on a GPU with these settings."""
    entry = entry_of(name)
    return entry.uses_gpu(entry.values(params))


def host_needs(name: str, params: Mapping[str, Any]) -> HostNeeds:
    """Return what a job with this backend needs of the machine it runs on."""
    entry = entry_of(name)
    return replace(entry.needs(entry.values(params)), chunk_bytes=entry.chunk_bytes)


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
    for key in set(backend_params or {}) - set(entry.values()):
        logger.warning("backend_params.%s is not used by the backend %s.", key, name)
    check_backend(name, backend_params, on_this_machine=True)
    backend: Backend = import_module(entry.module).create(entry.values(backend_params))
    return backend
