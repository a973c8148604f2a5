"""A GPU of NVIDIA's, through cupy. Nothing else of the backend knows cupy."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.cuda.compiling import machine_code
from pyflowreg.core.cuda.device import Argument, DeviceArray, DeviceMemoryError
from pyflowreg.core.cuda.pinned import PinnedPool

OLDEST = 70
"""Oldest compute capability, in tenths."""

OUT_OF_MEMORY = 2
"""Status of CUDA's runtime."""

LARGE_BLOCK = 48 * 1024
"""More dynamic shared memory than this (bytes) has to be asked for."""

LARGEST_DYNAMIC_SHARED = 8
"""Number of the attribute of a kernel with which it is asked for."""


def device_number(name: str) -> int:
    """Number in the name of a device: 1 of ``cuda:1``; 0 of ``cuda``."""
    found = re.fullmatch(r"cuda(?::(\d+))?", name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of a CUDA device.")
    return int(found[1] or 0)


def why_missing(name: str) -> str | None:
    """Tell why a device cannot be used, and the way out; None if it can."""
    import cupy

    runtime = cupy.cuda.runtime
    number = device_number(name)
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return (
            f"no CUDA device can be used ({error}); an NVIDIA GPU is needed that "
            "CUDA_VISIBLE_DEVICES does not hide, and a driver for CUDA "
            f"{_version(runtime.runtimeGetVersion())} or newer"
        )
    if number >= count:
        return (
            f"backend_params.device is {name}, but {count} CUDA device(s) are visible, numbered "
            "from 0; CUDA_VISIBLE_DEVICES may hide others"
        )
    capability = _capability(cupy, number)
    if capability < OLDEST:
        return f"{name} has compute capability {capability / 10}; at least {OLDEST / 10} is needed"
    try:
        cupy.cuda.nvrtc.getVersion()
    except (RuntimeError, OSError) as error:
        return (
            f"the compiler library nvrtc cannot be loaded ({error}); install it with "
            "python -m pip install nvidia-cuda-nvrtc-cu12"
        )
    return None


def _capability(cupy: Any, number: int) -> int:
    """Compute capability of a device, in tenths."""
    return int(cupy.cuda.Device(number).compute_capability)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


@cache
def open_device(name: str) -> CupyDevice:
    """Return a device by its name; one object per process."""
    return CupyDevice(device_number(name))


class CupyDevice:
    """A GPU; see `pyflowreg.core.cuda.device.Device`.

    Parameters
    ----------
    number : int
        Of those that CUDA_VISIBLE_DEVICES leaves.
    """

    def __init__(self, number: int) -> None:
        import cupy

        self.cupy = cupy
        self.number = number
        attributes = cupy.cuda.Device(number).attributes
        self.processors = int(attributes["MultiProcessorCount"])
        self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
        found = cupy.cuda.runtime.getDeviceProperties(number)["name"]
        self.name = f"GPU cuda:{number} ({found.decode(errors='replace')})"
        self.pinned = PinnedPool(self._pinned_block)
        self._lock = Lock()
        self._kernels: dict[str, Any] = {}
        self._large: set[str] = set()
        with self.used():
            self._module = cupy.cuda.Module()
            self._module.load(machine_code(cupy.cuda.nvrtc, _capability(cupy, number)))

    def used(self) -> AbstractContextManager[Any]:
        """Make it the calling thread's device."""
        device: AbstractContextManager[Any] = self.cupy.cuda.Device(self.number)
        return device

    def _pinned_block(self, size: int) -> Any:
        runtime = self.cupy.cuda.runtime
        try:
            with self.used():
                return self.cupy.cuda.PinnedMemory(size)
        except runtime.CUDARuntimeError as error:
            if error.status == OUT_OF_MEMORY:
                raise MemoryError(str(error)) from error
            raise

    def free_bytes(self) -> int:
        """Memory nobody uses at present."""
        with self.used():
            free, _ = self.cupy.cuda.runtime.memGetInfo()
            return int(free) + int(self.cupy.get_default_memory_pool().free_bytes())

    def allocate(self, size: int) -> CupyMemory:
        """Take memory from cupy's pool, which aligns to 512 bytes."""
        try:
            with self.used():
                return CupyMemory(self.cupy.cuda.alloc(size))
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise DeviceMemoryError(str(error)) from error

    def stream(self) -> CupyStream:
        """Make a queue of its own."""
        return CupyStream(self)

    def kernel(self, name: str, shared: int) -> Any:
        """Return a kernel that may be given so much dynamic shared memory."""
        with self._lock:
            if name not in self._kernels:
                self._kernels[name] = self._module.get_function(name)
            kernel = self._kernels[name]
            if shared > LARGE_BLOCK and name not in self._large:
                # Before a launch, in this device's context.
                self.cupy.cuda.driver.funcSetAttribute(
                    kernel.ptr, LARGEST_DYNAMIC_SHARED, self.shared_bytes
                )
                self._large.add(name)
            return kernel


class CupyMemory:
    """Memory of a device, given back to cupy's pool with this object.

    Parameters
    ----------
    memory : cupy.cuda.MemoryPointer
        What cupy gave.
    """

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    @property
    def pointer(self) -> int:
        """Address of the first byte."""
        return int(self._memory.ptr)


class CupyStream:
    """A queue of work for a GPU; see `pyflowreg.core.cuda.device.Stream`.

    Parameters
    ----------
    device : CupyDevice
        The GPU.
    """

    def __init__(self, device: CupyDevice) -> None:
        self._device = device
        cuda = device.cupy.cuda
        with device.used():
            self._stream = cuda.Stream(non_blocking=True)
            # Waiting for it leaves the core to others.
            self._end = cuda.Event(block=True, disable_timing=True)
        self._held: list[NDArray[Any]] = []

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int],
        block: int,
        *arguments: Argument,
        shared: int = 0,
    ) -> None:
        """Run a kernel."""
        driver = self._device.cupy.cuda.driver
        with self._device.used():
            function = self._device.kernel(kernel, shared)
            values = tuple(map(_value, arguments))
            try:
                function(grid, (block,), values, shared, self._stream)
            except driver.CUDADriverError as error:
                if "OUT_OF_MEMORY" in str(error):
                    raise DeviceMemoryError(str(error)) from error
                raise

    def upload(self, target: DeviceArray, source: NDArray[Any]) -> None:
        """Copy to the device, through page-locked memory."""
        runtime = self._device.cupy.cuda.runtime
        with self._device.used():
            staged = self._device.pinned.empty(source.shape, source.dtype)
            staged[...] = source
            self._held.append(staged)
            runtime.memcpyAsync(
                target.pointer, staged.ctypes.data, staged.nbytes,
                runtime.memcpyHostToDevice, self._stream.ptr,
            )  # fmt: skip

    def download(self, source: DeviceArray) -> NDArray[Any]:
        """Return an array in page-locked memory that is complete after `wait`."""
        runtime = self._device.cupy.cuda.runtime
        with self._device.used():
            out = self._device.pinned.empty(source.shape, source.dtype)
            self._held.append(out)
            runtime.memcpyAsync(
                out.ctypes.data, source.pointer, out.nbytes, runtime.memcpyDeviceToHost,
                self._stream.ptr,
            )  # fmt: skip
        return out

    def clear(self, target: DeviceArray) -> None:
        """Fill with zeros."""
        with self._device.used():
            self._device.cupy.cuda.runtime.memsetAsync(
                target.pointer, 0, target.nbytes, self._stream.ptr
            )

    def wait(self) -> None:
        """Wait until everything is done; the core is free meanwhile."""
        with self._device.used():
            self._end.record(self._stream)
            self._end.synchronize()
        self._held.clear()


def _value(argument: Argument) -> np.generic:
    """An argument as cupy passes it on: a number of the size of the parameter."""
    if argument is None:
        return np.uint64(0)
    if isinstance(argument, DeviceArray):
        return np.uint64(argument.pointer)
    return np.int32(argument) if isinstance(argument, int) else argument
