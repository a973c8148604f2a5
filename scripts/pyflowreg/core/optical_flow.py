"""Displacement between two frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyflowreg.core.backend_registry import (
    FlowPlan,
    check_params,
    get_backend,
    refusal,
    unused_setting,
)
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.core.numerics import LARGEST, MIN_SIDE
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.errors import ConfigError


def _frame(name: str, image: ArrayLike) -> NDArray[Any]:
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or min(array.shape[:2]) < MIN_SIDE:
        raise ValueError(
            f"{name} has shape {np.shape(image)}; it must be (H, W) or (H, W, C) "
            f"with H and W of at least {MIN_SIDE} pixels."
        )
    return array


def _refuse_unusable(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {array.dtype}; it must be a real number type.")
    if array.dtype.kind != "f":
        return
    flat = array.ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        squares = float(np.dot(flat, flat))  # one quick pass; too large a sum says nothing
    if squares <= LARGEST**2:
        return
    if float(np.abs(array).max()) <= LARGEST:  # not in float16, which does not reach so far
        return
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} contains NaN or infinite values, which would spread over the whole "
            "field. Replace them first, for example by the temporal average."
        )
    raise ValueError(
        f"{name} contains values beyond +-{LARGEST:g}, whose squares overflow. Replace them "
        "first; intensities should be scaled to about [0, 1]."
    )


_SETTINGS = {
    name: name
    for name in ("alpha", "levels", "eta", "iterations", "update_lag", "a_data", "a_smooth")
} | {"min_level": "min_level", "const_assumption": "data_term"}
"""Parameters of `get_displacement` that a backend may have no use for, as fields."""

Choice = tuple[str, dict[str, Any]]
"""Name and settings of a backend."""


def _refuse_unsuitable(backend: Choice, parameters: FlowParameters) -> None:
    """Refuse parameters the backend has no use for, or cannot compute with."""
    name, settings = backend
    check_params(name, settings)
    defaults = FlowParameters()
    problems = [refusal(name, settings, parameters.precision)]
    for key, field in _SETTINGS.items():
        given, default = getattr(parameters, field), getattr(defaults, field)
        problems.append(unused_setting(name, key, given, default))
    found = [problem for problem in problems if problem]
    if found:
        raise ConfigError(found)


_latest: tuple[Choice, FlowParameters, NDArray[Any], FlowPlan] | None = None


def _plan(backend: Choice, fixed: NDArray[Any], parameters: FlowParameters) -> FlowPlan:
    """Prepare a fixed frame; whoever registers frame after frame to the same one waits once."""
    global _latest
    if isinstance(parameters.weight, np.ndarray):  # a map; rare, and not quickly compared
        _refuse_unusable("fixed", fixed)
        return get_backend(*backend).prepare(fixed, parameters)
    kept = _latest  # other threads may replace it meanwhile
    if kept is not None and (backend, parameters) == kept[:2]:
        same = fixed.dtype == kept[2].dtype and fixed.shape == kept[2].shape
        if same and np.array_equal(fixed, kept[2]):
            return kept[3]
    _refuse_unusable("fixed", fixed)
    plan = get_backend(*backend).prepare(fixed, parameters)
    _latest = (backend, parameters, fixed.copy(), plan)
    return plan


def get_displacement(
    fixed: ArrayLike,
    moving: ArrayLike,
    *,
    alpha: float | Sequence[float] = (2.0, 2.0),
    levels: int = 50,
    eta: float = 0.75,
    iterations: int = 20,
    update_lag: int = 10,
    a_data: float | Sequence[float] = 0.45,
    a_smooth: float = 0.5,
    min_level: int = 0,
    weight: ArrayLike | None = None,
    uv: ArrayLike | None = None,
    const_assumption: str = "gc",
    numerics: str = "standard",
    precision: str = "single",
    backend: str = "flowreg",
    backend_params: Mapping[str, Any] | None = None,
) -> NDArray[Any]:
    """Compute the dense displacement that maps `fixed` to `moving`.

    Coarse-to-fine variational flow with a robust, normalised gradient-constancy data term
    (Flotho et al., J. Biophotonics 2022, doi:10.1002/jbio.202100330).

    Parameters
    ----------
    fixed, moving : array_like
        Frames, shape (H, W) or (H, W, C), any real dtype, scaled to about [0, 1]: the data term
        depends on the intensity scale.
    alpha : float or two floats
        Smoothness weight for x- and y-neighbours.
    levels : int
        Upper bound of the number of pyramid levels.
    eta : float
        Ratio between the sizes of two levels.
    iterations : int
        Solver sweeps per level.
    update_lag : int
        Sweeps between updates of the robust weights.
    a_data : float or sequence of float
        Exponent of the robust data penalty, one or one per channel.
    a_smooth : float
        Exponent of the robust smoothness penalty; 1 is quadratic.
    min_level : int
        Finest pyramid level that is solved; 0 is full resolution.
    weight : array_like, optional
        Weight per channel, or a map of shape (H, W) or (H, W, C); 1 / C by default.
    uv : array_like, optional
        Initial displacement in pixels, shape (H, W, 2); zero by default.
    const_assumption : {'gc', 'gray', 'cs'}
        Data term: gradient constancy, brightness constancy or census; the aliases gradient,
        brightness and census are accepted.
    numerics : {'standard', 'matlab'}
        Numerics profile.
    precision : {'single', 'double'}
        Floating-point type of the computation.
    backend : {'flowreg', 'flowreg_cuda', 'flowreg_torch', 'diso'}
        Flow backend.
    backend_params : mapping, optional
        Its settings, for example ``{"device": "cpu"}``.

    Returns
    -------
    ndarray
        float32 (single) or float64 (double), shape (H, W, 2), pixels; [..., 0] is u (x, right),
        [..., 1] is v (y, down). Backward map: fixed(y, x) = moving(y + v, x + u).

    Raises
    ------
    ValueError
        If the shapes do not fit, a parameter is out of range, or a value is complex, not finite or
        beyond +-1e15.
    BackendError
        If the backend is unknown, not installed, or has no device here.
    """
    parameters = FlowParameters.create(
        alpha=alpha,
        levels=levels,
        eta=eta,
        iterations=iterations,
        update_lag=update_lag,
        a_data=a_data,
        a_smooth=a_smooth,
        min_level=min_level,
        weight=weight,
        data_term=const_assumption,
        numerics=numerics,
        precision=precision,
    )
    chosen = backend, dict(backend_params or {})
    _refuse_unsuitable(chosen, parameters)
    f1, f2 = _frame("fixed", fixed), _frame("moving", moving)
    if f1.shape != f2.shape:
        raise ValueError(f"fixed has shape {f1.shape}, moving {f2.shape}; they must be equal.")
    initial = None if uv is None else np.asarray(uv)
    if initial is not None and initial.shape != (*f1.shape[:2], 2):
        raise ValueError(f"uv has shape {initial.shape}; it must be {(*f1.shape[:2], 2)}.")
    plan = _plan(chosen, f1, parameters)
    for name, array in (("moving", f2), ("uv", initial)):
        if array is not None:
            _refuse_unusable(name, array)
    result: NDArray[Any] = plan.displacements(f2[None], initial)[0]
    compile_log.report()
    return result
