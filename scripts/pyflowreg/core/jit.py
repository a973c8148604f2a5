"""How every compiled kernel of the package is compiled."""

from __future__ import annotations

from functools import partial

import numba

# No fastmath: reassociation and contraction would make results depend on the machine.
# nogil: frames are processed by threads. NumPy's error model: no branch per division.
kernel = partial(numba.njit, cache=True, nogil=True, error_model="numpy")
inline_kernel = partial(numba.njit, inline="always", error_model="numpy")
