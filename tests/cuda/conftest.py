import sys
from functools import partial
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "parity"), str(HERE.parent / "unit")]

from emulated import build, compiler  # noqa: E402
from standin import Machine, cupy_on  # noqa: E402

from pyflowreg.core.backends import flowreg_cuda  # noqa: E402
from pyflowreg.core.cuda import cupy_device  # noqa: E402
from pyflowreg.core.cuda.compiling import machine_code  # noqa: E402


class Nothing:
    """A store of compiled kernels in which nothing is kept."""

    def read(self, name):
        return None

    def write(self, name, content):
        assert content


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The kernels compiled for the processor."""
    if compiler() is None:
        pytest.skip("no C++ compiler (c++, g++ or clang++) was found; the kernels cannot be run")
    folder = tmp_path_factory.getbasetemp()
    # With several processes, theirs are in a common folder.
    return build(folder.parent if folder.name.startswith("popen-") else folder)


@pytest.fixture
def machine(library, monkeypatch):
    """Make a machine whose processor takes the place of a GPU, for all that is done from now on."""

    def make(**options):
        found = Machine(library, **options)
        monkeypatch.setattr(cupy_device, "machine_code", partial(machine_code, store=Nothing()))
        monkeypatch.setitem(sys.modules, "cupy", cupy_on(found))
        for kept in (flowreg_cuda.backend_on, cupy_device.open_device):
            kept.cache_clear()
        return found

    yield make
    for kept in (flowreg_cuda.backend_on, cupy_device.open_device):
        kept.cache_clear()


@pytest.fixture
def emulate(machine):
    """Make the backend on such a machine."""

    def make(share=0.8, **options):
        machine(**options)
        return flowreg_cuda.create({"device": "cuda:0", "max_memory": share})

    return make
