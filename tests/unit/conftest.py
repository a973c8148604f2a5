"""Corrections of small recordings, shared by the tests of the library."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from pyflowreg.core.backend_registry import BACKENDS
from pyflowreg.io import open_reader
from pyflowreg.io.fields import iter_fields, iter_masks
from pyflowreg.motion_correction import OFOptions, compensate_recording
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

from .scenes import save_session, save_tiff
from .stages import make_session


@pytest.fixture
def without_extras(monkeypatch):
    """Let no optional dependency of a backend be installed, whatever is."""
    optional = {name for entry in BACKENDS.values() for name in entry.imports}
    find = importlib.util.find_spec

    def found(name, *args):
        return None if name in optional else find(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", found)


@dataclass
class Corrected:
    folder: Path
    reference: np.ndarray

    @property
    def frames(self):
        with h5py.File(self.folder / "compensated.hdf5") as file:
            return np.stack([file[name][()] for name in sorted(file)], axis=-1)

    @property
    def w(self):
        return np.concatenate(list(iter_fields(self.folder / "w.h5")))

    @property
    def valid(self):
        return np.concatenate(list(iter_masks(self.folder / "idx.hdf")))

    @property
    def statistics(self):
        with np.load(self.folder / "statistics.npz") as data:
            return {key: data[key] for key in data}


@pytest.fixture
def correct(tmp_path):
    """Correct a recording given as frames or as a path; all files are written."""
    runs = iter(range(1000))

    def run(source, *, reference=None, threads=None, **options):
        path = source
        if not isinstance(source, Path):
            path = save_tiff(tmp_path / f"in{next(runs)}" / "rec.tif", source)
        options = {
            "quality_setting": "balanced",
            "output_format": "HDF5",
            "save_w": True,
            "save_valid_idx": True,
            "reference_frames": [0, 1, 2],
            **options,
        }
        folder = tmp_path / f"out{next(runs)}"
        configured = OFOptions(input_file=path, output_path=folder, **options)
        return Corrected(folder, compensate_recording(configured, reference, threads=threads))

    return run


@pytest.fixture
def read_recording():
    def read(path, options=None):
        with open_reader(path, options) as reader:
            return reader.read(0, reader.shape[0])

    return read


OFFSETS = {"rec_1": (0.0, 0.0), "rec_2": (2.0, -1.0), "rec_10": (-1.5, 2.0)}
"""Recordings of the finished session, in natural order: where each one looks, px."""


@pytest.fixture(scope="session")
def _finished_session(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished") / "data"
    save_session(root, OFFSETS, OFFSETS.values(), channels=2)
    config = SessionConfig(root=root, flow_options={"quality_setting": "fast"}, n_workers=2)
    run_stage1(config)
    run_stage2(config)
    run_stage3(config)
    return root


@pytest.fixture
def finished(_finished_session, tmp_path):
    """Settings of a copy of a session of three recordings with all stages done."""
    root = tmp_path / "data"
    shutil.copytree(_finished_session, root)
    return SessionConfig(root=root, flow_options={"quality_setting": "fast"}, n_workers=2)


@pytest.fixture
def recordings(tmp_path):
    """Settings of a session of three recordings with nothing done."""
    root = tmp_path / "data"
    save_session(root, OFFSETS, OFFSETS.values(), frames=3, size=(24, 32))
    return SessionConfig(root=root, flow_options={"quality_setting": "fast"}, n_workers=1)


@pytest.fixture(scope="session")
def two_recordings(tmp_path_factory):
    """Folder of a session of two recordings (`stages`) with all stages done."""
    root = tmp_path_factory.mktemp("two") / "data"
    make_session(root)
    return root
