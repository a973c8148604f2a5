"""The settings of a session, and the number of an array job."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from pyflowreg.core.backend_registry import BACKENDS, result_params
from pyflowreg.errors import ConfigError
from pyflowreg.motion_correction.backend_settings import check_backend_params, check_unused
from pyflowreg.motion_correction.option_values import LARGEST_SIGMA
from pyflowreg.motion_correction.options import Backend, DataTerm, OFOptions, check_input_options
from pyflowreg.session import config_files
from pyflowreg.session.flow_options import checked_flow_options
from pyflowreg.settings import Allowed, FilePath, Flag, Number, Settings, Whole, at_most, shown

logger = logging.getLogger(__name__)
MOST_WORKERS = 4096
TASK_VARIABLES = ("SLURM_ARRAY_TASK_ID", "SGE_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID")
Table = Annotated[dict[str, Any], Allowed("a table of keys and values")]


class SessionConfig(Settings):
    """The settings of a session: the same keys in YAML, TOML and Python.

    Every key is described where it is defined and in config/README.md.

    Parameters
    ----------
    **data
        Keys and values; only `root` is required. Relative output folders are taken from `root`.

    Raises
    ------
    ConfigError
        With every problem found, also when an attribute is set to something that is not allowed.
    """

    root: FilePath = Field(
        description="Folder of the recordings; relative to the current folder.",
        json_schema_extra={"stages": [0]},
    )
    pattern: str = Field(
        "*.tif",
        description="Which files (or folders of TIFFs) in root are recordings.",
        json_schema_extra={"stages": [0]},
    )
    center: Annotated[str | None, Allowed("the name of a recording, or nothing")] = Field(
        None,
        description="Recording all others are aligned to; nothing: the middle one by name.",
        json_schema_extra={"stages": [2]},
    )
    input_options: Table = Field(
        default_factory=dict,
        description="How to read the files: dataset, axes, n_channels, channels.",
        json_schema_extra={"stages": [1]},
    )
    output_root: FilePath = Field(
        Path("compensated_outputs"),
        description="Folder with one folder of results per recording; relative to root.",
    )
    final_results: FilePath = Field(
        Path("final_results"),
        description="Folder of the session's mask and aligned recordings; relative to root.",
    )
    resume: Flag = Field(
        True, description="Keep finished results made with the same settings; false redoes all."
    )
    checkpoint_seconds: Number = Field(
        30.0,
        ge=0,
        description="Work a killed stage 1 may lose; 0 keeps nothing of unfinished recordings.",
    )
    scheduler: Literal["local", "array"] = Field(
        "local",
        description="`array`: the command line does one recording per array job in stage 1.",
    )
    n_workers: Annotated[
        Whole, Allowed("-1 (all cores), or a whole number >= 1"), at_most(MOST_WORKERS)
    ] = Field(
        -1,
        description="Frames, in stage 2 recordings, computed at the same time, in threads; -1 "
        "takes all cores, or those given to Snakemake with -j.",
    )
    flow_backend: Backend = Field(
        "flowreg",
        description="Implementation of the optical flow: flowreg (CPU) needs nothing else.",
        json_schema_extra={"stages": [1, 2]},
    )
    backend_params: Table = Field(
        default_factory=dict,
        description="Settings of the backend, for example device; flowreg has none.",
        json_schema_extra={"stages": [1, 2]},
    )
    numerics: Literal["standard", "matlab"] = Field(
        "standard",
        description="`matlab` keeps every habit of the original toolbox; standard is better.",
        json_schema_extra={"stages": [1, 2]},
    )
    precision: Literal["single", "double"] = Field(
        "single",
        description="Floating point of the optical flow.",
        json_schema_extra={"stages": [1, 2]},
    )
    flow_options: Annotated[
        dict[str, Any], Allowed("a table of keys and values, or the path of a JSON options file")
    ] = Field(
        default_factory=dict,
        description="Motion correction of each recording; keys of the MATLAB toolbox.",
        json_schema_extra={"stages": [1]},
    )
    cc_upsample: Annotated[Whole, at_most(LARGEST_SIGMA)] = Field(
        4,
        ge=1,
        description="Rigid shift between recordings is found to 1/cc_upsample pixel.",
        json_schema_extra={"stages": [2]},
    )
    sigma_smooth: Annotated[Number, at_most(LARGEST_SIGMA)] = Field(
        6.0,
        ge=0,
        description="Smoothing (px) of the averages before alignment; refined with less.",
        json_schema_extra={"stages": [2]},
    )
    alpha_between: Number = Field(
        25.0,
        gt=0,
        description="Smoothness of the fields between recordings: larger is stiffer.",
        json_schema_extra={"stages": [2]},
    )
    iterations_between: Whole = Field(
        100,
        ge=1,
        description="Solver sweeps per pyramid level between recordings.",
        json_schema_extra={"stages": [2]},
    )
    stage2_constancy_assumption: DataTerm = Field(
        "gc",
        description="Data term between recordings: gradient, brightness, or census.",
        json_schema_extra={"stages": [2]},
    )
    align_chunk_size: Whole = Field(
        64, ge=1, description="Frames aligned at a time; bounds the memory, changes no result."
    )
    align_output_format: Literal["TIFF", "HDF5"] = Field(
        "TIFF", description="Format of the aligned recordings.", json_schema_extra={"stages": [3]}
    )

    tables: ClassVar[tuple[str, ...]] = ("input_options", "backend_params", "flow_options")
    _options_file: Path | None = PrivateAttr(None)

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)
        if isinstance(options := data.get("flow_options"), str | Path):
            self._options_file = Path(options).expanduser()
        unused = sorted(set(self.backend_params) - set(self.used_backend_params))
        if unused:
            logger.info(
                "backend_params.%s is not used by the backend %s.", unused[0], self.flow_backend
            )

    @property
    def used_backend_params(self) -> dict[str, Any]:
        """The part of `backend_params` the chosen backend knows."""
        return BACKENDS[self.flow_backend].known(self.backend_params)

    @classmethod
    def _elsewhere(cls, name: str) -> str | None:
        if name in OFOptions.model_fields:
            return f"is not a key of the session; write it as flow_options.{name}."
        return None

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        if not value.strip() or "\0" in value or len(value) > 4096:
            raise ValueError('is empty or too long; "*" takes everything')
        if value.startswith("/") or ".." in parts or parts == ():
            raise ValueError("must stay below root")
        if any("**" in part and part != "**" for part in parts) or parts.count("**") > 1:
            raise ValueError("is not allowed: ** must stand alone between slashes, and only once")
        return value

    @field_validator("center")
    @classmethod
    def _center(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("names no recording")
        return value

    @field_validator("n_workers")
    @classmethod
    def _workers(cls, value: int) -> int:
        if value != -1 and value < 1:
            raise ValueError("is not allowed")
        return value

    @field_validator("input_options", mode="before")
    @classmethod
    def _input_options(cls, value: Any) -> Any:
        value = {} if value is None else value
        if isinstance(value, Mapping):
            check_input_options(value)
            return dict(value)
        return value

    @field_validator("flow_options", mode="before")
    @classmethod
    def _flow_options(cls, value: Any) -> Any:
        return checked_flow_options({} if value is None else value)

    @field_validator("backend_params", mode="before")
    @classmethod
    def _no_params(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _across(self) -> Self:
        check_backend_params(self.flow_backend, self.backend_params, self.precision)
        check_unused(self.flow_backend, self, OFOptions, self.flow_options)
        return self

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a TOML file.

        Parameters
        ----------
        path : str or Path
            The file. Top-level keys that stand below ``[backend_params]`` are moved up.

        Returns
        -------
        SessionConfig
            Validated.

        Raises
        ------
        ConfigError
            With every problem found.
        """
        return cls.from_mapping(config_files.read_toml(Path(path), cls.model_fields))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a YAML file.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        SessionConfig
            Validated.

        Raises
        ------
        ConfigError
            With every problem found.
        """
        return cls.from_mapping(config_files.read_yaml(Path(path)))

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a TOML or YAML file.

        Parameters
        ----------
        path : str or Path
            The file; its name ends in .toml, .yml or .yaml.

        Returns
        -------
        SessionConfig
            Validated.

        Raises
        ------
        ConfigError
            If it has another ending, or with every problem found in it.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".toml":
            return cls.from_toml(path)
        if suffix in (".yml", ".yaml"):
            return cls.from_yaml(path)
        raise ConfigError([f"{path}: the settings must be a .toml, .yml or .yaml file."])

    def options_for(self, input_file: Path | None = None, folder: Path | None = None) -> OFOptions:
        """Return the options of stage 1: `flow_options` plus what the session decides.

        Parameters
        ----------
        input_file : Path, optional
            The recording.
        folder : Path, optional
            Its output folder.

        Returns
        -------
        OFOptions
            Writes HDF5 with valid masks and statistics, in the input's number type unless
            `flow_options.output_typename` says otherwise.
        """
        own: dict[str, Any] = {
            "output_typename": "input",
            **checked_flow_options(self.flow_options),
            "output_format": "HDF5",
            "save_valid_idx": True,
            "save_meta_info": True,
            "input_options": self.input_options,
            "numerics": self.numerics,
            "precision": self.precision,
            "flow_backend": self.flow_backend,
            "backend_params": self.used_backend_params,
        }
        if input_file is not None:
            own["input_file"] = input_file
        if folder is not None:
            own["output_path"] = folder
        return OFOptions(**own)

    def settings_of_stage(self, stage: int) -> dict[str, Any]:
        """Return the settings the results of a stage depend on, as JSON can hold them.

        Parameters
        ----------
        stage : int
            1, 2 or 3.

        Returns
        -------
        dict
            For records and fingerprints. Folders, `n_workers`, `resume` and the
            like are left out, and defaults are filled in.
        """
        from pyflowreg.session.flow_options import plain_options

        result: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            stages = extra.get("stages", []) if isinstance(extra, dict) else []
            if isinstance(stages, list) and stage in stages:
                result[name] = getattr(self, name)
        if "backend_params" in result:
            result["backend_params"] = result_params(self.flow_backend, self.backend_params)
        if table := result.get("input_options"):  # nothing says the same as no key
            result["input_options"] = {key: v for key, v in table.items() if v is not None}
        if stage == 1:
            result["flow_options"] = plain_options(self.options_for())
        if stage == 2:
            # The rigid shift is found in the weighted mean of the channels.
            result["weight"] = plain_options(self.options_for())["weight"]
        return result


def get_array_task_id() -> int:
    """Return the number of this array job, counted from 1.

    Returns
    -------
    int
        From SLURM_ARRAY_TASK_ID, SGE_TASK_ID, PBS_ARRAY_INDEX or PBS_ARRAYID, the first that is
        set. Grid Engine's "undefined" counts as not set.

    Raises
    ------
    ConfigError
        If none is set, or it is no whole number >= 1.
    """
    for name in TASK_VARIABLES:
        value = os.environ.get(name, "").strip()
        if value in ("", "undefined"):
            continue
        if not value.isascii() or not value.isdigit() or int(value) < 1:
            raise ConfigError(
                [
                    f"{name}: {shown(value)} is no number of an array job; recordings count from "
                    "1, for example --array=1-10."
                ]
            )
        return int(value)
    raise ConfigError(
        [
            f"This is not an array job: none of {', '.join(TASK_VARIABLES)} is set. Submit it as "
            "an array (SLURM: --array=1-N, Grid Engine: -t 1-N, PBS: -J 1-N)."
        ]
    )
