"""What every reader of a recording must do."""

import numpy as np

from pyflowreg.io import open_reader


def assert_reads(path, expected, options=None):
    """Frames (T, H, W, C) come out whole, in pieces and one by one."""
    with open_reader(path, options) as reader:
        assert reader.shape == expected.shape
        assert reader.dtype == expected.dtype
        assert reader.dtype.isnative
        frames = len(expected)
        np.testing.assert_array_equal(reader.read(0, frames), expected)
        np.testing.assert_array_equal(reader.read(1, frames - 1), expected[1:-1])
        np.testing.assert_array_equal(reader.read(frames - 1, frames), expected[-1:])
        np.testing.assert_array_equal(reader.read(0, 1), expected[:1])
        assert reader.read(1, 1).shape == (0, *expected.shape[1:])
