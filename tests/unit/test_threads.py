"""Work that is spread over threads, and files that are read ahead and written behind."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from pyflowreg.core.threads import Behind, ahead, for_each, overlapped


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_number_is_used_once(threads, count):
    used = []
    for_each(used.append, count, threads)
    assert sorted(used) == list(range(count))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_error_of_the_smallest_number_is_raised_and_no_more_work_begun(threads):
    begun = []

    def fail(number):
        begun.append(number)
        if number >= 3:
            raise ValueError(str(number))

    with pytest.raises(ValueError, match=r"^3$"):
        for_each(fail, 1000, threads)
    assert len(begun) <= 3 + threads


def test_threads_are_kept_for_the_next_call():
    names = set()
    for _ in range(20):
        for_each(lambda number: names.add(threading.current_thread().name), 8, 3)
    before = threading.active_count()
    for_each(lambda number: None, 8, 3)
    assert threading.active_count() == before
    assert len(names) < 20


def test_calls_within_calls_do_not_wait_for_each_other():
    done = []
    for_each(lambda outer: for_each(lambda inner: done.append(1), 4, 2), 6, 2)
    assert len(done) == 24


def test_an_interruption_stops_the_work():
    begun = []

    def interrupt(number):
        begun.append(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_each(interrupt, 1000, 2)
    assert len(begun) <= 2


class Block:
    """Stands for frames in memory."""


def test_at_most_one_item_is_made_ahead():
    alive, most = weakref.WeakSet(), []

    def blocks():
        for _ in range(10):
            block = Block()
            alive.add(block)
            yield block
            del block

    for block in ahead(blocks()):
        most.append(len(alive))
        del block
    gc.collect()
    # The item worked on, the next one, and the one that the generator still holds.
    assert max(most) <= 3
    assert len(alive) == 0


def test_what_a_source_raises_comes_in_its_place():
    def source():
        yield 1
        yield 2
        raise OSError("frame 3")

    found = []
    with pytest.raises(OSError, match="frame 3"):
        found.extend(ahead(source()))
    items = ahead(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="frame 3"):
        next(items)


def test_a_source_that_is_given_up_is_closed():
    closed = []

    def source():
        try:
            yield from range(100)
        finally:
            closed.append(True)

    threads = threading.active_count()
    items = ahead(source())
    assert next(items) == 0
    items.close()
    assert closed == [True]
    assert threading.active_count() == threads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_overlapped_calls_give_their_results_in_order(threads):
    def square(number):
        time.sleep(0.002 * (number % 3))
        return number**2

    assert list(overlapped(square, range(10), threads)) == [number**2 for number in range(10)]


def test_the_next_call_begins_while_one_is_at_work():
    both = threading.Barrier(2, timeout=30)

    def meet(number):
        both.wait()
        return number

    assert list(overlapped(meet, range(4), 2)) == [0, 1, 2, 3]


def test_overlapped_calls_share_the_threads():
    """Chunks that overlap must not take twice the cores and twice the memory of a frame."""
    lock, at_work, most = threading.Lock(), set(), []

    def frame(number):
        with lock:
            at_work.add(number)
            most.append(len(at_work))
        time.sleep(0.002)
        with lock:
            at_work.discard(number)

    def chunk(start):
        for_each(lambda number: frame(start + number), 6, 3)

    list(overlapped(chunk, range(0, 60, 6), 3))
    assert max(most) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_of_overlapped_calls_is_raised(threads):
    """No matter whether a later item fails, too."""

    def items():
        yield from range(4)
        raise OSError("item 4")

    def call(number):
        if number == failing:
            time.sleep(0.05)
            raise ValueError(f"call {number}")
        return number

    for failing, error, message in ((3, ValueError, "call 3"), (None, OSError, "item 4")):
        found = []
        with pytest.raises(error, match=message):
            found.extend(overlapped(call, items(), threads))
        assert found == list(range(4 if failing is None else failing))


def test_overlapped_calls_are_waited_for_when_given_up():
    done = []

    def call(number):
        time.sleep(0.02)
        done.append(number)

    threads = threading.active_count()
    results = overlapped(call, range(100), 2)
    next(results)
    results.close()
    count = len(done)
    assert count <= 3
    assert threading.active_count() <= threads
    time.sleep(0.05)
    assert len(done) == count


def test_calls_behind_run_in_order_and_end_with_the_block():
    done = []
    with Behind() as behind:
        for number in range(20):
            behind.submit(done.append, number)
    assert done == list(range(20))


@pytest.mark.parametrize("at", [0, 5, 9])
def test_after_an_error_nothing_is_done_behind(at):
    done = []

    def write(number):
        if number == at:
            raise OSError(28, "No space left on device")
        done.append(number)

    def write_all():
        with Behind() as behind:
            for number in range(10):
                behind.submit(write, number)

    with pytest.raises(OSError, match="No space left"):
        write_all()
    assert done == list(range(at))


def test_an_error_in_the_block_is_the_one_that_is_raised():
    def write():
        raise OSError(28, "No space left on device")

    def compute():
        with Behind() as behind:
            behind.submit(write)
            raise ValueError("computed nothing")

    with pytest.raises(ValueError, match="computed nothing"):
        compute()


def test_results_do_not_depend_on_who_computes_them():
    values = np.zeros((3, 100))
    for row, threads in enumerate((1, 2, 3)):
        for_each(lambda i, row=row: values[row].__setitem__(i, np.sin(i)), 100, threads)
    np.testing.assert_array_equal(values[1:], values[:2])
