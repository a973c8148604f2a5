"""Stage 1 and stage 3 with the backend write the same files, byte by byte, as on the CPU."""

import numpy as np
import pytest
from closeness import EXACT
from scenes import movie, save_session, save_tiff, wobble

from pyflowreg.errors import InputError
from pyflowreg.motion_correction import OFOptions, compensate_recording
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

pytestmark = pytest.mark.skipif(not EXACT, reason="bits need not be equal here")

QUICK = {
    "quality_setting": "balanced",
    "iterations": 5,
    "reference_frames": [0, 1, 2],
    "output_format": "HDF5",
    "save_w": True,
    "save_valid_idx": True,
}


def corrected(folder, recording, backend, **options):
    options = OFOptions(
        input_file=recording,
        output_path=folder / backend,
        flow_backend=backend,
        **{**QUICK, **options},
    )
    compensate_recording(options, threads=options_threads(backend))
    return {path.name: path.read_bytes() for path in sorted((folder / backend).iterdir())}


def options_threads(backend):
    return 2 if backend == "flowreg" else 1


@pytest.mark.parametrize(
    ("channels", "dtype", "options"),
    [
        (1, "uint16", {}),
        (2, "uint16", {"sigma": [[1, 1, 0.8], [1.5, 1, 0.1]], "buffer_size": 5}),
        (1, "float32", {"channel_normalization": "separate", "output_typename": "double"}),
        (1, "uint8", {"bin_size": 2, "output_typename": "single"}),
        (1, "uint16", {"numerics": "matlab"}),
        (1, "uint16", {"cc_initialization": True, "buffer_size": 6}),
        (1, "uint16", {"update_reference": True, "buffer_size": 5}),
    ],
    ids=lambda value: str(value),
)
def test_same_files(machine, tmp_path, channels, dtype, options):
    found = machine()
    frames = movie(wobble(13), (32, 40), channels, dtype, noise=0.03)
    recording = save_tiff(tmp_path / "rec.tif", frames)
    expected = corrected(tmp_path, recording, "flowreg", **options)
    assert not found.launched
    files = corrected(tmp_path, recording, "flowreg_cuda", **options)
    assert files.keys() == expected.keys()
    assert [name for name in files if files[name] != expected[name]] == []
    assert "warp_frames_f32" in found.launched
    plain = not {"numerics", "cc_initialization", "update_reference"} & options.keys()
    assert ("scale_and_smooth_down_f32" in found.launched) == plain


def test_frame_without_finite_displacement_is_named(machine, tmp_path):
    machine()
    frames = 1e-28 * movie(wobble(6), (32, 32), 1, "float32")
    frames[4, 3, 5] = 1e14
    recording = save_tiff(tmp_path / "rec.tif", frames)
    messages = []
    for backend in ("flowreg", "flowreg_cuda"):
        with pytest.raises(InputError) as error:
            corrected(tmp_path, recording, backend, reference_frames=0, quality_setting="quality")
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "frame 4" in messages[0]


def test_whole_session(machine, tmp_path):
    """All three stages, with the backend and without."""
    machine()
    results = []
    for backend in ("flowreg", "flowreg_cuda"):
        root = tmp_path / backend
        save_session(root, ("a", "b"), ((0, 0), (2, -1)), size=(32, 40), noise=0.02)
        flow = {"quality_setting": "fast", "iterations": 5, "reference_frames": [0, 1]}
        config = SessionConfig(root=root, flow_backend=backend, flow_options=flow, n_workers=1)
        run_stage1(config)
        middle, _, fields = run_stage2(config)
        run_stage3(config, middle, fields)
        results.append(
            {
                path.relative_to(root): path.read_bytes()
                for folder in ("compensated_outputs", "final_results")
                for path in sorted((root / folder).rglob("*"))
                if path.suffix in (".hdf5", ".hdf", ".npy", ".tif", ".png")
            }
        )
    assert results[0].keys() == results[1].keys()
    assert [name for name in results[0] if results[0][name] != results[1][name]] == []
    assert len(results[0]) >= 10


def test_goes_on_after_an_interruption(machine, tmp_path, monkeypatch):
    machine()
    recording = save_tiff(tmp_path / "in" / "rec.tif", movie(wobble(12), (24, 32), noise=0.05))
    flow = {"quality_setting": "fast", "iterations": 2, "reference_frames": [0, 1]}
    flow |= {"buffer_size": 5, "save_w": True}

    def session(output):
        return SessionConfig(
            root=recording.parent,
            output_root=output,
            flow_backend="flowreg_cuda",
            flow_options=flow,
            n_workers=1,
            checkpoint_seconds=1e-9,
        )

    from pyflowreg.motion_correction.recording_run import _Taker

    run_stage1(session(tmp_path / "whole"))
    taken = _Taker._take
    seen = []

    def stop(self, chunk):
        seen.append(chunk.start)
        if len(seen) == 2:
            raise KeyboardInterrupt
        taken(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(_Taker, "_take", stop)
        with pytest.raises(KeyboardInterrupt):
            run_stage1(session(tmp_path / "parts"))
    assert seen[1] > 0
    run_stage1(session(tmp_path / "parts"))
    for name in ("compensated.hdf5", "w.h5", "idx.hdf", "temporal_average.npy"):
        parts, whole = (tmp_path / kind / "rec" / name for kind in ("parts", "whole"))
        assert parts.read_bytes() == whole.read_bytes()
    assert np.load(parts).shape == (24, 32, 1)
