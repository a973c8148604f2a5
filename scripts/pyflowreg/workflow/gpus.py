"""One GPU for each job, on a machine with several.

A scheduler gives a job its GPU and says so in CUDA_VISIBLE_DEVICES; Snakemake on one machine only
counts them. So a job takes one that no other job of this user has, by a lock that ends with it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")
LOCKS = Path("/tmp")
"""Not TMPDIR, which schedulers set to another folder for every job."""

logger = logging.getLogger(__name__)

_held: list[int] = []
"""Descriptors of the locks of this process; closed, and so given back, when it ends."""


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs this process may use, as CUDA_VISIBLE_DEVICES names them.

    Returns
    -------
    list of str
        Empty if there are none.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        # CUDA does not look behind the first name that is none.
        return list(
            takewhile(lambda name: name not in ("", "-1"), map(str.strip, chosen.split(",")))
        )
    try:
        names = [path.name for path in DEVICES.iterdir()]
    except OSError:
        return []
    # CUDA counts those that are there, which in a container are not those of the lowest numbers.
    count = sum(re.fullmatch(r"nvidia\d+", name) is not None for name in names)
    return list(map(str, range(count)))


def claim_gpu(gpus: Sequence[str] | None = None) -> str | None:
    """Take a GPU for this process, before a library that uses it is imported.

    Parameters
    ----------
    gpus : sequence of str, optional
        Those to choose from; by default the visible ones.

    Returns
    -------
    str or None
        The only one that is visible from now on; None if there is no choice, or all are taken.
    """
    gpus = visible_gpus() if gpus is None else gpus
    if len(gpus) < 2:
        return None
    folder = LOCKS if LOCKS.is_dir() else Path(tempfile.gettempdir())
    for gpu in gpus:
        name = f"pyflowreg-{os.getuid()}-gpu-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock"
        if not _taken(folder / name):
            continue
        os.environ[VARIABLE] = gpu
        logger.info("GPU %s of %s.", gpu, ", ".join(gpus))
        return gpu
    logger.warning(
        "All %d GPUs are taken by other jobs; limit them with `--resources gpu=%d`.",
        len(gpus),
        len(gpus),
    )
    return None


def _taken(path: Path) -> bool:
    """Lock a file in a folder where everybody may write: never through a link."""
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor >= 0:
            os.close(descriptor)
        return False
    _held.append(descriptor)
    return True
