"""Settings of the motion correction of one recording, named as in the MATLAB toolbox."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BeforeValidator, Field, field_validator, model_validator

from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction import option_values as values
from pyflowreg.motion_correction.backend_settings import check_backend_params, check_unused
from pyflowreg.settings import Allowed, FilePath, Flag, Number, Settings, Whole

logger = logging.getLogger(__name__)

MIN_LEVELS = {"quality": 0, "balanced": 4, "fast": 6}
CONSTANCY_ALIASES = {"gradient": "gc", "brightness": "gray", "census": "cs"}
_ELSEWHERE = {
    "channel_idx": "is called input_options.channels here (0-based list).",
    "n_workers": "is a setting of the session, not of one recording.",
}


def _alias(value: Any) -> Any:
    return CONSTANCY_ALIASES.get(value, value) if isinstance(value, str) else value


Backend = Literal["flowreg", "flowreg_torch", "flowreg_cuda", "diso"]
DataTerm = Annotated[
    Literal["gc", "gray", "cs"],
    BeforeValidator(_alias),
    Allowed("one of gc, gray, cs (also gradient, brightness, census)"),
]


def check_input_options(value: Mapping[str, Any]) -> None:
    """Check the keys and values that say how to read a file.

    Parameters
    ----------
    value : mapping
        Keys of `pyflowreg.io.InputOptions`.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    if not value:
        return
    from pydantic import ValidationError

    from pyflowreg.io import InputOptions
    from pyflowreg.settings import describe

    try:
        InputOptions(**value)
    except ConfigError as error:
        raise ConfigError([_prefixed(text, "input_options.") for text in error.problems]) from None
    except ValidationError as error:
        raise ConfigError(describe(InputOptions, error, "input_options.")) from None


def _prefixed(text: str, prefix: str) -> str:
    return text if text.startswith(prefix) else prefix + text


class OFOptions(Settings):
    """How one recording is motion corrected; names and defaults of the MATLAB toolbox."""

    input_file: FilePath | None = Field(
        None, description="Recording: a file, or a folder of TIFFs."
    )
    input_options: Annotated[dict[str, Any], Allowed("a table of keys and values")] = Field(
        default_factory=dict, description="How to read the file: dataset, axes, channels."
    )
    output_path: FilePath = Field(Path("results"), description="Folder of the results.")
    output_format: Literal[
        "MAT",
        "HDF5",
        "TIFF",
        "MULTIFILE_TIFF",
        "MULTIFILE_MAT",
        "MULTIFILE_HDF5",
        "CAIMAN_HDF5",
    ] = Field("MAT", description="Format of the corrected recording.")
    alpha: Annotated[
        float | tuple[float, float],
        BeforeValidator(values.parse_alpha),
        Allowed("a number > 0, or two (x, y)"),
    ] = Field(1.5, description="Smoothness of the field: larger is stiffer.")
    weight: Annotated[
        Any,
        BeforeValidator(values.parse_weight),
        Allowed("numbers >= 0, one per channel, or maps of shape (C, H, W)"),
    ] = Field(
        (0.5, 0.5),
        description="How much each channel counts; numbers are scaled to sum 1, maps are not.",
    )
    levels: Whole = Field(100, ge=1, description="Most pyramid levels; small images have fewer.")
    quality_setting: Literal["quality", "balanced", "fast", "custom"] = Field(
        "quality",
        description="Finest pyramid level: quality 0, balanced 4, fast 6; custom means min_level.",
    )
    min_level: Whole = Field(
        -1, ge=-1, description="Finest pyramid level; 0 or more wins over quality_setting."
    )
    eta: Number = Field(0.8, gt=0, lt=1, description="Size of a pyramid level over the next finer.")
    update_lag: Whole = Field(
        5, ge=1, description="Solver sweeps between updates of the robust weights."
    )
    iterations: Whole = Field(50, ge=1, description="Solver sweeps per pyramid level.")
    a_smooth: Number = Field(
        1.0, gt=0, le=1, description="Exponent of the smoothness term; 1 is quadratic."
    )
    a_data: Annotated[
        float | tuple[float, ...],
        BeforeValidator(values.parse_exponents),
        Allowed("a number > 0 and <= 1, or one per channel"),
    ] = Field(0.45, description="Exponent of the data term; smaller is more robust.")
    sigma: Annotated[
        tuple[tuple[float, float, float], ...],
        BeforeValidator(values.parse_sigma),
        Allowed("three numbers >= 0 (y, x, t), or one such row per channel"),
    ] = Field(
        ((1.0, 1.0, 0.1), (1.0, 1.0, 0.1)),
        description="Gaussian smoothing before the estimation, in pixels and frames.",
    )
    constancy_assumption: DataTerm = Field(
        "gc", description="Data term: gradient constancy, brightness constancy, or census."
    )
    bin_size: Whole = Field(1, ge=1, description="Frames averaged to one.")
    buffer_size: Whole = Field(
        400, ge=1, description="Frames per batch; each batch starts from the fields of the last."
    )
    reference_frames: Annotated[
        Any,
        BeforeValidator(values.parse_reference),
        Allowed(
            '0-based frames (a number or a list), a 1-based inclusive range such as "50:500",'
            " or an image file (in Python also an array (H, W) or (H, W, C))"
        ),
    ] = Field("50:500", description="Frames whose registered mean is the reference, or the image.")
    save_meta_info: Flag = Field(True, description="Write statistics and the reference frame.")
    save_w: Flag = Field(False, description="Write the fields of all frames (large).")
    save_valid_idx: Flag = Field(False, description="Write the valid mask of every frame.")
    output_typename: Annotated[
        str | None,
        BeforeValidator(values.parse_typename),
        Allowed("one of input, double, single, uint8, uint16, int16"),
    ] = Field("double", description='Number type of the result; "input" keeps the file\'s.')
    channel_normalization: Literal["joint", "separate"] = Field(
        "joint", description="Scale intensities over all channels, or each channel by itself."
    )
    interpolation_method: Literal["cubic", "linear", "nearest"] = Field(
        "cubic", description="Interpolation of candidate references; results are always cubic."
    )
    cc_initialization: Flag = Field(
        False, description="Start from a whole-pixel shift found by cross-correlation."
    )
    update_reference: Flag = Field(
        False, description="Replace the reference after each batch by the mean of its last frames."
    )
    update_initialization_w: Flag = Field(
        True, description="Start each batch from the mean of the last fields of the previous one."
    )
    n_references: Whole = Field(1, description="Number of references; only 1 is offered.")
    min_frames_per_reference: Whole = Field(
        20, ge=1, description="Only for several references; kept so that toolbox files load."
    )
    naming_convention: Literal["default", "batch"] = Field(
        "default", description="`batch` puts the input's name before each output's."
    )
    verbose: Flag = Field(
        False,
        description="Show progress and messages on standard error. "
        "The toolbox prints when it is false; here true means talk.",
    )
    use_gpu: Flag = Field(False, description="Always false; a GPU is chosen by flow_backend.")
    preproc_funct: Annotated[
        Callable[..., Any] | None, Allowed("a Python function, or nothing")
    ] = Field(None, description="Applied to each channel after the fields are known; Python only.")
    numerics: Literal["standard", "matlab"] = Field(
        "standard", description="`matlab` keeps every habit of the original toolbox."
    )
    precision: Literal["single", "double"] = Field(
        "single", description="Floating point of the solver."
    )
    flow_backend: Backend = Field("flowreg", description="Implementation of the solver.")
    backend_params: Annotated[dict[str, Any], Allowed("a table of keys and values")] = Field(
        default_factory=dict, description="Settings of the backend, for example device."
    )

    @classmethod
    def _elsewhere(cls, name: str) -> str | None:
        return _ELSEWHERE.get(name)

    @field_validator("output_format", mode="before")
    @classmethod
    def _offered_format(cls, value: Any) -> Any:
        if value == "BEGONIA":
            raise ValueError("is a format of the toolbox that is not offered")
        return value

    @field_validator("n_references")
    @classmethod
    def _one_reference(cls, value: int) -> int:
        if value != 1:
            raise ConfigError([f"n_references: {value} is not offered; only 1 is. Remove the key."])
        return value

    @field_validator("use_gpu")
    @classmethod
    def _no_gpu_flag(cls, value: bool) -> bool:
        if value:
            raise ConfigError(
                ['use_gpu: true is not offered; choose flow_backend: "flowreg_cuda" instead.']
            )
        return value

    @field_validator("preproc_funct", mode="before")
    @classmethod
    def _function(cls, value: Any) -> Any:
        # The toolbox's files hold an empty list for "none".
        if isinstance(value, list | str) and not value:
            return None
        if value is not None and not callable(value):
            raise ValueError("cannot be read from a file: assign the function in Python")
        return value

    @field_validator("input_options", mode="before")
    @classmethod
    def _input_options(cls, value: Any) -> Any:
        if value is None:
            return {}
        if hasattr(value, "model_dump"):
            value = value.model_dump(exclude_none=True)
        if isinstance(value, Mapping):
            check_input_options(value)
        return value

    @model_validator(mode="after")
    def _across(self) -> Self:
        check_backend_params(self.flow_backend, self.backend_params, self.precision)
        if self.min_level >= 0:
            if self.quality_setting not in ("custom", "quality"):
                logger.warning(
                    "quality_setting %s has no effect because min_level is %d; "
                    "set min_level to -1 to use it.",
                    self.quality_setting,
                    self.min_level,
                )
            self.__dict__["quality_setting"] = "custom"
        elif self.quality_setting == "custom":
            raise ConfigError(
                [
                    "quality_setting: custom needs min_level >= 0; allowed without it are quality, "
                    "balanced and fast."
                ]
            )
        check_unused(self.flow_backend, self)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "min_level" and value == -1 and self.quality_setting == "custom":
            self.__dict__["quality_setting"] = "quality"
        super().__setattr__(name, value)

    @property
    def effective_min_level(self) -> int:
        """Finest pyramid level that is computed; 0 is full resolution."""
        return self.min_level if self.min_level >= 0 else MIN_LEVELS[self.quality_setting]

    @property
    def alpha_pair(self) -> tuple[float, float]:
        """Smoothness weights of x and y."""
        return self.alpha if isinstance(self.alpha, tuple) else (self.alpha, self.alpha)

    def weight_for(self, n_channels: int) -> NDArray[np.float64]:
        """Return the weights of a recording's channels.

        Parameters
        ----------
        n_channels : int
            Channels of the recording.

        Returns
        -------
        ndarray of float64
            (C,). More weights than channels: cut and scaled to sum 1. Fewer: each missing one is
            1/C, so the sum exceeds 1, as in the toolbox. Maps are returned as (C, H, W).

        Raises
        ------
        ConfigError
            If there are fewer maps than channels, or only weights of 0 remain.
        """
        return values.weight_for(self.weight, n_channels)

    def a_data_for(self, n_channels: int) -> NDArray[np.float64]:
        """Return the data term's exponent of each channel, float64 (C,)."""
        return values.exponents_for(self.a_data, n_channels)

    def sigma_for(self, channel: int) -> tuple[float, float, float]:
        """Return the smoothing (y, x, t) of a channel, 0-based; a missing row is the first."""
        return self.sigma[channel] if channel < len(self.sigma) else self.sigma[0]

    def sigma_array(self, n_channels: int) -> NDArray[np.float64]:
        """Return the smoothing of all channels, float64 (C, 3), columns (y, x, t)."""
        return np.array([self.sigma_for(channel) for channel in range(n_channels)])

    def output_dtype(self, input_dtype: DTypeLike) -> np.dtype[Any]:
        """Return the number type of the result for a recording of type `input_dtype`."""
        if self.output_typename is None:
            return np.dtype(input_dtype)
        return np.dtype(values.DTYPES[self.output_typename])

    @property
    def reference_is_frames(self) -> bool:
        """Whether the reference is made from frames of the recording, not given as an image."""
        return values.is_frames(self.reference_frames)

    def reference_indices(self, n_frames: int, numerics: str | None = None) -> list[int]:
        """Return the frames that make the reference.

        Parameters
        ----------
        n_frames : int
            Frames of the recording, after binning.
        numerics : str, optional
            `standard` leaves out frames beyond the recording, with a warning; `matlab` refuses
            them. Default: the option `numerics`.

        Returns
        -------
        list of int
            0-based, never empty.

        Raises
        ------
        ConfigError
            If the reference is an image, or in `matlab` if a frame does not exist.
        """
        return values.existing_frames(
            self.reference_frames, n_frames, strict=(numerics or self.numerics) == "matlab"
        )

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read the toolbox's options file; see `options_file.read_options`."""
        from pyflowreg.motion_correction.options_file import read_options

        return cls.from_mapping(read_options(Path(path)))

    def to_json(self, path: str | Path) -> Path:
        """Write the toolbox's options file; see `options_file.write_options`."""
        from pyflowreg.motion_correction.options_file import write_options

        return write_options(self, Path(path))

    load_options = from_json
    save_options = to_json
