"""The part of `OFOptions` a session's user may set."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import types
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction.options import OFOptions
from pyflowreg.motion_correction.options_file import read_options
from pyflowreg.settings import shown

logger = logging.getLogger(__name__)

DECIDED = {
    "input_file": "the recordings are what pattern finds in root",
    "output_path": "each recording has its folder in output_root",
    "output_format": "corrected recordings of a session are HDF5; for the aligned ones set "
    "align_output_format at the top level",
    "naming_convention": "the file names of a session are fixed",
    "verbose": "a session always shows its progress",
    "min_frames_per_reference": "it only matters for several references, which are not offered",
}
"""Keys that would have no effect in a session, with the reason."""
TOP_LEVEL = ("input_options", "numerics", "precision", "flow_backend", "backend_params")
NEEDED = {
    "save_valid_idx": "stage 3 needs the valid masks",
    "save_meta_info": "a session keeps statistics and reference frame",
}


def _session_keys() -> Collection[str]:
    from pyflowreg.session.config import SessionConfig

    return SessionConfig.model_fields


def _refused(key: str, value: Any) -> str | None:
    """Return why a session cannot take `key`, or None."""
    if key in DECIDED:
        return f"flow_options.{key}: has no effect in a session: {DECIDED[key]}. Remove it."
    if key in _session_keys():
        return (
            f"flow_options.{key}: belongs to the top level of the settings; write {key} there "
            "(in TOML above the first table's header)."
        )
    if key in NEEDED and value is False:
        return f"flow_options.{key}: false is not allowed in a session: {NEEDED[key]}. Remove it."
    return None


def _from_file(path: Path) -> dict[str, Any]:
    """Read an options file; a saved file always has all keys, so those decided here are dropped."""
    try:
        found = read_options(path)
    except ConfigError as error:
        raise ConfigError([f"flow_options: {text}" for text in error.problems]) from None
    dropped = [
        key for key, value in found.items() if key in DECIDED or (key in NEEDED and value is False)
    ]
    if dropped:
        logger.info("%s: decided by the session, so not taken: %s.", path, ", ".join(dropped))
    return {key: value for key, value in found.items() if key not in dropped}


def checked_flow_options(value: Any) -> dict[str, Any]:
    """Return `flow_options` as a table, every key and value checked.

    Parameters
    ----------
    value : mapping, str or Path
        Keys of `OFOptions`, or the path of a JSON options file (relative to the current folder),
        whose content is returned.

    Returns
    -------
    dict
        As given, not filled with defaults.

    Raises
    ------
    ConfigError
        With every problem found, keys spelt ``flow_options.<key>``.
    """
    if isinstance(value, str | Path) and str(value).strip():
        value = _from_file(Path(os.path.expanduser(value)))  # noqa: PTH111
    if not isinstance(value, Mapping):
        raise ConfigError(
            [
                f"flow_options: {shown(value)} is not allowed; allowed is a table of keys and "
                "values, or the path of a JSON options file."
            ]
        )
    problems = [
        f"flow_options.{key}: a key must be a text." for key in value if type(key) is not str
    ]
    own = {}
    for key, entry in value.items():
        reason = _refused(key, entry)
        if reason is not None:
            problems.append(reason)
        elif isinstance(key, str):
            own[key] = entry
    try:
        OFOptions(**own)
    except ConfigError as error:
        problems.extend(f"flow_options.{text}" for text in error.problems)
    if problems:
        raise ConfigError(problems)
    return dict(own)


def plain_options(options: OFOptions) -> dict[str, Any]:
    """Return the options that decide stage 1's results, as JSON can hold them.

    Parameters
    ----------
    options : OFOptions
        Of one recording.

    Returns
    -------
    dict
        Arrays, functions and the content of a reference image are replaced by a digest.
    """
    from pyflowreg.session.status import content_digest

    left_out = {*DECIDED, *TOP_LEVEL, "n_references", "use_gpu"}
    plain = {
        name: _plain(getattr(options, name))
        for name in type(options).model_fields
        if name not in left_out
    }
    image = options.reference_frames
    if isinstance(image, Path):
        # Not its name: another content under the same name, and any date, is another image. One
        # that cannot be read is reported where it is needed.
        with contextlib.suppress(OSError):
            plain["reference_frames"] = f"image {content_digest(image)}"
    return plain


def _plain(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array {value.shape} {value.dtype} {digest}"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if callable(value):
        return _function(value)
    return value


@functools.cache
def _this_process() -> str:
    return uuid.uuid4().hex


def _function(value: Any, seen: frozenset[int] = frozenset()) -> str:
    """Name a function and what it computes; one that cannot be looked into equals no other run's.

    Parameters
    ----------
    value : callable
        Functions written in Python are told apart by their code, defaults and closure; partials,
        methods, builtins and objects are never the same in two processes.
    seen : frozenset of int
        Identities of what is being described, because closures may refer to themselves.
    """
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value))}"
    if not isinstance(value, types.FunctionType):
        return f"{name} {_this_process()}"
    inner = seen | {id(value)}
    parts = [_part(part, inner) for part in (value.__code__, value.__defaults__)]
    parts.append(_part(value.__kwdefaults__, inner))
    for cell in value.__closure__ or ():
        try:
            parts.append(_part(cell.cell_contents, inner))
        except ValueError:  # a name that is not bound yet
            parts.append("empty")
    return f"{name} {hashlib.sha256(repr(parts).encode()).hexdigest()}"


def _part(value: Any, seen: frozenset[int]) -> str:
    """Describe a constant, a default or a closure's value, the same in every process if it can."""
    if id(value) in seen:
        return "itself"
    inner = seen | {id(value)}
    if isinstance(value, types.CodeType):  # its repr holds an address
        constants = [_part(constant, inner) for constant in value.co_consts]
        return repr((value.co_code.hex(), value.co_names, value.co_varnames, constants))
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}{[_part(entry, inner) for entry in value]}"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(_part(entry, inner) for entry in value)}"
    if isinstance(value, Mapping):
        return repr([(_part(key, inner), _part(entry, inner)) for key, entry in value.items()])
    if isinstance(value, types.ModuleType):
        return value.__name__
    return _function(value, seen) if callable(value) else repr(_plain(value))
