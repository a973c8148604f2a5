"""What a flow backend is: the parts every one has, and those it may have.

A backend is a module with two functions, found through `pyflowreg.core.backend_registry`:

``create(backend_params) -> Backend``
    Called with checked settings, defaults filled in. May import what it needs.
``missing(backend_params) -> str | None``
    Why it cannot run on this machine with these settings although everything it imports is
    installed ("there is no CUDA device"), with the way out; None if it can. May import what it
    needs, and must not take memory of a device for longer than the call.

Nothing here imports a numerical library, because the workflow reads it in every job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray

    from pyflowreg.core.frame_warp import WarpedFrames
    from pyflowreg.core.parameters import FlowParameters


class FlowPlan(Protocol):
    """What depends on the fixed frame only, ready for any number of moving frames."""

    def displacements(
        self, moving: NDArray[Any], uv: NDArray[Any] | None = None, threads: int = 1
    ) -> NDArray[Any]:
        """Displacements of moving frames.

        Two threads may call it at the same time, for chunks that overlap. The result of a frame
        depends on neither the other frames of the call, nor `threads`, nor a limit of memory.

        Parameters
        ----------
        moving : ndarray
            Any real type, shape (T, H, W, C), not necessarily contiguous.
        uv : ndarray, optional
            Displacement all frames start from, pixels, (H, W, 2); zero by default.
        threads : int
            CPU threads it may use.

        Returns
        -------
        ndarray
            Backward map in pixels, (T, H, W, 2), on the host, float32 or float64 as
            `FlowParameters.dtype` says. Not finite where no displacement could be found.
        """
        ...


class Backend(Protocol):
    """One implementation of the flow computation."""

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> FlowPlan:
        """Make the plan for one fixed frame (H, W, C), scaled to about [0, 1].

        Raises
        ------
        BackendError
            If it cannot compute with these parameters.
        """
        ...


@runtime_checkable
class LimitsChunks(Protocol):
    """A backend that knows how many frames it works on at a time."""

    def preferred_chunk(
        self, height: int, width: int, channels: int, parameters: FlowParameters, most: int
    ) -> int:
        """Frames per call of `displacements`, 1 to `most`.

        `most` is what the memory reserved on the host holds, see `BackendEntry.chunk_bytes`. A
        backend that splits a call by itself, as its own memory demands, needs no such method.
        """
        ...


@runtime_checkable
class Warps(Protocol):
    """A backend that warps frames itself, in stage 1 and for the aligned videos of stage 3."""

    def warp_frames(
        self,
        frames: NDArray[Any],
        fields: NDArray[Any],
        fill: NDArray[Any],
        dtype: DTypeLike,
        threads: int = 1,
    ) -> WarpedFrames:
        """Do what `pyflowreg.core.frame_warp.warp_frames` does, with the same arguments."""
        ...


@dataclass(frozen=True)
class RawChunk:
    """Recorded frames, and how they become what the flow sees.

    The flow sees ``factor * frames - offset``, clipped to [0, 1] if `clip`, in the type of the
    computation, smoothed by a Gaussian of `sigma`: kernels of `preprocessing.gaussian_kernel`,
    borders in space and ends of `frames` in time replicated.

    Parameters
    ----------
    frames : ndarray
        In the recording's type, shape (n, H, W, C): the wanted frames, and as many around them as
        the filter in time looks at. A missing neighbour is one the recording does not have.
    wanted : range
        The frames whose displacement is asked for.
    factor, offset : ndarray
        float64, shape (C,).
    clip : bool
        See above.
    sigma : ndarray
        Standard deviations (y, x, t) per channel, pixels and frames, float64, (C, 3).
    """

    frames: NDArray[Any]
    wanted: range
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]
    clip: bool
    sigma: NDArray[np.float64]


@runtime_checkable
class Corrects(Protocol):
    """A plan that does all of stage 1 with a chunk: smoothing, displacements, warping.

    It is asked only where nothing else is wanted of the smoothed frames: `numerics: standard`,
    without `preproc_funct`, `cc_initialization` and `update_reference`.
    """

    def correct(
        self,
        chunk: RawChunk,
        uv: NDArray[Any] | None,
        fill: NDArray[Any],
        dtype: DTypeLike,
        threads: int = 1,
    ) -> tuple[NDArray[Any], WarpedFrames]:
        """Displacements (n, H, W, 2) of the wanted frames, and these frames warped by them.

        Parameters
        ----------
        chunk : RawChunk
            Frames.
        uv : ndarray or None
            See `FlowPlan.displacements`, which returns the same for the smoothed frames.
        fill, dtype : ndarray, dtype-like
            See `pyflowreg.core.frame_warp.warp_frames`.
        threads : int
            CPU threads it may use.
        """
        ...
