"""Stages 2 and 3 work on one recording after the other: memory does not grow with their number."""

import threading
import tracemalloc

import h5py
import numpy as np
import pytest

from pyflowreg.session import SessionConfig
from pyflowreg.session import stage2_between_avgs as stage2
from pyflowreg.session.averages import temporal_average
from pyflowreg.session.outputs import recording_paths
from pyflowreg.session.stage3_valid_mask import run_stage3

from .scenes import save_tiff, seen

SIZE = (96, 80)
PLANE = 8 * SIZE[0] * SIZE[1]
"""Bytes of an average, or of one of the two components of a field."""


@pytest.fixture
def session(tmp_path):
    """Session of any number of recordings after stage 1."""

    def make(count, **settings):
        config = SessionConfig(
            root=tmp_path / f"session_{count}", n_workers=1, iterations_between=2, **settings
        )
        for number in range(count):
            average = 100 + 500 * seen(*SIZE, number % 3, number % 2)
            save_tiff(config.root / f"rec{number}.tif", np.zeros((2, 8, 8, 1), np.uint8))
            paths = recording_paths(config, f"rec{number}")
            paths.folder.mkdir(parents=True)
            np.save(paths.temporal_average, average)
            with h5py.File(paths.compensated, "w") as file:
                file["ch1"] = np.stack([average] * 2).astype(np.uint16)
            with h5py.File(paths.idx, "w") as file:
                file["idx"] = np.full((2, *SIZE), 255, np.uint8)
        return config

    return make


def peak(stage, config):
    """Bytes that a stage holds at most."""
    tracemalloc.start()
    try:
        stage(config)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_recordings(session):
    """A recording has three planes in stage 2, and six with the masks in stage 3.

    Less than half a plane is left for what belongs to each: names, paths, packed masks, and what
    waits for the garbage collector.
    """
    stages = (stage2.save_fields, run_stage3)
    first, few, many = session(2), session(4), session(40)
    for stage in stages:
        stage(first)  # compiles and imports
    for stage in stages:
        assert peak(stage, many) - peak(stage, few) < (40 - 4) * PLANE / 2, stage.__name__


def test_recordings_are_aligned_at_the_same_time_but_no_more_than_threads(session, monkeypatch):
    config = session(9)
    expected = stage2.run_stage2(config)[2]
    config.resume = False
    busy, most, lock, pair = 0, 0, threading.Lock(), threading.Barrier(2, timeout=60)
    real = stage2.compute_between_displacement

    def watched(*arguments):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        pair.wait()  # for another recording: with one thread nobody comes
        try:
            return real(*arguments)
        finally:
            with lock:
                busy -= 1

    monkeypatch.setattr(stage2, "compute_between_displacement", watched)
    config.n_workers = 2
    fields = stage2.run_stage2(config)[2]
    assert most == 2
    np.testing.assert_array_equal(fields, expected)


def test_the_fields_of_a_run_are_a_list_that_later_runs_do_not_change(session):
    config = session(3)
    _, _, fields = stage2.run_stage2(config)
    assert type(fields) is list
    before = [field.copy() for field in fields]
    config.center = "rec0.tif"
    stage2.run_stage2(config)
    np.testing.assert_array_equal(fields, before)


def test_averages_without_a_channel_axis_are_understood(session):
    assert temporal_average(recording_paths(session(1), "rec0")).shape == (*SIZE, 1)
