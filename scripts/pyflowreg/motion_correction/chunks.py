"""How many frames are in memory at a time. Imported while the workflow is parsed: no libraries."""

from __future__ import annotations

CHUNK_BYTES = 2**25
"""Size of one chunk of frames with its fields in float64."""


def chunk_length(height: int, width: int, channels: int) -> int:
    """Frames processed at a time; changes memory, never results."""
    return max(4, CHUNK_BYTES // (height * width * (channels + 2) * 8))
