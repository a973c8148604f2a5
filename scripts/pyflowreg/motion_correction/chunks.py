"""How many frames are in memory at a time. Imported while the workflow is parsed: no libraries."""

from __future__ import annotations

from pyflowreg.core.backend_registry import CHUNK_BYTES


def chunk_length(
    height: int, width: int, channels: int, threads: int = 1, size: int = CHUNK_BYTES
) -> int:
    """Frames processed at a time, as many for every thread; changes memory, never results.

    `size` is that of a chunk with its fields in float64, bytes.
    """
    length = max(2, size // (height * width * (channels + 2) * 8))
    return max(length // threads, 1) * threads
