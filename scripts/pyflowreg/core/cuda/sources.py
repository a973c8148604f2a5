"""The source of the kernels, and how it is compiled."""

from __future__ import annotations

import re
from pathlib import Path

KERNELS = Path(__file__).parent / "kernels"
"""Folder of the source; `all.cu` includes the other files."""

OPTIONS = ("--std=c++17", "--fmad=false")
"""For nvrtc and nvcc. Products and sums are contracted where the source says so, and nowhere
else: the kernels give the bits that those for the CPU give."""

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def kernel_source() -> str:
    """Return the source of all kernels as one text, for compilers that read no files."""
    text = (KERNELS / "all.cu").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: (KERNELS / found[1]).read_text(encoding="utf-8"), text)
