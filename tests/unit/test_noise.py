"""What passes for noise, and what a noisy frame's displacement then follows."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from pyflowreg.core.backend_registry import get_backend
from pyflowreg.core.noise import (
    FEWEST_BLOCKS,
    block_count,
    excess_noise,
    flat_energy,
    noise_scratch_size,
)
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.errors import ConfigError

SIDE = 96


def tissue(seed: int = 3) -> np.ndarray:
    """Bright cells on a dim, smooth background, about [0, 1]."""
    random = np.random.default_rng(seed)
    image = 0.1 * gaussian_filter(random.standard_normal((SIDE, SIDE)), 6.0) + 0.2
    for y, x in random.integers(8, SIDE - 8, (12, 2)):
        image += 0.7 * np.exp(
            -((np.arange(SIDE)[:, None] - y) ** 2 + (np.arange(SIDE) - x) ** 2) / 18.0
        )
    return image


def energy(image: np.ndarray, hx: float = 1.0, hy: float = 1.0, dtype: type = np.float64) -> float:
    """The energy of an image with scratch memory of its own."""
    scratch = np.full(noise_scratch_size(image.shape), np.nan, dtype)
    return flat_energy(np.ascontiguousarray(image, dtype), hx, hy, scratch)


def noise_of(fixed: np.ndarray, moving: np.ndarray) -> float:
    """What counts as noise of a moving frame."""
    return excess_noise(energy(fixed), energy(moving))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_energy_is_that_of_central_differences(dtype: type) -> None:
    random = np.random.default_rng(0)
    image = random.standard_normal((41, 53)).astype(dtype)
    gx = (image[1:-1, 2:] - image[1:-1, :-2]).astype(np.float64) / (2 * 1.5)
    gy = (image[2:, 1:-1] - image[:-2, 1:-1]).astype(np.float64) / (2 * 2.5)
    squares = (gx**2 + gy**2)[:32, :48] / 2
    blocks = np.sort(squares.reshape(4, 8, 6, 8).mean(axis=(1, 3)).ravel())
    assert energy(image, 1.5, 2.5, dtype) == pytest.approx(blocks[6], rel=1e-5)


def test_white_noise_is_measured() -> None:
    fixed = tissue()
    sigma = 0.05
    moving = fixed + sigma * np.random.default_rng(1).standard_normal(fixed.shape)
    assert noise_of(fixed, moving) == pytest.approx(sigma**2 / 2, rel=0.2)


def test_motion_does_not_pass_for_noise() -> None:
    fixed = tissue()
    for motion in [(3.0, -2.0), (0.5, 0.5), (-6.0, 4.0)]:
        assert noise_of(fixed, shift(fixed, motion, order=3, mode="nearest")) < 1e-6


def test_active_cells_do_not_pass_for_noise() -> None:
    fixed = tissue()
    active = fixed.copy()
    active[fixed > 0.5] *= 3
    assert noise_of(fixed, active) < 1e-6


def test_a_frame_with_less_noise_has_none() -> None:
    fixed = tissue()
    noisy = fixed + 0.05 * np.random.default_rng(1).standard_normal(fixed.shape)
    assert noise_of(noisy, fixed) == 0


def test_frames_of_few_blocks_have_none() -> None:
    image = np.random.default_rng(0).standard_normal((34, 33))
    assert block_count(image.shape) < FEWEST_BLOCKS
    assert energy(image) == 0


def error(term: str, weight: float | None) -> float:
    """Mean error (px) of the field of a noisy frame that moved by a known shift."""
    random = np.random.default_rng(7)
    fixed = tissue()
    moving = shift(fixed, (1.5, -2.0), order=3, mode="nearest")
    moving += 0.15 * random.standard_normal(fixed.shape)
    smooth = [gaussian_filter(image, 1.0).astype(np.float32) for image in (fixed, moving)]
    parameters = FlowParameters(
        alpha=(1.5, 1.5), eta=0.8, iterations=50, update_lag=5, a_smooth=1.0, data_term=term,
        noise_normaliser=weight,
    )  # fmt: skip
    plan = get_backend("flowreg").prepare(smooth[0][..., None], parameters)
    field = plan.displacements(smooth[1][None, ..., None])[0]
    return float(np.hypot(field[..., 0] + 2.0, field[..., 1] - 1.5)[8:-8, 8:-8].mean())


def test_the_displacement_of_a_noisy_frame_does_not_follow_the_noise() -> None:
    assert error("gc", None) < 0.6 * error("gc", 0.0)


def test_other_data_terms_know_no_noise() -> None:
    assert error("gray", None) == error("gray", 0.0)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise_normaliser is -1"):
        dataclasses.replace(FlowParameters(), noise_normaliser=-1.0)
