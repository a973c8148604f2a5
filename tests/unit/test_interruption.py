"""Signals that arrive in what must not be half done."""

from __future__ import annotations

import subprocess
import sys
import textwrap

STOPPED = """
    import os, signal, sys
    import numpy as np
    from pyflowreg.core.backends.flowreg import _interleave
    from pyflowreg.core.compilation.cache import KernelCache
    from pyflowreg.stopping import stop_on_sigterm

    real = KernelCache.load_overload

    def load(cache, signature, context):
        os.kill(os.getpid(), signal.SIGTERM)
        found = real(cache, signature, context)
        sys.stdout.write("loaded")
        return found

    KernelCache.load_overload = load
    stop_on_sigterm()
    _interleave(np.zeros((2, 4, 4), np.float32), np.zeros((4, 4, 2), np.float32))
    sys.stdout.write("called")
"""


def test_a_kernel_is_loaded_to_the_end_before_sigterm_stops_the_process():
    """Within LLVM's calls of Python the exception would be lost, and the process crash."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STOPPED)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (143, "loaded"), done.stderr
