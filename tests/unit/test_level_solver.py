"""The solver on skewed strips against the equations written out point by point."""

import numpy as np
import pytest

from pyflowreg.core import level_solver
from pyflowreg.core.level_solver import LevelSettings, solve_level
from pyflowreg.core.linear_system import EPSILON, OMEGA
from pyflowreg.core.simd import lane_count
from pyflowreg.core.strips import level_size, pack, unpack

SHAPES = [(8, 8), (9, 17), (13, 8), (8, 40), (41, 9), (16, 16), (25, 30)]


def _replicate(plane):
    plane[[0, -1], :] = plane[[1, -2], :]
    plane[:, [0, -1]] = plane[:, [1, -2]]


def _smoothness_weight(u, v, settings):
    gradients = [np.gradient(plane) for plane in (u, v)]
    squared = sum((dx / settings.hx) ** 2 + (dy / settings.hy) ** 2 for dy, dx in gradients)
    a = settings.a_smooth
    return a * (squared + settings.smoothness_epsilon) ** (a - 1)


def _data_weight(J, du, dv, a):
    j11, j22, j33, j12, j13, j23 = J
    value = j11 * du**2 + j22 * dv**2 + j33 + 2 * (j12 * du * dv + j13 * du + j23 * dv)
    return a * (np.maximum(value, 0) + EPSILON) ** (a - 1)


def _expected(J, weight, field, settings):
    """Lexicographic sweeps, one point after the other, on planes with a border."""
    channels, _, height, width = J.shape
    u, v = field
    du, dv = np.zeros((2, height + 2, width + 2))
    psi = np.ones((channels, height, width))
    if settings.first_channel_starts:
        psi[1:] = 0
    psi_s = np.ones((height + 2, width + 2))
    ax = settings.alpha[0] / settings.hx**2
    ay = settings.alpha[1] / settings.hy**2
    for sweep in range(1, settings.iterations + 1):
        if sweep % settings.update_lag == 0:
            inner = (slice(1, -1), slice(1, -1))
            psi = np.array(
                [
                    _data_weight(j, du[inner], dv[inner], a)
                    for j, a in zip(J, settings.a_data, strict=True)
                ]
            )
            if settings.a_smooth != 1:
                psi_s = _smoothness_weight(u + du, v + dv, settings)
        j11, j22, _, j12, j13, j23 = ((weight * psi)[:, None] * J).sum(axis=0)
        _replicate(du)
        _replicate(dv)
        for y in range(1, height + 1):
            for x in range(1, width + 1):
                here = (y - 1, x - 1)
                around = [(0, -1, ax), (0, 1, ax), (-1, 0, ay), (1, 0, ay)]
                sum_u = sum_v = total = 0.0
                for dy, dx, a in around:
                    there = (y + dy, x + dx)
                    edge = a * (psi_s[there] + psi_s[y, x]) / 2
                    sum_u += edge * (u[there] + du[there] - u[y, x])
                    sum_v += edge * (v[there] + dv[there] - v[y, x])
                    total += edge
                new = (sum_u - j13[here] - j12[here] * dv[y, x]) / (total + j11[here])
                du[y, x] = (1 - OMEGA) * du[y, x] + OMEGA * new
                new = (sum_v - j23[here] - j12[here] * du[y, x]) / (total + j22[here])
                dv[y, x] = (1 - OMEGA) * dv[y, x] + OMEGA * new
    return np.stack([du, dv])[:, 1:-1, 1:-1]


def _case(shape, channels, rng):
    gradients = rng.normal(size=(channels, 2, 3, *shape))
    fx, fy, ft = np.moveaxis(gradients, 2, 0)
    products = [fx * fx, fy * fy, ft * ft, fx * fy, fx * ft, fy * ft]
    J = np.stack([product.sum(axis=1) for product in products], axis=1)
    weight = rng.uniform(0.2, 0.8, size=(channels, *shape))
    border = [(0, 0), (1, 1), (1, 1)]
    return J, weight, np.pad(rng.normal(size=(2, *shape)), border, mode="edge")


@pytest.mark.parametrize("a_smooth", [1.0, 0.5])
@pytest.mark.parametrize(("iterations", "lag"), [(1, 3), (9, 4), (3, 1), (5, 5)])
@pytest.mark.parametrize("shape", SHAPES)
def test_increments_solve_the_equations(shape, iterations, lag, a_smooth):
    rng = np.random.default_rng(0)
    channels = 1 + (sum(shape) + lag) % 2
    J, weight, field = _case(shape, channels, rng)
    settings = LevelSettings(
        a_data=np.array([0.45, 0.6][:channels]), a_smooth=a_smooth, alpha=(1.5, 0.8), hx=1.3,
        hy=1.1, iterations=iterations, update_lag=lag, first_channel_starts=lag == 3,
        smoothness_epsilon=1e-3,
    )  # fmt: skip
    expected = _expected(J, weight, field, settings)
    result = solve_level(J, weight, field, settings)
    np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-11)
    single = settings.__dict__ | {"a_data": settings.a_data.astype(np.float32)}
    rounded = solve_level(
        J.astype(np.float32), weight, field.astype(np.float32), LevelSettings(**single)
    )
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, expected, atol=2e-4 * np.abs(expected).max())


def test_weights_that_are_the_same_everywhere_need_no_map():
    J, _, field = _case((17, 12), 2, np.random.default_rng(3))
    settings = LevelSettings(
        a_data=np.array([0.45, 0.45]), a_smooth=1.0, alpha=(1.5, 1.5), hx=1.0, hy=1.0,
        iterations=12, update_lag=5, first_channel_starts=False,
    )  # fmt: skip
    weight = np.array([0.3, 0.7])[:, None, None]
    maps = np.broadcast_to(weight, (2, 17, 12))
    np.testing.assert_array_equal(
        solve_level(J, weight, field, settings), solve_level(J, maps, field, settings)
    )


@pytest.mark.parametrize("a_smooth", [0.5, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scratch_memory_leaves_no_trace(dtype, a_smooth):
    """Whatever was in the memory before, even no number at all, or too large a one."""
    rng = np.random.default_rng(1)
    shape = (19, 21)
    J, weight, field = (array.astype(dtype) for array in _case(shape, 2, rng))
    settings = LevelSettings(
        a_data=np.array([0.45, 0.45], dtype), a_smooth=a_smooth, alpha=(1.5, 1.5), hx=1.0, hy=1.0,
        iterations=12, update_lag=5, first_channel_starts=False,
    )  # fmt: skip
    sizes = level_solver.scratch_sizes(2, *shape, a_smooth != 1, 5, J.dtype)
    results = []
    for garbage in (0.0, np.nan, np.finfo(dtype).max):
        scratch = level_solver.LevelScratch(
            **{name: np.full(size, garbage, dtype) for name, size in sizes.items()}
        )
        out = np.full((2, *shape), garbage, dtype)
        packed = level_solver.packed_weights(weight)
        level_solver.solve_into(J, packed, field, settings, scratch, out)
        results.append(out)
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [*SHAPES, (3, 5), (40, 41)])
def test_planes_survive_packing(shape, dtype):
    planes = np.random.default_rng(2).normal(size=(3, *shape)).astype(dtype)
    records = np.full(level_size(*shape, lane_count(planes.dtype)) * 5, np.nan, dtype)
    size, width = planes[0].size, shape[1]
    pack(planes.ravel(), 0, width, size, 3, *shape, records, 5, 1)
    back = np.full_like(planes, np.nan)
    unpack(records, 5, 1, back.reshape(-1), 0, width, size, 3, *shape)
    np.testing.assert_array_equal(back, planes)
