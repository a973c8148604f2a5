"""What SIGTERM does to the command and to jobs: it stops them as Ctrl-C does."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


def stop_on_sigterm() -> Any:
    """Let SIGTERM raise SystemExit with status 143, so that work is saved on the way out.

    Returns
    -------
    handler
        What handled it before, for `signal.signal`.
    """
    return signal.signal(signal.SIGTERM, _terminate)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    # Some schedulers send it to a job as a whole and to each of its processes: the second one must
    # not end the saving that the first one began. SIGKILL follows anyhow.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(TERMINATED)
