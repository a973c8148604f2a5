"""Ctrl-C and SIGTERM, kept from what must not be half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


def uninterrupted(function: Callable[[], Result]) -> Result:
    """Call a function which Ctrl-C and SIGTERM do not stop half-way.

    Both become exceptions that may come anywhere in the main thread.

    Parameters
    ----------
    function : callable
        Should take no longer than a user wants to wait.

    Returns
    -------
    result
        Of the function.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        When the function has ended; what the handler of the first signal raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    arrived: list[int] = []
    handlers: dict[int, Any] = {}

    def remember(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, remember)
        return function()
    finally:
        # SIGINT last: after SIGTERM the process ends, whatever its handler is.
        for known in sorted(handlers, reverse=True):
            signal.signal(known, handlers[known])
        if arrived:
            handlers[arrived[0]](arrived[0], None)
