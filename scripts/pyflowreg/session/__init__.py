"""Sessions: several recordings of one field of view, corrected and aligned to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyflowreg.session.config import SessionConfig, get_array_task_id

__all__ = ["SessionConfig", "get_array_task_id"]


def __getattr__(name: str) -> Any:
    # Deferred, so that importing one stage does not import the others, nor pydantic.
    if name in __all__:
        from pyflowreg.session import config

        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
