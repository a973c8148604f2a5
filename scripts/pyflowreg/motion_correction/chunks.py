"""How many frames are in memory at a time. Imported while the workflow is parsed: no libraries."""

from __future__ import annotations

CHUNK_BYTES = 24 * 2**20
"""Size of one chunk of frames with its fields in float64."""


def chunk_length(height: int, width: int, channels: int, threads: int = 1) -> int:
    """Frames processed at a time, as many for every thread; changes memory, never results."""
    length = max(2, CHUNK_BYTES // (height * width * (channels + 2) * 8))
    return max(length // threads, 1) * threads
