import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "parity")]

from emulated import EmulatedDevice, build, compiler  # noqa: E402

from pyflowreg.core.cuda.plan import CudaBackend  # noqa: E402
from pyflowreg.core.cuda.rooms import Rooms  # noqa: E402


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The kernels compiled for the processor."""
    if compiler() is None:
        pytest.skip("no C++ compiler (c++, g++ or clang++) was found; the kernels cannot be run")
    folder = tmp_path_factory.getbasetemp()
    # With several processes, theirs are in a common folder.
    return build(folder.parent if folder.name.startswith("popen-") else folder)


@pytest.fixture
def emulate(library):
    """Make a backend whose device is the processor."""

    def make(share=0.8, **options):
        device = EmulatedDevice(library, **options)
        return CudaBackend(device, Rooms(device, share))

    return make
