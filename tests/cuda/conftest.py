import sys
from functools import partial
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "parity"), str(HERE.parent / "unit")]

from closeness import ON_GPU  # noqa: E402
from emulated import build, compiler  # noqa: E402
from standin import Machine, cupy_on  # noqa: E402

from pyflowreg.core.backend_registry import get_backend  # noqa: E402
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


def _forget():
    for kept in (flowreg_cuda.backend_on, cupy_device.open_device):
        kept.cache_clear()


@pytest.fixture
def machine(request, monkeypatch):
    """Make a machine whose processor takes the place of a GPU, for all that is done from now on."""
    if ON_GPU:
        pytest.skip("about what only the stand-in for a GPU can do")
    library = request.getfixturevalue("library")

    def make(**options):
        found = Machine(library, **options)
        monkeypatch.setattr(cupy_device, "machine_code", partial(machine_code, store=Nothing()))
        monkeypatch.setitem(sys.modules, "cupy", cupy_on(found))
        _forget()
        return found

    yield make
    _forget()


@pytest.fixture
def cuda_backend(request):
    """Make the backend: on such a machine, or with PYFLOWREG_TEST_GPU on the first GPU."""
    if ON_GPU:

        def on_gpu(**options):
            if options:
                pytest.skip("about what only the stand-in for a GPU can do")
            return get_backend("flowreg_cuda")

        return on_gpu
    machine = request.getfixturevalue("machine")

    def make(share=0.8, **options):
        machine(**options)
        return get_backend("flowreg_cuda", {"max_memory": share})

    return make
