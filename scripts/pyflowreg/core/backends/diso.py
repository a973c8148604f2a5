"""OpenCV's dense inverse search (Kroeger et al., ECCV 2016): quick, another method than flowreg's.

It sees 8-bit images of one channel: frames are reduced to the mean of their channels, weighted as
the data term would be, and scaled by the range of the fixed frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_entries import DISO_PRESETS
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.threads import for_each
from pyflowreg.errors import BackendError

LEVELS = 255
"""Steps of an 8-bit image."""

LEAST_SIDE = 16
"""Smaller frames are continued to this size (pixels): OpenCV fails on them."""

_SETTERS = {
    "finest_scale": "setFinestScale",
    "patch_size": "setPatchSize",
    "patch_stride": "setPatchStride",
    "gradient_descent_iterations": "setGradientDescentIterations",
    "variational_refinement_iterations": "setVariationalRefinementIterations",
    "variational_refinement_alpha": "setVariationalRefinementAlpha",
    "variational_refinement_delta": "setVariationalRefinementDelta",
    "variational_refinement_gamma": "setVariationalRefinementGamma",
    "use_mean_normalization": "setUseMeanNormalization",
    "use_spatial_propagation": "setUseSpatialPropagation",
}


def create(backend_params: Mapping[str, Any]) -> DisoBackend:
    """Make the backend with a preset and what differs from it."""
    return DisoBackend(backend_params)


def missing(backend_params: Mapping[str, Any]) -> str | None:
    """Why OpenCV cannot be used here."""
    del backend_params
    if not hasattr(cv2, "DISOpticalFlow_create"):
        return (
            f"OpenCV {cv2.__version__} has no dense inverse search; install another version of "
            "opencv-python-headless"
        )
    return None


class DisoBackend:
    """Dense inverse search.

    Parameters
    ----------
    values : mapping
        All keys of `backend_params`; None: the preset's.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> DisoPlan:
        """Make the plan for one fixed frame (H, W, C).

        Raises
        ------
        BackendError
            If weights differ from pixel to pixel.
        """
        return DisoPlan(fixed, parameters, self._values)


_lock = Lock()
_callers = 0
_threads_before = 1


@contextmanager
def _single_thread() -> Iterator[None]:
    """Keep OpenCV to the calling thread: the frames are spread over threads already.

    Its setting is one of the whole process; the last caller restores it.
    """
    global _callers, _threads_before
    with _lock:
        if _callers == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if _callers == 0:
                cv2.setNumThreads(_threads_before)


def coarsest_scale(height: int, width: int, patch_size: int) -> int:
    """Coarsest pyramid level OpenCV chooses, 0 full resolution, each half as fine."""
    longer, shorter = max(height, width), min(height, width)
    return min(
        int(math.log2(longer / (4 * patch_size)) + 0.5), int(math.log2(shorter / patch_size))
    )


class DisoPlan:
    """The fixed frame as the method sees it.

    Parameters
    ----------
    fixed : ndarray
        Shape (H, W, C).
    parameters : FlowParameters
        Of which the weights and the type of the result are used.
    values : mapping
        See `DisoBackend`.
    """

    def __init__(
        self, fixed: NDArray[Any], parameters: FlowParameters, values: Mapping[str, Any]
    ) -> None:
        height, width, channels = fixed.shape
        weight = parameters.weight_planes(height, width, channels)
        if weight.shape[1:] != (1, 1):
            raise BackendError(
                f"weight is a map of {height} x {width} pixels, which flow_backend diso has no use "
                "for; give one number per channel, or choose another flow_backend."
            )
        total = weight.sum()
        self._weight = (weight / total if total > 0 else np.ones_like(weight) / channels).ravel()
        self._dtype = parameters.dtype
        self._size = (height, width)
        self._values = values
        side = max(LEAST_SIDE, 2 * self._method().getPatchSize())
        self._padding = ((0, max(0, side - height)), (0, max(0, side - width)))
        gray = self._gray(fixed)
        self._low, high = float(gray.min()), float(gray.max())
        self._factor = LEVELS / (high - self._low) if high > self._low else 0.0
        self._fixed = self._image(fixed)

    def _method(self) -> Any:
        """Make OpenCV's object; it holds memory, so every thread has its own."""
        method = cv2.DISOpticalFlow_create(DISO_PRESETS.index(self._values["preset"]))
        for name, setter in _SETTERS.items():
            if self._values[name] is not None:
                getattr(method, setter)(self._values[name])
        return method

    def _fitting_method(self) -> Any:
        """The same for frames of this size.

        With a finest level coarser than its coarsest, OpenCV would choose others by the width
        alone, and crash on elongated frames.
        """
        method = self._method()
        height, width = self._fixed.shape
        coarsest = coarsest_scale(height, width, method.getPatchSize())
        method.setFinestScale(min(method.getFinestScale(), coarsest))
        return method

    def _gray(self, frame: NDArray[Any]) -> NDArray[np.float64]:
        gray: NDArray[np.float64] = np.zeros(frame.shape[:2])
        for c, weight in enumerate(self._weight):
            gray += weight * frame[..., c].astype(np.float64)
        return gray

    def _image(self, frame: NDArray[Any]) -> NDArray[np.uint8]:
        scaled = np.rint((self._gray(frame) - self._low) * self._factor)
        image = np.clip(scaled, 0, LEVELS).astype(np.uint8)
        return np.pad(image, self._padding, "edge")

    def displacements(
        self, moving: NDArray[Any], uv: NDArray[Any] | None = None, threads: int = 1
    ) -> NDArray[Any]:
        """Displacement of every moving frame; see `FlowPlan.displacements`."""
        height, width = self._size
        out = np.empty((len(moving), height, width, 2), self._dtype)
        start = None
        if uv is not None and np.any(uv):
            start = np.pad(uv.astype(np.float32), (*self._padding, (0, 0)), "edge")

        def one(index: int) -> None:
            initial = None if start is None else start.copy()
            image = self._image(moving[index])
            field = self._fitting_method().calc(self._fixed, image, initial)
            out[index] = field[:height, :width]

        with _single_thread():
            for_each(one, len(moving), threads)
        return out
