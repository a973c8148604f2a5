"""Parameters of the flow computation, checked once, shared by all backends."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyflowreg.core.motion_tensor import ALIASES
from pyflowreg.core.numerics import PRECISIONS, PROFILES, Numerics
from pyflowreg.errors import ConfigError


def _refuse(name: str, value: object, rule: str) -> NoReturn:
    raise ConfigError([f"{name} is {value!r}; it must be {rule}."])


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    """Convert user input to an array of finite numbers."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        _refuse(name, value, "made of numbers")
    if not np.isfinite(array).all():
        _refuse(name, value, "made of finite numbers")
    return array


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)


def _is_one_of(value: object, choices: Collection[str]) -> bool:
    return isinstance(value, str) and value in choices


@dataclass(frozen=True)
class FlowParameters:
    """Everything that determines a displacement field besides the two frames.

    Parameters
    ----------
    alpha : tuple of float
        Smoothness weight for x- and y-neighbours, > 0.
    levels : int
        Upper bound of the number of pyramid levels, >= 0.
    eta : float
        Downsampling ratio between levels, 0 < eta < 1.
    iterations : int
        Solver sweeps per level, >= 1.
    update_lag : int
        Sweeps between updates of the robust weights, >= 1.
    a_data : tuple of float
        Exponent of the robust data penalty, one for all channels or one per channel, 0 < a <= 1.
    a_smooth : float
        Exponent of the robust smoothness penalty, 0 < a <= 1; 1 is quadratic.
    min_level : int
        Finest level solved, >= 0; coarser results are upsampled.
    weight : tuple of float, ndarray or None
        Data weight per channel, or an (H, W) or (H, W, C) map; None: 1 / C each.
    data_term : {'gc', 'gray', 'cs'}
        Constancy assumption; the aliases gradient, brightness and census are resolved.
    data_normaliser : float, optional
        Squared image gradient below which the data term 'gc' fades out, > 0; by default the
        profile's. Heavily smoothed frames need a smaller one.
    noise_normaliser : float, optional
        How much of the moving frame's noise is added to `data_normaliser`, >= 0; by default the
        profile's. Averages of frames, which differ in more than noise, need none.
    numerics : str
        Profile name, see `pyflowreg.core.numerics.PROFILES`.
    precision : {'single', 'double'}
        Floating-point type of the computation.

    Raises
    ------
    ConfigError
        If a value is out of its range; the message names the parameter.
    """

    alpha: tuple[float, float] = (2.0, 2.0)
    levels: int = 50
    eta: float = 0.75
    iterations: int = 20
    update_lag: int = 10
    a_data: tuple[float, ...] = (0.45,)
    a_smooth: float = 0.5
    min_level: int = 0
    weight: tuple[float, ...] | NDArray[Any] | None = None
    data_term: str = "gc"
    data_normaliser: float | None = None
    noise_normaliser: float | None = None
    numerics: str = "standard"
    precision: str = "single"

    def __post_init__(self) -> None:
        if len(self.alpha) != 2 or not all(math.isfinite(a) and a > 0 for a in self.alpha):
            _refuse("alpha", self.alpha, "one or two numbers above 0")
        if not (_is_number(self.eta) and 0 < self.eta < 1):
            _refuse("eta", self.eta, "above 0 and below 1")
        least = {"levels": 0, "iterations": 1, "update_lag": 1, "min_level": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < smallest:
                _refuse(name, value, f"an integer of at least {smallest}")
        if not self.a_data or not all(0 < a <= 1 for a in self.a_data):
            _refuse("a_data", self.a_data, "above 0 and at most 1")
        if not (_is_number(self.a_smooth) and 0 < self.a_smooth <= 1):
            _refuse("a_smooth", self.a_smooth, "above 0 and at most 1")
        if self.data_normaliser is not None and not self.data_normaliser > 0:
            _refuse("data_normaliser", self.data_normaliser, "above 0")
        if self.noise_normaliser is not None and not self.noise_normaliser >= 0:
            _refuse("noise_normaliser", self.noise_normaliser, "at least 0")
        if not _is_one_of(self.data_term, ALIASES):
            _refuse("const_assumption", self.data_term, f"one of {', '.join(ALIASES)}")
        if not _is_one_of(self.numerics, PROFILES):
            _refuse("numerics", self.numerics, f"one of {', '.join(PROFILES)}")
        if not _is_one_of(self.precision, PRECISIONS):
            _refuse("precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        object.__setattr__(self, "data_term", ALIASES[self.data_term])

    @classmethod
    def create(
        cls,
        *,
        alpha: float | Sequence[float],
        a_data: float | Sequence[float],
        weight: ArrayLike | None,
        **others: Any,
    ) -> FlowParameters:
        """Build from user input: scalars are widened, arrays and lists are accepted."""
        pair: NDArray[Any] = np.atleast_1d(_numbers("alpha", alpha)).ravel()
        if pair.size == 1:
            pair = np.repeat(pair, 2)
        exponents = np.atleast_1d(_numbers("a_data", a_data)).ravel()
        weights: tuple[float, ...] | NDArray[Any] | None = None
        if weight is not None:
            array = _numbers("weight", weight)
            weights = tuple(np.atleast_1d(array).tolist()) if array.ndim <= 1 else array
        return cls(
            alpha=tuple(pair.tolist()),
            a_data=tuple(exponents.tolist()),
            weight=weights,
            **others,
        )

    @property
    def switches(self) -> Numerics:
        """The profile's switches."""
        return PROFILES[self.numerics]

    @property
    def normaliser(self) -> float:
        """Squared image gradient below which the data term 'gc' fades out."""
        return self.data_normaliser or self.switches.data_normaliser

    @property
    def noise_weight(self) -> float:
        """How much of a frame's noise is added to the normaliser; 0 for other terms than 'gc'."""
        if self.data_term != "gc":
            return 0.0
        given = self.noise_normaliser
        return self.switches.noise_normaliser if given is None else given

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating-point type of the computation."""
        return np.dtype(PRECISIONS[self.precision])

    def exponents(self, channels: int) -> NDArray[Any]:
        """Data exponents, shape (C,).

        Raises
        ------
        ConfigError
            If there are several, and not one per channel.
        """
        if len(self.a_data) not in (1, channels):
            _refuse("a_data", self.a_data, f"one number, or one per channel ({channels})")
        return np.broadcast_to(np.asarray(self.a_data, self.dtype), (channels,)).copy()

    def weight_planes(self, height: int, width: int, channels: int) -> NDArray[Any]:
        """Data weights, shape (C, 1, 1) for scalars and (C, H, W) for maps, float64.

        Raises
        ------
        ConfigError
            If the weights fit neither the channels nor the frame, or are negative.
        """
        if self.weight is None:
            return np.full((channels, 1, 1), 1 / channels)
        weight = np.asarray(self.weight, dtype=np.float64)
        if not np.isfinite(weight).all() or (weight < 0).any():
            _refuse("weight", self.weight, "finite and not negative")
        if weight.ndim == 1 and weight.size == channels:
            return weight[:, None, None]
        if weight.shape == (height, width):
            return np.broadcast_to(weight, (channels, height, width)).copy()
        if weight.shape == (height, width, channels):
            return np.ascontiguousarray(np.moveaxis(weight, -1, 0))
        rule = f"{channels} number(s), or a map of shape ({height}, {width}[, {channels}])"
        _refuse("weight", f"an array of shape {weight.shape}", rule)
