"""Which GPU is used, and what is said if none can be."""

import sys
from types import SimpleNamespace

import pytest
from standin import Module, Nvrtc, cupy_on

from pyflowreg.core.backend_registry import availability, get_backend
from pyflowreg.core.cuda.cupy_device import device_number, open_device
from pyflowreg.errors import BackendError, ConfigError


def test_usable(machine):
    machine()
    assert availability("flowreg_cuda").available
    assert get_backend("flowreg_cuda", {"device": "cuda:0"}).device.processors == 2


def test_no_driver(machine):
    machine().devices = None
    why = availability("flowreg_cuda").why
    assert "no CUDA device" in why
    assert "CUDA 12.9" in why
    with pytest.raises(BackendError, match="no CUDA device"):
        get_backend("flowreg_cuda")


def test_number_of_a_device_that_is_not_visible(machine):
    machine()
    why = availability("flowreg_cuda", {"device": "cuda:3"}).why
    assert "cuda:3" in why
    assert "1 CUDA device(s)" in why
    assert "CUDA_VISIBLE_DEVICES" in why


def test_old_device(machine):
    machine().capability = "61"
    assert "compute capability 6.1" in availability("flowreg_cuda").why


def test_no_compiler_library(machine):
    machine()

    def fail():
        raise RuntimeError("libnvrtc.so.12: cannot open shared object file")

    sys.modules["cupy"].cuda.nvrtc.getVersion = fail
    why = availability("flowreg_cuda").why
    assert "libnvrtc.so.12" in why
    assert "pip install" in why


def test_names_of_devices():
    assert [device_number(name) for name in ("cuda", "cuda:0", "cuda:12")] == [0, 0, 12]


@pytest.mark.parametrize("params", [{"device": "gpu"}, {"max_memory": 0}, {"max_memory": "all"}])
def test_settings_are_checked(machine, params):
    machine()
    with pytest.raises(ConfigError, match="backend_params"):
        get_backend("flowreg_cuda", params)


def test_messages_name_the_device(machine):
    machine()
    assert open_device("cuda:0").name == "GPU cuda:0 (Processor)"


def test_the_stand_in_has_nothing_that_cupy_has_not():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    ours = cupy_on(SimpleNamespace(lock=None))
    parts = ("runtime", "driver", "memory")
    places = [(ours, cupy), (ours.cuda, cupy.cuda)]
    places += [(getattr(ours.cuda, part), getattr(cupy.cuda, part)) for part in parts]
    assert all(hasattr(cupy.cuda.nvrtc, name) for name in vars(Nvrtc) if name[0] != "_")
    assert all(hasattr(cupy.cuda.Module, name) for name in vars(Module) if name[0] != "_")
    for stand_in, real in places:
        for name in (name for name in vars(stand_in) if not name.startswith("__")):
            assert hasattr(real, name), f"{real}: {name}"
    assert hasattr(cupy.cuda.Function, "ptr")
    assert ours.cuda.runtime.memcpyHostToDevice == cupy.cuda.runtime.memcpyHostToDevice
    assert ours.cuda.runtime.memcpyDeviceToHost == cupy.cuda.runtime.memcpyDeviceToHost
    assert cupy.cuda.runtime.CUDARuntimeError(2).status == 2
