"""What every change of a session redoes: the table, and small sessions to try its rows on.

A row is proved by `test_changes.py`. One that is missing fails there: every key of the settings, of
`flow_options` and of `input_options` has at least one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import tifffile

if TYPE_CHECKING:
    from .lab import Lab

NAMES = ("rec_1", "rec_2", "rec_10")
CENTRE = "rec_2"
SIZE = (24, 32)
FRAMES = 5
FLOW: dict[str, Any] = {
    "quality_setting": "fast",
    "iterations": 4,
    "reference_frames": [0, 1],
    "weight": [0.5, 0.5],
}
BASE: dict[str, Any] = {
    "root": "session",
    "pattern": "rec_*",
    "flow_options": FLOW,
    "iterations_between": 10,
    "checkpoint_seconds": 0,
    "n_workers": 1,
}

Act = Callable[["Lab"], None]


@dataclass(frozen=True)
class Redone:
    """Which results a change makes again: names of recordings, and whether the mask."""

    stage1: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    mask: bool = False
    videos: frozenset[str] = frozenset()

    @property
    def first(self) -> int:
        """The first stage that runs; 0 if none does."""
        parts = (self.stage1, self.fields, self.mask or self.videos)
        return next((number for number, part in enumerate(parts, 1) if part), 0)


def _redone(stage1: Any = (), fields: Any = (), mask: bool = True, videos: Any = ()) -> Redone:
    return Redone(frozenset(stage1), frozenset(fields), mask, frozenset(videos))


NOTHING = Redone()
VIDEOS = _redone(mask=False, videos=NAMES)
MASK = _redone()
STAGE3 = _redone(videos=NAMES)
STAGE2 = _redone((), NAMES, True, NAMES)
STAGE1 = _redone(NAMES, NAMES, True, NAMES)


def of_one(name: str) -> Redone:
    """All stages of one recording that is not the centre, and the mask."""
    return _redone([name], [name], True, [name])


@dataclass(frozen=True)
class Change:
    """One row.

    Parameters
    ----------
    key : str
        ``name``, ``flow_options.name``, ``input_options.name`` or ``backend_params.backend.name``
        of a setting, or what else it is.
    redone : Redone
        What is made again.
    settings : dict
        Settings that are changed; those below `flow_options` and `input_options` are changed one
        by one.
    act : callable, optional
        What else is done to the session.
    before : dict
        Settings that differ from `BASE` before the change as well.
    prepare : callable, optional
        What is done to the session before it is run the first time.
    by_command : Redone, optional
        If the command makes other results again than Snakemake.
    planned_only : bool
        The results cannot be made here.
    """

    key: str
    redone: Redone
    settings: Mapping[str, Any] = field(default_factory=dict)
    act: Act | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    prepare: Act | None = None
    by_command: Redone | None = None
    planned_only: bool = False

    def __str__(self) -> str:
        text = " ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.key} {text}"[:60].strip()


def _flow(key: str, value: Any, redone: Redone = STAGE1, **more: Any) -> Change:
    return Change(f"flow_options.{key}", redone, {"flow_options": {key: value}}, **more)


def _key(key: str, value: Any, redone: Redone, **more: Any) -> Change:
    return Change(key, redone, {key: value}, **more)


WITHOUT_SOLVER: dict[str, Any] = {
    "flow_options": {"quality_setting": "quality", "iterations": 50},
    "iterations_between": 100,
}
"""Defaults in place of what `BASE` has and diso refuses."""

OF_DISO: dict[str, Any] = {
    "preset": "fast",
    "finest_scale": 1,
    "patch_size": 12,
    "patch_stride": 3,
    "gradient_descent_iterations": 9,
    "variational_refinement_iterations": 2,
    "variational_refinement_alpha": 5,
    "variational_refinement_delta": 6,
    "variational_refinement_gamma": 7,
    "use_mean_normalization": False,
    "use_spatial_propagation": False,
}
"""Values other than the defaults."""


def _param(backend: str, key: str, value: Any, redone: Redone = STAGE1) -> Change:
    """A key of `backend_params`; whether the backend is here or not, only planned."""
    before = {"flow_backend": backend} | (WITHOUT_SOLVER if backend == "diso" else {})
    return Change(
        f"backend_params.{backend}.{key}",
        redone,
        {"backend_params": {key: value}},
        before=before,
        planned_only=True,
    )


# Ways to change a session ------------------------------------------------------------------------


def frames_of(number: int, frames: int = FRAMES) -> np.ndarray:
    """Frames (T, H, W, 2) of a scene that moves, uint16."""
    rng = np.random.default_rng(number)
    big = np.kron(np.random.default_rng(5).random((2, 20, 20)), np.ones((1, 3, 3)))
    stack = np.empty((frames, *SIZE, 2))
    for k in range(frames):
        dy, dx = (number + k) % 3, (2 * number + k) % 4
        stack[k] = np.moveaxis(big[:, dy + 4 : dy + 4 + SIZE[0], dx + 4 : dx + 4 + SIZE[1]], 0, -1)
    return (2000 * stack + 300 * rng.random(stack.shape)).astype(np.uint16)


def save_recording(path: Path, number: int, frames: int = FRAMES) -> None:
    """Write a recording of two channels, as the ending of its name says."""
    stack = frames_of(number, frames)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["ch1"], file["ch2"] = np.moveaxis(stack, -1, 0)
    else:
        tifffile.imwrite(path, stack, photometric="minisblack", planarconfig="contig")


def _pages(lab: Lab) -> None:
    """Channels that take turns, as pages of one."""
    for number, name in enumerate(NAMES):
        stack = np.moveaxis(frames_of(number), -1, 1).reshape(-1, *SIZE)
        tifffile.imwrite(lab.root / f"{name}.tif", stack, photometric="minisblack")


def _hdf5(lab: Lab) -> None:
    """Files with two recordings each."""
    for number, name in enumerate(NAMES):
        (lab.root / f"{name}.tif").unlink()
        with h5py.File(lab.root / f"{name}.h5", "w") as file:
            for letter, other in (("a", number), ("b", number + 5)):
                file[f"{letter}1"], file[f"{letter}2"] = np.moveaxis(frames_of(other), -1, 0)


def _stacks(lab: Lab) -> None:
    """Datasets whose axes may be read in two ways."""
    for number, name in enumerate(NAMES):
        (lab.root / f"{name}.tif").unlink()
        with h5py.File(lab.root / f"{name}.h5", "w") as file:
            file["movie"] = frames_of(number, SIZE[0])[:, :, : SIZE[0], 0]


def _folders(lab: Lab) -> None:
    """Folders of single frames."""
    for number, name in enumerate(NAMES):
        (lab.root / f"{name}.tif").unlink()
        (lab.root / name).mkdir()
        for k, frame in enumerate(frames_of(number)[..., 0]):
            tifffile.imwrite(lab.root / name / f"frame_{k}.tif", frame)


def _replace_frame(lab: Lab) -> None:
    frame = frames_of(7)[0, ..., 0]
    tifffile.imwrite(lab.root / "rec_10" / "frame_2.tif", frame)


def _aged(path: Path, seconds: float) -> None:
    """Let a file look older than its results."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - int(seconds * 1e9)))


def _add(lab: Lab) -> None:
    save_recording(lab.root / "rec_20.tif", 4)


def _remove(lab: Lab) -> None:
    (lab.root / "rec_10.tif").unlink()


def _rename(lab: Lab) -> None:
    (lab.root / "rec_10.tif").rename(lab.root / "rec_11.tif")


def _replace(lab: Lab) -> None:
    save_recording(lab.root / "rec_10.tif", 6)


def _replace_by_older(lab: Lab) -> None:
    save_recording(lab.root / "rec_10.tif", 6)
    _aged(lab.root / "rec_10.tif", 1000)


def _replace_by_longer(lab: Lab) -> None:
    save_recording(lab.root / "rec_10.tif", 6, FRAMES + 2)


def _replace_centre(lab: Lab) -> None:
    save_recording(lab.root / f"{CENTRE}.tif", 6)
    _aged(lab.root / f"{CENTRE}.tif", 1000)


def _convert(lab: Lab) -> None:
    """Another format, under the same name and with an old date."""
    (lab.root / "rec_10.tif").unlink()
    save_recording(lab.root / "rec_10.h5", 2)
    _aged(lab.root / "rec_10.h5", 1000)


def _touch(lab: Lab) -> None:
    (lab.root / "rec_10.tif").touch()


def _touch_back(lab: Lab) -> None:
    _aged(lab.root / "rec_10.tif", 1000)


def _image(number: int) -> Act:
    def save(lab: Lab) -> None:
        np.save(lab.folder / "image.npy", frames_of(number)[0].astype(np.float64))

    return save


def _image_by_older(lab: Lab) -> None:
    _image(3)(lab)
    _aged(lab.folder / "image.npy", 1000)


def _touch_image(lab: Lab) -> None:
    (lab.folder / "image.npy").touch()


def _move_image(lab: Lab) -> None:
    (lab.folder / "image.npy").rename(lab.folder / "elsewhere.npy")


def _options(indent: int | None = None, **changes: Any) -> Act:
    def save(lab: Lab) -> None:
        # Toolbox files count frames from 1.
        text = json.dumps({**FLOW, "reference_frames": [1, 2], **changes}, indent=indent)
        (lab.folder / "options.json").write_text(text)

    return save


def _map(value: float) -> list[Any]:
    weight = np.full((2, *SIZE), 0.5)
    weight[0, :5] = value
    return weight.tolist()


def _move_session(lab: Lab) -> None:
    lab.root.rename(lab.folder / "moved")


def _spell_out(lab: Lab) -> None:
    lab.settings["root"] = str(lab.root.absolute())


def _touch_results(lab: Lab) -> None:
    for path in sorted((lab.root / "final_results").glob("*.png")):
        path.touch()


def _revision(lab: Lab) -> None:
    lab.revision += 1


IMAGE = {"flow_options": {"reference_frames": "image.npy"}}
FILE = {"flow_options": "options.json"}
REFUSED = {
    "input_file": "x.tif",
    "output_path": "elsewhere",
    "output_format": "TIFF",
    "naming_convention": "batch",
    "verbose": True,
    "min_frames_per_reference": 5,
    "n_references": 2,
    "use_gpu": True,
    "save_meta_info": False,
    "save_valid_idx": False,
    "input_options": {},
    "numerics": "matlab",
    "precision": "double",
    "flow_backend": "flowreg",
    "backend_params": {},
}
"""Keys of `OFOptions` that a session does not take, or only with their default."""

CHANGES: list[Change] = [
    # Where things are. Paths of frames stand in the files of the mask.
    _key("root", "moved", MASK, act=_move_session),
    _key("root", "./session", NOTHING),
    Change("root", NOTHING, act=_spell_out),
    _key("pattern", "*.tif", NOTHING),
    _key("pattern", "rec_[12].tif", MASK, before={"center": CENTRE}),
    _key(
        "output_root",
        "elsewhere",
        STAGE1,
        # The videos that are there were made from the same frames.
        by_command=_redone(NAMES, NAMES),
    ),
    _key("output_root", "./compensated_outputs", NOTHING),
    _key("final_results", "elsewhere", STAGE3),
    # How it is run.
    _key("resume", False, NOTHING, by_command=STAGE1),
    _key("checkpoint_seconds", 1e-6, NOTHING),
    _key("scheduler", "array", NOTHING),
    _key("n_workers", 2, NOTHING),
    _key("align_chunk_size", 2, NOTHING),
    # The recordings.
    _key("center", CENTRE, NOTHING),
    _key("center", f"{CENTRE}.tif", NOTHING),
    _key("center", "rec_1", STAGE2),
    Change("input_options.channels", STAGE1, {"input_options": {"channels": [1]}}),
    Change("input_options.channels", NOTHING, {"input_options": {"channels": None}}),
    Change(
        "input_options.n_channels", STAGE1, {"input_options": {"n_channels": 2}}, prepare=_pages
    ),
    Change(
        "input_options.axes",
        STAGE1,
        {"input_options": {"axes": "XYT"}},
        before={"input_options": {"axes": "TYX"}},
        prepare=_stacks,
    ),
    Change(
        "input_options.dataset",
        STAGE1,
        {"input_options": {"dataset": ["b1", "b2"]}},
        before={"input_options": {"dataset": ["a1", "a2"]}},
        prepare=_hdf5,
    ),
    # The optical flow.
    _key("flow_backend", "flowreg_cuda", STAGE1, planned_only=True),
    _key("flow_backend", "flowreg_torch", STAGE1, planned_only=True),
    _key("flow_backend", "diso", STAGE1, before=WITHOUT_SOLVER, planned_only=True),
    _key("backend_params", {"device": "cpu"}, NOTHING),
    _param("flowreg_cuda", "device", "cuda:1", NOTHING),
    _param("flowreg_cuda", "max_memory", 0.5, NOTHING),
    _param("flowreg_torch", "device", "cuda:1", NOTHING),
    _param("flowreg_torch", "device", "cpu"),
    _param("flowreg_torch", "dtype", "float64"),
    _param("flowreg_torch", "frames", 2, NOTHING),
    *(_param("diso", key, value) for key, value in OF_DISO.items()),
    _key("numerics", "matlab", STAGE1),
    _key("precision", "double", STAGE1),
    # Between recordings.
    _key("cc_upsample", 2, STAGE2),
    _key("sigma_smooth", 3.0, STAGE2),
    _key("alpha_between", 10, STAGE2),
    _key("iterations_between", 12, STAGE2),
    _key("stage2_constancy_assumption", "gray", STAGE2),
    _key("stage2_constancy_assumption", "gradient", NOTHING),
    _key("align_output_format", "HDF5", VIDEOS),
    # Motion correction.
    _key("flow_options", {"alpha": 3}, STAGE1),
    _flow("alpha", [2, 3]),
    _flow("alpha", 1.5, NOTHING),
    _flow("weight", [3, 1]),
    _flow("weight", [2, 2], NOTHING),
    _flow("weight", _map(2.0)),
    _flow("levels", 2),
    _flow("quality_setting", "balanced"),
    _flow("min_level", 5),
    _flow("eta", 0.7),
    _flow("update_lag", 2),
    _flow("iterations", 6),
    _flow("a_smooth", 0.5),
    _flow("a_data", [0.3, 0.45]),
    _flow("sigma", [[1, 1, 0.1], [2, 2, 0.1]]),
    _flow("constancy_assumption", "gray"),
    _flow("constancy_assumption", "gradient", NOTHING),
    _flow("bin_size", 2),
    _flow("buffer_size", 2),
    _flow("reference_frames", [0, 2]),
    _flow("reference_frames", "1:2", STAGE1),
    _flow("save_w", True),
    _flow("output_typename", "single"),
    _flow("channel_normalization", "separate"),
    _flow("interpolation_method", "linear"),
    _flow("cc_initialization", True),
    _flow("update_reference", True),
    _flow("update_initialization_w", False),
    _flow("preproc_funct", None, NOTHING),
    # Settings that are no key: files that settings name.
    Change("image: content", STAGE1, act=_image(3), before=IMAGE, prepare=_image(1)),
    Change("image: older content", STAGE1, act=_image_by_older, before=IMAGE, prepare=_image(1)),
    Change("image: touched", NOTHING, act=_touch_image, before=IMAGE, prepare=_image(1)),
    Change(
        "image: moved",
        NOTHING,
        {"flow_options": {"reference_frames": "elsewhere.npy"}},
        act=_move_image,
        before=IMAGE,
        prepare=_image(1),
    ),
    Change("options: in a file", NOTHING, FILE, act=_options()),
    Change("options: reformatted", NOTHING, act=_options(3), before=FILE, prepare=_options()),
    Change("options: content", STAGE1, act=_options(alpha=3), before=FILE, prepare=_options()),
    Change(
        "options: weight map",
        STAGE1,
        act=_options(weight=_map(3.0)),
        before=FILE,
        prepare=_options(weight=_map(2.0)),
    ),
    # The recordings themselves.
    Change("recording: added", of_one("rec_20"), act=_add, before={"center": CENTRE}),
    Change(
        "recording: added, another centre",
        Redone(
            frozenset({"rec_20"}),
            frozenset({*NAMES, "rec_20"}),
            True,
            frozenset({*NAMES, "rec_20"}),
        ),
        act=_add,
    ),
    Change("recording: removed", MASK, act=_remove, before={"center": CENTRE}),
    Change("recording: renamed", of_one("rec_11"), act=_rename),
    Change("recording: replaced", of_one("rec_10"), act=_replace),
    Change("recording: replaced by an older file", of_one("rec_10"), act=_replace_by_older),
    Change("recording: replaced by a longer one", of_one("rec_10"), act=_replace_by_longer),
    Change(
        "recording: centre replaced",
        _redone([CENTRE], NAMES, True, NAMES),
        act=_replace_centre,
    ),
    Change("recording: converted", of_one("rec_10"), act=_convert),
    Change("recording: touched", of_one("rec_10"), act=_touch),
    Change("recording: with an older date", of_one("rec_10"), act=_touch_back),
    Change(
        "recording: one frame of a folder", of_one("rec_10"), act=_replace_frame, prepare=_folders
    ),
    # The software.
    Change("numerics revision", STAGE1, act=_revision),
    Change("nothing", NOTHING),
    Change("results touched", NOTHING, act=_touch_results),
]


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Settings changed by others; tables are changed key by key."""
    result = dict(first)
    for key, value in second.items():
        tables = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = {**result[key], **value} if tables else value
    return result


def make_recordings(root: Path) -> None:
    """Write the recordings of a session."""
    root.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        save_recording(root / f"{name}.tif", number)
        # Older than all results, as recordings are.
        _aged(root / f"{name}.tif", 100)


def forget(root: Path) -> None:
    """Remove all results."""
    for name in ("compensated_outputs", "final_results", "elsewhere"):
        shutil.rmtree(root / name, ignore_errors=True)
