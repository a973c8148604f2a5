"""Whether the settings of a recording or a session suit the flow backend they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyflowreg.core.backend_registry import BACKENDS, check_params, refusal, unused_setting
from pyflowreg.errors import ConfigError
from pyflowreg.settings import Settings


def check_backend_params(backend: str, params: Mapping[str, Any], precision: str) -> None:
    """Refuse settings a backend does not know or cannot compute with.

    Parameters
    ----------
    backend : str
        Name of the backend.
    params : mapping
        Keys and values for it.
    precision : str
        Of the computation, "single" or "double".

    Raises
    ------
    ConfigError
        Naming each key. The key `device` is tolerated for every backend.
    """
    check_params(backend, params)
    why = refusal(backend, params, precision)
    if why is not None:
        raise ConfigError([why])


def unused_settings(backend: str, settings: Settings, prefix: str = "") -> list[str]:
    """List the settings that were changed although a backend has no use for them.

    Parameters
    ----------
    backend : str
        Name of the backend.
    settings : Settings
        Options of a recording, or a session.
    prefix : str
        Put before each key, for example "flow_options.".

    Returns
    -------
    list of str
        One sentence per key.
    """
    problems = {}
    for name, field in type(settings).model_fields.items():
        why = unused_setting(backend, name, getattr(settings, name), field.default)
        if why is not None:
            problems[name] = prefix + why
    weight = getattr(settings, "weight", None)
    if not BACKENDS[backend].weight_maps and getattr(weight, "ndim", 1) > 1:
        problems["weight"] = (
            f"{prefix}weight: is a map, which flow_backend {backend} has no use for; give one "
            "number per channel."
        )
    if "min_level" in problems:  # which makes quality_setting "custom"
        problems.pop("quality_setting", None)
    return list(problems.values())


def check_unused(
    backend: str,
    settings: Settings,
    options: type[Settings] | None = None,
    flow_options: Mapping[str, Any] | None = None,
) -> None:
    """Refuse settings that were changed although a backend has no use for them.

    Parameters
    ----------
    backend : str
        Name of the backend.
    settings : Settings
        Options of a recording, or a session.
    options : type, optional
        Class of a session's `flow_options`.
    flow_options : mapping, optional
        Keys and values of them.

    Raises
    ------
    ConfigError
        Naming each.
    """
    problems = unused_settings(backend, settings)
    if options is not None and not BACKENDS[backend].takes_all:
        problems += unused_settings(backend, options(**(flow_options or {})), "flow_options.")
    if problems:
        raise ConfigError(problems)
