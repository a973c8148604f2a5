"""Disk space: the estimate is never too small, hardly too large, and checked before a start."""

import errno
import resource

import h5py
import numpy as np
import pytest

from pyflowreg.errors import OutputError
from pyflowreg.io import FORMATS, open_writer, space
from pyflowreg.io.fields import FieldWriter, MaskWriter
from pyflowreg.motion_correction import checkpoint
from pyflowreg.motion_correction.disk import binned_frames, stage1_bytes
from pyflowreg.motion_correction.frames import bins
from pyflowreg.session.preflight import inspect_recording, preflight
from pyflowreg.session.room import room_remark
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.workflow import resources

from . import checkpoints as helper
from .scenes import movie, save_tiff, wobble

MB = 1024**2


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(3, 40, 48, 1), (150, 20, 24, 3)])
def test_size_of_a_recording(tmp_path, format_, dtype, shape):
    frames = np.zeros(shape, dtype)
    with open_writer(tmp_path / "a.out", shape=shape, dtype=dtype, format=format_) as writer:
        writer.write(frames)
    actual = size_of(tmp_path)
    estimate = space.video_bytes(shape, frames.itemsize, format_)
    assert actual <= estimate <= actual + 8192 * shape[3] + 40 * shape[0] * shape[3]


def test_size_of_fields(tmp_path):
    shape = (150, 20, 24)
    with FieldWriter(tmp_path / "w.h5", shape) as writer:
        writer.write(np.zeros((*shape, 2), np.float32))
    actual = size_of(tmp_path)
    assert actual <= space.field_bytes(shape) <= 1.1 * actual


@pytest.mark.parametrize("kind", ["valid", "border", "ragged"])
def test_masks_stay_below_their_bound(tmp_path, kind):
    shape = (40, 128, 128)
    masks = np.ones(shape, bool)
    if kind != "valid":
        for number, mask in enumerate(masks):
            mask[: number % 9] = mask[:, -(number % 7) - 1 :] = False
    if kind == "ragged":
        rows = np.random.default_rng(0).integers(0, 12, shape[:2])
        masks &= np.arange(shape[2]) >= rows[..., None]
    with MaskWriter(tmp_path / "idx.hdf", shape) as writer:
        writer.write(masks)
    assert size_of(tmp_path) <= space.mask_bytes(shape)
    # A bound that no mask could pass would be as large as a recording of one byte per pixel.
    assert space.mask_bytes(shape) < 0.15 * masks.nbytes


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("save_w", [False, True])
def test_a_correction_takes_no_more_than_estimated(tmp_path, monkeypatch, dtype, save_w):
    """Measured whenever it is saved, which is when most is there."""
    helper.small_chunks(monkeypatch, 20)
    config = helper.session(tmp_path / "data", save_w=save_w, reference_frames=0, buffer_size=400)
    path = save_tiff(config.root / "rec.tif", movie(wobble(120), (24, 32), 2, dtype))
    folder = tmp_path / "data" / "compensated_outputs"
    used = []
    save = checkpoint.Checkpoint.save

    def measured(self, state):
        old = space.held_bytes([folder / "rec", folder / "rec" / ".checkpoint"])
        save(self, state)
        # The old record was there until the new one replaced it.
        used.append(old + (self.folder / "record.npz").stat().st_size)

    monkeypatch.setattr(checkpoint.Checkpoint, "save", measured)
    run_stage1(config)
    used.append(size_of(folder))
    estimate = stage1_bytes((120, 24, 32, 2), np.dtype(dtype).itemsize, save_w=save_w)
    assert max(used) <= estimate
    # Such tiny frames are hardly larger than what belongs to the recording as a whole.
    assert estimate - 2 * space.MASK_SHARE * 120 * 24 * 32 < 1.6 * max(used)
    info = inspect_recording(path)
    assert resources.stage1_disk_mb(info, save_w) == -(-estimate // MB)


def test_estimate_of_a_long_recording():
    """20,000 frames of 512 x 512 pixels: what counts is the frames."""
    frames = 20_000 * 512 * 512
    assert stage1_bytes((20_000, 512, 512, 1), 2) == pytest.approx(2.1 * frames, rel=0.01)
    with_fields = stage1_bytes((20_000, 512, 512, 1), 2, save_w=True)
    assert with_fields == pytest.approx(10.1 * frames, rel=0.01)


@pytest.mark.parametrize(("frames", "size", "buffer"), [(10, 3, 2), (11, 2, 3), (400, 7, 10)])
def test_binned_frames(frames, size, buffer):
    exact = max(len(bins(frames, size, buffer, short)) for short in (False, True))
    assert exact <= binned_frames(frames, size, buffer) <= exact + frames // (size * buffer) + 1


def test_messages(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "free_bytes", lambda folder: 1.5e9)
    with pytest.raises(
        OutputError, match=r"^It needs 2\.5 GB of disk space in /x, 1\.5 GB are free"
    ):
        space.check_space(tmp_path.__class__("/x"), 2_500_000_000, "It")
    with pytest.raises(OutputError) as caught:
        space.check_space(tmp_path, 253_000_000_000, "It", held=3_000_000_000)
    assert "It needs 250 GB" in str(caught.value)
    assert "Free space on that disk, or choose another output folder" in str(caught.value)
    assert caught.value.errno == errno.ENOSPC
    space.check_space(tmp_path, 2_500_000_000, "It", held=2_000_000_000)


def test_a_limit_of_the_size_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (4_000_000_000, -1))
    message = r"It makes a file of 5 GB in .* not become larger than 4 GB here: .*ulimit -f"
    with pytest.raises(OutputError, match=message):
        space.check_space(tmp_path, 1, "It", largest=5_000_000_000)
    space.check_space(tmp_path, 1, "It", largest=3_000_000_000)


def test_the_disk_of_a_folder_that_does_not_exist(tmp_path):
    there = space.free_bytes(tmp_path)
    assert space.free_bytes(tmp_path / "a" / "b") == pytest.approx(there, rel=0.01)
    assert space.free_bytes(tmp_path / ("n" * 300) / "b") == pytest.approx(there, rel=0.01)


def test_files_with_two_names_count_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100_000))
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "link").symlink_to("nowhere")
    assert 100_000 <= space.held_bytes([tmp_path, tmp_path / "a", tmp_path / "c"]) < 120_000


def test_room_for_a_whole_session(finished, monkeypatch, caplog):
    """What is there needs no more room; what is missing is started nevertheless."""
    monkeypatch.setattr("pyflowreg.session.room.free_bytes", lambda folder: 100_000)
    assert room_remark(finished, preflight(finished)) is None
    for name in ("rec_1", "rec_10"):
        for file in ("compensated.hdf5", "status.json"):
            (finished.root / "compensated_outputs" / name / file).unlink()
        (finished.root / "final_results" / f"aligned_{name}.tif").unlink()
    remark = room_remark(finished, preflight(finished))
    assert "still to be made take 0.00" in remark
    assert "0.0001 GB are free" in remark
    run_stage1(finished)
    assert remark in caplog.text
    with h5py.File(finished.root / "compensated_outputs" / "rec_1" / "compensated.hdf5") as file:
        assert "ch1" in file
