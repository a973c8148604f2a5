"""The flow backends there are, and what is known about each without importing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyflowreg.core import backend_params as rules
from pyflowreg.core.backend_params import Param, completed

CHUNK_BYTES = 24 * 2**20
"""Size of one chunk of frames with its fields in float64, on the host."""

Values = Mapping[str, Any]
"""Values of all keys of a backend's `backend_params`."""

DISO_PRESETS = ("ultrafast", "fast", "medium")


@dataclass(frozen=True)
class HostNeeds:
    """What a job reserves of the machine it runs on.

    Parameters
    ----------
    planes_per_channel, planes_shared : int
        Planes of the size of a frame, in the type of the computation, that one thread keeps while
        it computes. Of flowreg: the frame at two sizes, before and after warping, tensors and data
        term per channel; fields, system and scratch: 44 measured with 512 x 512 pixels in float32
        and 16 threads, 41 with 1024 x 1024 in float64 and 8.
    least_plane : int
        Bytes that a plane counts at least: of a backend that works on several small frames at a
        time.
    libraries_mb : int
        Memory of its libraries, MB.
    slowness : float
        Time of the computation as a multiple of flowreg's.
    chunk_bytes : int
        See `BackendEntry`.
    """

    planes_per_channel: int = 16
    planes_shared: int = 32
    least_plane: int = 0
    libraries_mb: int = 0
    slowness: float = 1.0
    chunk_bytes: int = CHUNK_BYTES


def _is_gpu(values: Values) -> bool:
    return str(values["device"]) != "cpu"


def _never(values: Values) -> bool:
    del values
    return False


def _as_flowreg(values: Values) -> HostNeeds:
    del values
    return HostNeeds()


def _nothing(values: Values, precision: str) -> str | None:
    del values, precision
    return None


@dataclass(frozen=True)
class BackendEntry:
    """What is known about a backend without importing it.

    Parameters
    ----------
    name : str
        Value of `flow_backend`.
    module : str
        Module with `create` and `missing`, see `backend_types`.
    summary : str
        What it is, in a few words.
    extra : str, optional
        Optional dependencies of this project it needs (``pip install .[extra]``).
    imports : tuple of str
        Modules that come with the extra; looked for, not imported, to see if it is installed.
    params : tuple of Param
        Keys of `backend_params`.
    unused : tuple of str
        Settings (of `OFOptions` and `SessionConfig`) it has no use for: values other than the
        defaults are refused.
    weight_maps : bool
        Whether it can weigh every pixel by itself.
    instead : str
        What to set instead of those.
    refuses : callable
        Why it cannot compute with all values of its `params` in a precision; None if it can.
    uses_gpu : callable
        Whether it computes on a GPU, from all values of its `params`.
    devices : tuple of str
        Values of its parameter `device` that are worth a try.
    warps : bool
        Whether it warps frames too, see `backend_types.Warps`; then the jobs of stage 3 that do so
        get its GPU.
    chunk_bytes : int
        Frames it is given at a time, as bytes of a frame with its field in float64 on the host:
        (C + 2) * 8 per pixel. Memory is reserved for it before any job starts.
    needs : callable
        `HostNeeds` from all values of its `params`.
    """

    name: str
    module: str
    summary: str
    extra: str | None = None
    imports: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    unused: tuple[str, ...] = ()
    weight_maps: bool = True
    instead: str = ""
    refuses: Callable[[Values, str], str | None] = _nothing
    uses_gpu: Callable[[Values], bool] = _never
    devices: tuple[str, ...] = ()
    warps: bool = False
    chunk_bytes: int = CHUNK_BYTES
    needs: Callable[[Values], HostNeeds] = _as_flowreg

    @property
    def takes_all(self) -> bool:
        """Whether it has a use for every setting of the flow."""
        return not self.unused and self.weight_maps

    def known(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The part of `backend_params` that is its own."""
        names = {param.name for param in self.params}
        return {key: value for key, value in given.items() if key in names}

    def values(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Values of all keys of `backend_params`, defaults filled in."""
        return completed(self.params, given or {})


def _cuda_needs(values: Values) -> HostNeeds:
    del values
    return HostNeeds(planes_per_channel=0, planes_shared=0, libraries_mb=2500)


TORCH_PLANE = 4 * 2**20
"""On the CPU, flowreg_torch takes as many frames together as have planes of this size (bytes)."""

TORCH_PLANES_PER_CHANNEL, TORCH_PLANES_SHARED = 30, 70
"""Planes it needs for a frame: 90 measured with one channel, 160 with three."""


def _torch_needs(values: Values) -> HostNeeds:
    if _is_gpu(values):
        return HostNeeds(planes_per_channel=0, planes_shared=0, libraries_mb=4000)
    return HostNeeds(
        planes_per_channel=TORCH_PLANES_PER_CHANNEL,
        planes_shared=TORCH_PLANES_SHARED,
        least_plane=TORCH_PLANE,
        libraries_mb=300,
        slowness=30.0,
    )


def _torch_refuses(values: Values, precision: str) -> str | None:
    dtype = values["dtype"] or {"single": "float32", "double": "float64"}[precision]
    if values["device"] == "mps" and dtype == "float64":
        return (
            "float64 is not available on the device mps; set precision: single, or "
            "backend_params.device: cpu"
        )
    return None


def _diso_refuses(values: Values, precision: str) -> str | None:
    if precision == "double":
        return "it has single precision only; set precision: single"
    size, stride = values["patch_size"], values["patch_stride"]
    if size is not None and stride is not None and stride > size:
        return f"backend_params.patch_stride: {stride} is above patch_size ({size}); lower it"
    return None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


_CUDA_PARAMS = (
    rules.device(("cuda",), "cuda:0"),
    Param(
        "max_memory",
        0.8,
        "a number above 0 and up to 1",
        _is_share,
        "Part of the GPU's memory, of what is free at the beginning, that frames may take.",
        None,
    ),
)

_TORCH_PARAMS = (
    rules.device(("cuda", "mps", "cpu"), "cuda:0"),
    Param(
        "dtype",
        None,
        *rules.one_of("float32", "float64"),
        "Floating point on the device; by default what `precision` says.",
    ),
    Param(
        "frames",
        None,
        *rules.whole(1, 4096),
        "Most frames on the device at a time; by default what its free memory holds.",
        None,
    ),
)

_OF_PRESET = "by default the preset's"
_DISO_PARAMS = (
    Param(
        "preset",
        "medium",
        *rules.one_of(*DISO_PRESETS),
        "OpenCV's choice of all other parameters.",
    ),
    Param(
        "finest_scale",
        None,
        *rules.whole(0, 10),
        f"Finest pyramid level that is computed, 0 full resolution, each half as fine; "
        f"{_OF_PRESET}, less for small frames.",
    ),
    Param("patch_size", None, *rules.whole(4, 64), f"Side of a patch, px; {_OF_PRESET}."),
    Param("patch_stride", None, *rules.whole(1, 64), f"Step between patches, px; {_OF_PRESET}."),
    Param(
        "gradient_descent_iterations",
        None,
        *rules.whole(1, 1000),
        f"Steps of the search for each patch; {_OF_PRESET}.",
    ),
    Param(
        "variational_refinement_iterations",
        None,
        *rules.whole(0, 1000),
        f"Sweeps that smooth the field per level; {_OF_PRESET}.",
    ),
    Param(
        "variational_refinement_alpha",
        None,
        *rules.number(0),
        "Smoothness in these sweeps; by default 20.",
    ),
    Param(
        "variational_refinement_delta",
        None,
        *rules.number(0),
        "Weight of brightness constancy in these sweeps; by default 5.",
    ),
    Param(
        "variational_refinement_gamma",
        None,
        *rules.number(0),
        "Weight of gradient constancy in these sweeps; by default 10.",
    ),
    Param(
        "use_mean_normalization",
        None,
        *rules.flag(),
        "Whether patches are compared without their means; by default true.",
    ),
    Param(
        "use_spatial_propagation",
        None,
        *rules.flag(),
        "Whether patches start from their neighbours' results; by default true.",
    ),
)
_DISO_UNUSED = (
    *("alpha", "levels", "eta", "iterations", "update_lag", "a_data", "a_smooth"),
    *("min_level", "quality_setting"),
    *("constancy_assumption", "const_assumption"),
    *("alpha_between", "iterations_between", "stage2_constancy_assumption"),
)

_ENTRIES = (
    BackendEntry(
        "flowreg",
        "pyflowreg.core.backends.flowreg",
        "compiled kernels on the CPU; every computer has it",
    ),
    BackendEntry(
        "flowreg_cuda",
        "pyflowreg.core.backends.flowreg_cuda",
        "the same results on an NVIDIA GPU",
        extra="cuda",
        imports=("cupy",),
        params=_CUDA_PARAMS,
        uses_gpu=_is_gpu,
        devices=("cuda:0",),
        warps=True,
        chunk_bytes=1536 * 2**20,
        needs=_cuda_needs,
    ),
    BackendEntry(
        "flowreg_torch",
        "pyflowreg.core.backends.flowreg_torch",
        "the same results with PyTorch, on any of its devices",
        extra="torch",
        imports=("torch",),
        params=_TORCH_PARAMS,
        refuses=_torch_refuses,
        uses_gpu=_is_gpu,
        devices=("cuda:0", "mps", "cpu"),
        chunk_bytes=192 * 2**20,
        needs=_torch_needs,
    ),
    BackendEntry(
        "diso",
        "pyflowreg.core.backends.diso",
        "OpenCV's dense inverse search: another method, on the CPU",
        extra="diso",
        imports=("cv2",),
        params=_DISO_PARAMS,
        unused=_DISO_UNUSED,
        weight_maps=False,
        instead="its own settings are backend_params, first of all preset",
        refuses=_diso_refuses,
    ),
)
BACKENDS = {entry.name: entry for entry in _ENTRIES}
"""All backends by name."""
