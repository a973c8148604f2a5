"""The flow with PyTorch: many frames at a time, on any device PyTorch computes on.

Method, order of operations and order of the sweeps are those of `flowreg`, so results differ by
rounding only. Sweeps in another order (red and black points in turn), which would need fewer
operations on larger tensors, end elsewhere however many they are: `flowreg` does not iterate to the
end either.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyflowreg.core.backend_entries import (
    TORCH_PLANE,
    TORCH_PLANES_PER_CHANNEL,
    TORCH_PLANES_SHARED,
)
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.plan_levels import PlanLevel, plan_levels
from pyflowreg.core.tensors.median import median_5x5
from pyflowreg.core.tensors.motion import (
    Tensors,
    brightness_constancy,
    census_constancy,
    excess_noise,
    flat_energy,
    gradient_constancy,
)
from pyflowreg.core.tensors.resampling import Resizer, to_tensor, warp_cubic
from pyflowreg.core.tensors.solver import LevelSolver
from pyflowreg.core.threads import for_each
from pyflowreg.errors import BackendError

logger = logging.getLogger(__name__)

SHARE_OF_FREE = 0.8
"""Of the free memory of a device, what frames may take."""

MOST_FRAMES = 4096


def create(backend_params: Mapping[str, Any]) -> TorchBackend:
    """Make the backend for a device."""
    return TorchBackend(
        torch.device(backend_params["device"]), backend_params["dtype"], backend_params["frames"]
    )


def missing(backend_params: Mapping[str, Any]) -> str | None:
    """Why PyTorch cannot compute on the device that is asked for."""
    # Not by `torch.device`, which takes large numbers for others, or fails.
    kind, _, number = str(backend_params["device"]).partition(":")
    way_out = "choose another one with backend_params.device (cpu always works, slowly)"
    if kind == "mps" and not torch.backends.mps.is_available():
        return f"PyTorch {torch.__version__} finds no device mps; {way_out}"
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            found = f"finds {count} CUDA device(s)" if count else "finds no CUDA device"
            device = backend_params["device"]
            return f"PyTorch {torch.__version__} {found}, so there is no {device}; {way_out}"
    return None


class TorchBackend:
    """Coarse-to-fine variational flow with PyTorch.

    Parameters
    ----------
    device : torch.device
        Where it is computed.
    dtype : str or None
        "float32" or "float64"; None: what the parameters' precision says.
    frames : int or None
        Most frames at a time; None: as many as free memory holds.
    """

    def __init__(self, device: torch.device, dtype: str | None, frames: int | None) -> None:
        self.device = device
        self.most = frames or MOST_FRAMES
        self._precision = {"float32": "single", "float64": "double"}.get(dtype or "")
        # One call at a time on a device other than the CPU: two would share its memory.
        self.lock = Lock()

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> TorchPlan:
        """Make the plan for one fixed frame (H, W, C)."""
        inside = parameters
        if self._precision is not None:
            inside = replace(parameters, precision=self._precision)
        return TorchPlan(self, fixed, inside, parameters.dtype)


_count = Lock()
_callers = 0
_threads_before = 1


@contextmanager
def _alone() -> Iterator[None]:
    """Let PyTorch use the calling thread only: the frames are spread over threads already.

    Its setting is one of the thread, and of all that start later; what it was before the first
    caller is restored.
    """
    global _callers, _threads_before
    with _count:
        if _callers == 0:
            _threads_before = torch.get_num_threads()
        _callers += 1
        torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        with _count:
            _callers -= 1
            torch.set_num_threads(_threads_before)


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.cuda.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def _free_bytes(device: torch.device) -> int:
    """Memory of a device that this process may still take, bytes."""
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + kept)


def _forget(device: torch.device) -> None:
    """Give memory that PyTorch keeps back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class _Level:
    """One level of a fixed frame on the device."""

    def __init__(
        self,
        found: PlanLevel,
        parameters: FlowParameters,
        fixed: torch.Tensor,
        coarse: tuple[int, int],
    ) -> None:
        self._parameters = parameters
        self._found = found
        level = found.level
        size = (level.height, level.width)
        self._hx, self._hy = level.hx, level.hy
        height, width = fixed.shape[-2:]
        self._resize_frame = Resizer((height, width), size, found.dtype, fixed.device)
        self.resize_field = Resizer(coarse, size, found.dtype, fixed.device)
        # As the moving frames are, and not `found.fixed`: equal frames have to stay equal.
        self._fixed = self._resize_frame(fixed[None])[0]
        self._energies = flat_energy(self._fixed[None], self._hx, self._hy)
        self._solver = LevelSolver(found.settings, to_tensor(found.weight, self._fixed))

    def refine(self, full: torch.Tensor, field: torch.Tensor, warp: bool) -> torch.Tensor:
        """Improve displacements (T, 2, h, w) of frames (T, C, H, W)."""
        target = self._resize_frame(full)
        warped = target
        if warp:
            warped = warp_cubic(target, field, self._hx, self._hy, self._fixed)
        increment = self._solver(self._tensors(target, warped), field)
        finite = torch.isfinite(increment).flatten(2).all(-1)[..., None, None]
        if self._found.filtered:
            increment = median_5x5(increment)
        field = field + increment
        if self._found.twice:
            field = median_5x5(field)
        # A median would hide what is no number.
        return torch.where(finite, field, torch.nan)

    def _tensors(self, target: torch.Tensor, warped: torch.Tensor) -> Tensors:
        parameters, hx, hy = self._parameters, self._hx, self._hy
        if parameters.data_term == "gray":
            return brightness_constancy(self._fixed, warped, hx, hy)
        if parameters.data_term == "cs":
            return census_constancy(self._fixed, warped, hx, hy)
        added = torch.full_like(target[:, :, :1, :1], parameters.normaliser)
        if parameters.noise_weight > 0:
            # Before warping: interpolation smooths noise away.
            excess = excess_noise(self._energies, flat_energy(target, hx, hy))
            added += parameters.noise_weight * excess
        return gradient_constancy(self._fixed, warped, hx, hy, added)


class TorchPlan:
    """Reference pyramid, weights and tables of one fixed frame on a device.

    Parameters
    ----------
    backend : TorchBackend
        With the device.
    fixed : ndarray
        Shape (H, W, C), scaled to about [0, 1].
    parameters : FlowParameters
        Settings of the computation, with the precision on the device.
    dtype : dtype
        Type of the result.
    """

    def __init__(
        self,
        backend: TorchBackend,
        fixed: NDArray[Any],
        parameters: FlowParameters,
        dtype: np.dtype[Any],
    ) -> None:
        self.parameters = parameters
        self._backend = backend
        self._dtype = dtype
        height, width, channels = fixed.shape
        self._size = (height, width)
        device = backend.device
        planes = np.ascontiguousarray(np.moveaxis(fixed, -1, 0), parameters.dtype)
        frame = torch.from_numpy(planes).to(device)
        self._levels = []
        coarse = self._size
        for found in plan_levels(fixed, parameters, has_float64=device.type != "mps"):
            self._levels.append(_Level(found, parameters, frame, coarse))
            coarse = (found.level.height, found.level.width)
        self._finish = Resizer(coarse, self._size, parameters.dtype, device)
        plane = height * width * parameters.dtype.itemsize
        self._plane_bytes = plane
        self._frame_bytes = plane * (TORCH_PLANES_SHARED + TORCH_PLANES_PER_CHANNEL * channels)

    def displacements(
        self, moving: NDArray[Any], uv: NDArray[Any] | None = None, threads: int = 1
    ) -> NDArray[Any]:
        """Displacement of every moving frame.

        Parameters
        ----------
        moving : ndarray
            Shape (T, H, W, C).
        uv : ndarray, optional
            Initial displacement for all frames, pixels, shape (H, W, 2); zero by default.
        threads : int
            Threads of the CPU, if that is the device; the result does not depend on it.

        Returns
        -------
        ndarray
            Backward map in pixels, shape (T, H, W, 2), dtype of the chosen precision.

        Raises
        ------
        BackendError
            If the memory of the device does not hold a single frame.
        """
        out = np.empty((len(moving), *self._size, 2), self._dtype)
        if self._backend.device.type == "cpu":
            self._on_threads(moving, uv, threads, out)
        else:
            with self._backend.lock, torch.inference_mode():
                self._on_device(moving, uv, out)
        return out

    def _on_threads(
        self, moving: NDArray[Any], uv: NDArray[Any] | None, threads: int, out: NDArray[Any]
    ) -> None:
        size = max(1, min(TORCH_PLANE // self._plane_bytes, self._backend.most))
        # No thread without work.
        size = max(1, min(size, -(-len(moving) // threads)))

        def one(group: int) -> None:
            part = slice(group * size, (group + 1) * size)
            with _alone():
                out[part] = self._computed(moving[part], uv)

        for_each(one, -(-len(moving) // size), threads)

    def _on_device(self, moving: NDArray[Any], uv: NDArray[Any] | None, out: NDArray[Any]) -> None:
        device, start = self._backend.device, 0
        while start < len(moving):
            free = int(_free_bytes(device) * SHARE_OF_FREE)
            size = max(1, min(free // self._frame_bytes, self._backend.most, len(moving) - start))
            part = slice(start, start + size)
            try:
                out[part] = self._computed(moving[part], uv)
                start += size
                continue
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Not within `except`, whose traceback keeps the tensors.
            _forget(device)
            if size == 1:
                raise BackendError(
                    f"flowreg_torch: the memory of {device} does not hold one frame of "
                    f"{self._size[0]} x {self._size[1]} pixels ({reason}). Free memory on it, or "
                    "choose another with backend_params.device, or flow_backend: flowreg."
                )
            self._backend.most = size // 2
            logger.warning(
                "flowreg_torch: %s has no memory for %d frames (%s); going on with %d.",
                device,
                size,
                reason,
                size // 2,
            )

    def _computed(self, moving: NDArray[Any], uv: NDArray[Any] | None) -> NDArray[Any]:
        """Displacements of frames that fit the memory, (T, H, W, 2)."""
        dtype, switches = self.parameters.dtype, self.parameters.switches
        planes = np.ascontiguousarray(np.moveaxis(moving, -1, 1), dtype)
        full = torch.from_numpy(planes).to(self._backend.device)
        initial = np.zeros((2, *self._size), dtype)
        warp = False
        if uv is not None and np.any(uv):
            initial = np.moveaxis(uv, -1, 0).astype(dtype)
            warp = switches.warp_coarsest
        field = to_tensor(initial, full).expand(len(moving), -1, -1, -1)
        for level in self._levels:
            field = level.refine(full, level.resize_field(field), warp)
            warp = True
        found = self._finish(field).permute(0, 2, 3, 1).cpu().numpy()
        return np.asarray(found, dtype=self._dtype)
