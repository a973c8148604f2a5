"""Memory of the GPU that does not suffice: fewer frames at a time, then a clear error."""

import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pytest
from cases import parameters, scene
from numpy.testing import assert_array_equal
from standin import CUDADriverError

from pyflowreg.core.backends import flowreg_cuda
from pyflowreg.core.cuda.pinned import PinnedPool
from pyflowreg.errors import BackendError

PARAMS = {"device": "cuda:0", "max_memory": 0.8}


@pytest.fixture
def pair():
    return scene(40, 40, frames=8)


def per_frame(plan):
    """Bytes that one frame takes."""
    sizes = [plan._rooms._size(plan._flow.reserve, frames) for frames in (8, 16)]
    return (sizes[1] - sizes[0]) // 8


def test_as_many_frames_at_a_time_as_fit(machine, pair):
    fixed, moving = pair
    ample = machine()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    expected = plan.displacements(moving)
    solved = ample.launched.count("solve_f32")
    tight = machine(memory=12 * per_frame(plan))
    small = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    tight.launched.clear()
    assert_array_equal(small.displacements(moving), expected)
    assert tight.launched.count("solve_f32") == 2 * solved  # half of 80 % for each of two calls
    assert tight.taken <= 0.8 * tight.memory


def test_halved_when_others_took_the_memory(machine, pair, caplog):
    fixed, moving = pair
    machine()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    expected = plan.displacements(moving)
    found = machine(memory=40 * per_frame(plan))
    crowded = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    found.memory = found.taken + 3 * per_frame(plan)
    with caplog.at_level(logging.WARNING):
        assert_array_equal(crowded.displacements(moving), expected)
    assert "half as many" in caplog.text
    assert "8 frames" in caplog.text
    caplog.clear()
    crowded.displacements(moving)  # it is remembered
    assert not caplog.text


def test_memory_of_a_try_that_failed_is_there_for_the_next(machine, pair, monkeypatch, caplog):
    """A kernel finds no memory of its own, and others take what is free."""
    fixed, moving = pair
    found = machine()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    expected = plan.displacements(moving)
    flowreg_cuda.backend_on.cache_clear()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    real = found.kernels.run

    def refuse(*arguments):
        monkeypatch.setattr(found.kernels, "run", real)
        found.memory = found.taken + 1000
        raise CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")

    monkeypatch.setattr(found.kernels, "run", refuse)
    with caplog.at_level(logging.WARNING):
        assert_array_equal(plan.displacements(moving), expected)
    assert caplog.text.count("half as many") == 1


def test_error_when_a_single_frame_does_not_fit(machine, pair):
    fixed, moving = pair
    found = machine()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    found.memory = found.taken + 1000
    with pytest.raises(BackendError) as error:
        plan.displacements(moving)
    text = str(error.value)
    assert "cuda:0" in text
    assert "MB" in text
    assert "flow_backend: flowreg" in text
    found.memory = 2**31  # the others have ended
    assert np.isfinite(plan.displacements(moving)).all()


def test_error_when_the_fixed_frame_does_not_fit(machine, pair):
    fixed, _ = pair
    found = machine()
    backend = flowreg_cuda.create(PARAMS)
    found.memory = found.taken + 1000
    with pytest.raises(BackendError, match=r"cuda:0 .* MB of free memory.*flow_backend: flowreg"):
        backend.prepare(fixed, parameters())


def test_memory_that_waits_for_other_frames_is_taken_first(machine, pair):
    """Two calls have memory for many frames each; none is left for one more of another kind."""
    fixed, moving = pair
    found = machine()
    backend = flowreg_cuda.create(PARAMS)
    plan = backend.prepare(fixed, parameters())
    expected = plan.displacements(moving)
    larger = scene(80, 80, frames=1)
    alone = backend.prepare(larger[0], parameters()).displacements(larger[1])
    flowreg_cuda.backend_on.cache_clear()
    backend = flowreg_cuda.create(PARAMS)
    plan = backend.prepare(fixed, parameters())
    with backend.rooms._lent():  # so that both have worked
        plan.displacements(moving)
    plan.displacements(moving)
    found.memory = found.taken + 1000
    other = backend.prepare(larger[0], parameters())
    assert_array_equal(other.displacements(larger[1]), alone)
    assert_array_equal(plan.displacements(moving), expected)


def test_memory_is_given_back(machine, pair):
    fixed, moving = pair
    found = machine()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    before = found.taken
    assert before > 0
    plan.displacements(moving)
    assert found.taken > before
    del plan
    flowreg_cuda.backend_on.cache_clear()
    gc.collect()
    assert found.taken == 0


def test_grids_of_tiny_frames_with_many_channels(machine):
    """CUDA allows 65535 blocks; there is one for each plane."""
    machine()
    rooms = flowreg_cuda.create(PARAMS).rooms
    assert rooms.frames(lambda layout, frames: None, 10**6) * 15 < 2**16


def test_one_wait_per_chunk(machine, pair):
    fixed, moving = pair
    found = machine()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    waits = found.waits
    plan.displacements(moving)
    assert found.waits == waits + 1


def test_two_threads_at_a_time(machine, pair):
    fixed, moving = pair
    machine()
    plan = flowreg_cuda.create(PARAMS).prepare(fixed, parameters())
    expected = [plan.displacements(frame[None]) for frame in moving]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda frame: plan.displacements(frame[None]), moving))
    assert_array_equal(found, expected)


class _Block:
    def __init__(self, made, size):
        self._bytes = np.zeros(size, np.uint8)
        self.ptr = self._bytes.ctypes.data
        made.append(size)


def test_page_locked_memory_is_used_again():
    made = []
    pool = PinnedPool(lambda size: _Block(made, size))
    first = pool.empty((3, 4), np.float32)
    view = np.moveaxis(first, 0, 1)[1:]
    del first
    view[...] = 5
    second = pool.empty((3, 4), np.float32)  # the first is still seen
    second[...] = 7
    assert (view == 5).all()
    del view, second
    assert pool.empty((2, 5), np.float32).shape == (2, 5)
    assert made == [48, 48]
    pool.empty((100,), np.uint8)
    assert made == [48, 48, 100]


def test_an_array_may_go_while_another_is_made():
    """As when the garbage collector runs there."""
    made = []
    held = []

    def allocate(size):
        held.clear()
        return _Block(made, size)

    class Yielding(list):
        def clear(self):
            held.clear()
            super().clear()

    pool = PinnedPool(allocate)
    pool._idle = Yielding()
    held.append(pool.empty((8,), np.uint8))
    thread = Thread(target=lambda: pool.empty((16,), np.uint8), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert pool.empty((8,), np.uint8).shape == (8,)
    assert made == [8, 16]


def test_ordinary_memory_where_none_can_be_locked():
    def refuse(size):
        raise MemoryError

    array = PinnedPool(refuse).empty((2, 3), np.int16)
    assert array.shape == (2, 3)
    assert array.dtype == np.int16
