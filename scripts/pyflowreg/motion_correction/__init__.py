"""Motion correction of one recording."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyflowreg.motion_correction.compensate import compensate_recording
    from pyflowreg.motion_correction.options import OFOptions

__all__ = ["OFOptions", "compensate_recording"]

_HOMES = {"OFOptions": "options", "compensate_recording": "compensate"}


def __getattr__(name: str) -> Any:
    # Deferred, so that settings can be read without importing numba.
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
