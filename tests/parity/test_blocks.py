"""Every building block agrees with the original to 1e-12."""

import numpy as np
import pytest
from golden import load
from numpy.testing import assert_allclose, assert_array_equal

from pyflowreg.core.level_solver import LevelSettings, solve_level
from pyflowreg.core.median import median_5x5
from pyflowreg.core.motion_tensor import motion_tensor
from pyflowreg.core.pyramid import resize, warping_depth
from pyflowreg.core.warping import backward_valid_mask, warp_frame
from pyflowreg.motion_correction.preprocessing import RangeFinder, gaussian

RTOL = 1e-12
TENSOR = ("J11", "J22", "J33", "J12", "J13", "J23")


@pytest.mark.parametrize("k", range(1, 6))
def test_resize(k):
    block = load("block_g_imresize")
    result = resize(block["A"], *block[f"out{k}_size"].tolist())
    assert_allclose(result, block[f"out{k}"], rtol=RTOL, atol=RTOL)


def test_resize_leaves_channels_apart():
    block = load("block_g_imresize")
    size = block["A3_out_size"].tolist()
    for channel in range(2):
        result = resize(np.ascontiguousarray(block["A3"][..., channel]), *size)
        assert_allclose(result, block["A3_out"][..., channel], rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("interpolation", ["cubic", "linear", "nearest"])
def test_warp(interpolation):
    block = load("block_g_warp")
    result = warp_frame(block["f2"], block["w"], block["f1"], interpolation)
    assert_allclose(result, block[interpolation], rtol=RTOL, atol=RTOL)


def test_valid_mask():
    block = load("block_g_warp")
    mask = backward_valid_mask(block["w"][..., 0], block["w"][..., 1])
    assert_array_equal(mask, block["idx_valid"])


def test_median():
    block = load("block_g_medfilt2")
    assert_array_equal(median_5x5(block["x"]), block["y"])


@pytest.mark.parametrize(
    ("fixed", "moving", "expected", "spacing"),
    [
        ("f1", "f2", "J_case1", 0),
        ("f1", "f2", "J_case2", 1),
        ("cells_f1", "cells_f2", "J_cells_h1", None),
    ],
)
def test_motion_tensor(fixed, moving, expected, spacing):
    block = load("block_g_motion_tensor")
    hx, hy = (1.0, 1.0) if spacing is None else block["hx_hy"][spacing]
    result = motion_tensor(block[fixed], block[moving], hx, hy, "gc", 1e-6)
    golden = np.moveaxis(block[expected], -1, 0)
    assert_allclose(result, golden[:, 1:-1, 1:-1], rtol=RTOL, atol=RTOL * np.abs(golden).max())


@pytest.mark.parametrize("k", range(1, 9))
def test_level_solver(k):
    block = load("block_g_level_solver")
    channels, a_smooth, alpha_x, alpha_y, iterations, lag, uses_uv, uses_map = block["cfg"][k - 1]
    channels = int(channels)
    J = np.stack([block[name] for name in TENSOR], axis=0)[..., :channels]
    J = np.ascontiguousarray(np.moveaxis(J, -1, 0)[:, :, 1:-1, 1:-1])
    shape = J.shape[2:]
    if uses_map:
        weight = np.moveaxis(block["weight_map"][1:-1, 1:-1], -1, 0)
    else:
        weight = np.broadcast_to(block[f"weight_{channels}ch"][:, None, None], (channels, *shape))
    field = np.stack([block[name] * uses_uv for name in ("u", "v")])
    settings = LevelSettings(
        a_data=block[f"a_data_{channels}ch"],
        a_smooth=a_smooth,
        alpha=(alpha_x, alpha_y),
        hx=float(block["hx"]),
        hy=float(block["hy"]),
        iterations=int(iterations),
        update_lag=int(lag),
        first_channel_starts=True,
    )
    increment = solve_level(J, weight, field, settings)
    for result, name in zip(increment, (f"du{k}", f"dv{k}"), strict=True):
        golden = block[name][1:-1, 1:-1]
        assert_allclose(result, golden, rtol=RTOL, atol=RTOL * np.abs(golden).max())


@pytest.mark.parametrize(
    ("name", "sigma"),
    [
        ("g_1_1_01", (1, 1, 0.1)),
        ("g_2_2_06", (2, 2, 0.6)),
        ("g_2_15_05", (2, 1.5, 0.5)),
    ],
)
def test_gaussian(name, sigma):
    block = load("block_g_gauss3_mat2gray")
    frames = np.moveaxis(block["stack"], -1, 0)[..., None]
    result = np.moveaxis(gaussian(frames, np.array([sigma]))[..., 0], 0, -1)
    assert_allclose(result, block[name], rtol=RTOL)


def test_gaussian_of_integers_is_rounded():
    block = load("block_g_gauss3_mat2gray")
    frames = np.moveaxis(block["stack_u16"], -1, 0)[..., None]
    result = np.moveaxis(gaussian(frames, np.array([(2, 2, 0.6)]))[..., 0], 0, -1)
    assert result.dtype == np.uint16
    # The original filters in single precision: a value at .5 may round to either side.
    error = np.abs(result.astype(int) - block["g_u16_2_2_06"])
    assert error.max() <= 1
    assert (error > 0).mean() < 1e-3


def test_scaling_to_the_range():
    block = load("block_g_gauss3_mat2gray")
    frames = np.moveaxis(block["stack"], -1, 0)[..., None]
    found = RangeFinder(1, joint=True)
    found.add(frames)
    result = np.moveaxis(found.scale(clip=True)(frames, np.float64)[..., 0], 0, -1)
    assert_allclose(result, block["mat2gray"], rtol=RTOL, atol=1e-15)


def test_pyramid_depth():
    block = load("block_g_warping_depth")
    levels = int(block["levels"])
    for row, size in enumerate(block["sizes"].tolist()):
        for column, eta in enumerate(block["etas"].tolist()):
            assert warping_depth(size, eta, levels) == block["depth"][row, column]


@pytest.mark.parametrize("trace", ["g02_trace", "g11_trace_coarsest5"])
def test_solver_along_the_pyramid(trace):
    """Tensor and solver together, at the coarsest levels of two whole runs."""
    data = load(trace)
    case = load({"g02_trace": "g02_tex_nonrigid_64x64"}.get(trace, "g11_cells_2ch_64x64_w7030"))
    names = sorted({key[:3] for key in data if key[0] == "L"})
    assert names
    for name in names:
        level = {key[4:]: data[key] for key in data if key.startswith(name)}
        frames = [np.atleast_3d(level[key]) for key in ("f1", "f2_warped")]
        hx, hy = float(level["hx"]), float(level["hy"])
        planes = [np.ascontiguousarray(np.moveaxis(frame, -1, 0)) for frame in frames]
        J = np.stack(
            [motion_tensor(a, b, hx, hy, "gc", 1e-6) for a, b in zip(*planes, strict=True)]
        )
        weight = np.broadcast_to(case["weight"].reshape(-1, 1, 1), planes[0].shape)
        field = np.stack([level[key] for key in ("u_in", "v_in")])
        settings = LevelSettings(
            a_data=np.broadcast_to(case["a_data"], len(J)).copy(),
            a_smooth=float(case["a_smooth"]),
            alpha=tuple(level["alpha"].tolist()),
            hx=hx,
            hy=hy,
            iterations=int(case["iterations"]),
            update_lag=int(case["update_lag"]),
            first_channel_starts=True,
        )
        increment = solve_level(J, weight, field, settings)
        for result, key in zip(increment, ("du_raw", "dv_raw"), strict=True):
            assert_allclose(result, level[key][1:-1, 1:-1], rtol=1e-9, atol=1e-9)
