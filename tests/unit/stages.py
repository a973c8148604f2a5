"""The stages of a session of two small recordings, each to be done, undone and compared."""

from __future__ import annotations

import shutil

from pyflowreg.session import SessionConfig
from pyflowreg.session.aligned_video import align_recording
from pyflowreg.session.discovery import discover_recordings
from pyflowreg.session.outputs import recording_paths, session_paths
from pyflowreg.session.stage1_compensate import compensate_session_recording, run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2, save_fields
from pyflowreg.session.stage3_valid_mask import compute_final_mask, run_stage3

from .checkpoints import FLOW
from .scenes import save_session

OFFSETS = {"rec_1": (0.0, 0.0), "rec_2": (1.5, -1.0)}
FOLDERS = ("compensated_outputs", "final_results")


def of_one(function):
    def work(config):
        function(config, discover_recordings(config)[0])

    return work


STAGES = {
    "stage 1": of_one(compensate_session_recording),
    "stage 2": save_fields,
    "mask": compute_final_mask,
    "video": of_one(align_recording),
    "video in HDF5": of_one(align_recording),
}


def content(config):
    """Every file in the folders of results, also those that should not be there."""
    return {
        str(path.relative_to(config.root)): path.read_bytes()
        for folder in FOLDERS
        for path in (config.root / folder).rglob("*")
        if path.is_file()
    }


def settings(root, **changes):
    return SessionConfig(
        root=root,
        n_workers=1,
        flow_options=FLOW,
        iterations_between=5,
        align_chunk_size=10,
        checkpoint_seconds=1e-9,
        **changes,
    )


def forget(config, stage):
    """Remove what a stage makes, and what comes after it."""
    paths = session_paths(config)
    files = [recording_paths(config, name) for name in OFFSETS]
    if stage == "stage 1":
        for folder in FOLDERS:
            shutil.rmtree(config.root / folder, ignore_errors=True)
    elif stage == "stage 2":
        shutil.rmtree(paths.final_results, ignore_errors=True)
        made = [entry.w_to_reference for entry in files] + list(paths.output_root.glob("stage*"))
        remove([*made, *paths.output_root.glob("*/stage[23]*")])
    elif stage == "mask":
        remove(
            path for path in paths.final_results.glob("*") if not path.name.startswith("aligned_")
        )
    else:
        remove([*paths.final_results.glob("aligned_*"), *paths.output_root.glob("*/stage3*")])


def remove(paths):
    for path in paths:
        path.unlink()


class Case:
    """One stage of a session in which what comes before it is done."""

    def __init__(self, root, stage):
        self.stage = stage
        form = "HDF5" if "HDF5" in stage else "TIFF"
        self.config = settings(root, align_output_format=form)
        forget(self.config, stage)
        self.go_on()
        self.whole = content(self.config)
        assert not [name for name in self.whole if "/." in name]
        forget(self.config, stage)

    def go_on(self):
        STAGES[self.stage](self.config)

    def check(self):
        """The same command goes on, and all is as it would have been."""
        self.go_on()
        made = content(self.config)
        assert sorted(made) == sorted(self.whole)
        assert [name for name in made if made[name] != self.whole[name]] == []
        forget(self.config, self.stage)


def make_session(root):
    """Make the recordings, and do all stages."""
    save_session(root, OFFSETS, OFFSETS.values(), frames=6, size=(24, 32), channels=2)
    config = settings(root)
    run_stage1(config)
    run_stage2(config)
    run_stage3(config)
