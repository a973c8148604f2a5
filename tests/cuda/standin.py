"""A stand-in for cupy with the processor for a GPU: only what the backend uses of it.

Copies are made when the stream is waited for, as late as CUDA may make them.
"""

from __future__ import annotations

import ctypes
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
from emulated import Kernels


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        super().__init__({2: "cudaErrorMemoryAllocation: out of memory"}.get(status, "an error"))
        self.status = status


class CUDADriverError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Machine:
    """The devices, and what the tests want of them.

    Parameters
    ----------
    library : Path
        Compiled kernels.
    threads : int, optional
        Threads per block, see `Kernels`.
    memory : int
        Bytes of memory.
    shared_bytes : int
        Largest dynamic shared memory of a block.
    """

    def __init__(self, library, *, threads=1, memory=2**31, shared_bytes=232448):
        self.kernels = Kernels(library, threads)
        self.memory = memory
        self.shared_bytes = shared_bytes
        self.devices = 1
        self.capability = "90"
        self.taken = 0
        self.launched = []
        self.functions = {}
        self.waits = 0
        self.lock = threading.RLock()  # kernels have memory in common
        self.host = SimpleNamespace(memory=2**33, taken=0, lock=self.lock)
        self.streams = {}


class Block:
    """Memory that is counted until it is given back; full of what is no number."""

    def __init__(self, machine, size):
        with machine.lock:
            if machine.taken + size > machine.memory:
                raise OutOfMemoryError(f"out of memory allocating {size} bytes")
            machine.taken += size
        self._machine = machine
        self._size = size
        self._bytes = np.full(size + 512, 0xFF, np.uint8)
        self.ptr = self._bytes.ctypes.data + -self._bytes.ctypes.data % 512

    def __del__(self):
        if hasattr(self, "_size"):
            with self._machine.lock:
                self._machine.taken -= self._size


class Stream:
    def __init__(self, machine):
        self.ptr = id(self)
        self.later = []
        machine.streams[self.ptr] = self


class Event:
    def __init__(self, machine):
        self._machine = machine

    def record(self, stream):
        self._stream = stream

    def synchronize(self):
        for copy in self._stream.later:
            copy()
        self._stream.later.clear()
        self._machine.waits += 1


class Function:
    def __init__(self, machine, name):
        self._machine = machine
        self._name = name
        self.ptr = id(self)
        self.largest = 48 * 1024

    def __call__(self, grid, block, args, shared_mem=0, stream=None):
        machine = self._machine
        assert stream.ptr in machine.streams
        assert 1 <= grid[0] < 2**31
        assert 1 <= grid[1] < 2**16
        assert 1 <= block[0] <= (512 if self._name.startswith("solve") else 256)
        assert shared_mem <= self.largest
        with machine.lock:
            machine.kernels.run(self._name, grid, block[0], shared_mem, args)
            machine.launched.append(self._name)


class Module:
    def __init__(self, machine):
        self._machine = machine

    def load(self, code):
        assert code == b"machine code"

    def get_function(self, name):
        found = Function(self._machine, name)
        self._machine.functions[found.ptr] = found
        return found


class Nvrtc(SimpleNamespace):
    """Compiles nothing, because what runs is there already, but looks at what it is given."""

    class NVRTCError(RuntimeError):
        pass

    def __init__(self):
        super().__init__(programs={}, getVersion=lambda: (12, 9))

    def getSupportedArchs(self):
        return [70, 80, 90]

    def createProgram(self, source, name, headers, include_names):
        assert 'extern "C" __global__' in source
        assert "#include" not in source
        self.programs[1] = source
        return 1

    def compileProgram(self, program, options):
        assert "--fmad=false" in options
        assert "-arch=sm_90" in options

    def getProgramLog(self, program):
        return ""

    def getCUBIN(self, program):
        return b"machine code"

    def getPTX(self, program):
        return "portable code"

    def destroyProgram(self, program):
        del self.programs[program]


def _runtime(machine):
    def copy_async(target, source, size, kind, stream):
        later = machine.streams[stream].later
        if kind == 1:  # to the device; the source must stay as it is until then, which is now
            ctypes.memmove(target, source, size)
            return
        held = ctypes.string_at(source, size)
        later.append(lambda: ctypes.memmove(target, held, size))

    def set_async(target, value, size, stream):
        assert stream in machine.streams
        ctypes.memset(target, value, size)

    def count():
        if machine.devices is None:
            raise CUDARuntimeError(35)
        return machine.devices

    return SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=count,
        getDeviceProperties=lambda number: {"name": b"Processor"},
        runtimeGetVersion=lambda: 12090,
        memGetInfo=lambda: (machine.memory - machine.taken, machine.memory),
        memcpyHostToDevice=1,
        memcpyDeviceToHost=2,
        memcpyAsync=copy_async,
        memsetAsync=set_async,
    )


def cupy_on(machine):
    """Make a module that takes cupy's place."""

    class Device:
        def __init__(self, number):
            assert 0 <= number < machine.devices
            self.compute_capability = machine.capability
            self.attributes = {
                "MultiProcessorCount": 2,
                "MaxSharedMemoryPerBlockOptin": machine.shared_bytes,
            }

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    def stream(*, non_blocking):
        assert non_blocking
        return Stream(machine)

    def event(*, block, disable_timing):
        assert block
        assert disable_timing
        return Event(machine)

    module = ModuleType("cupy")
    module.__spec__ = ModuleSpec("cupy", None)

    def set_attribute(function, attribute, value):
        assert attribute == 8
        assert value <= machine.shared_bytes
        machine.functions[function].largest = value

    module.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 0)
    module.cuda = SimpleNamespace(
        Device=Device,
        Stream=stream,
        Event=event,
        PinnedMemory=lambda size: Block(machine.host, size),
        alloc=lambda size: Block(machine, size),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError, funcSetAttribute=set_attribute),
        nvrtc=Nvrtc(),
        Module=lambda: Module(machine),
        runtime=_runtime(machine),
    )
    return module
