"""TIFF files of ScanImage."""

import numpy as np
import pytest
import tifffile

from pyflowreg.errors import InputError
from pyflowreg.io import open_reader

from .readers import assert_reads


@pytest.fixture
def movie():
    rng = np.random.default_rng(3)
    return rng.integers(0, 4000, (6, 10, 12)).astype(np.uint16)


SI_2020 = (
    "SI.VERSION_MAJOR = 2020\nSI.hChannels.channelSave = {save}\n"
    "SI.hStackManager.enable = {stack}\nSI.hFastZ.enable = false\n"
    "SI.hStackManager.numSlices = {slices}\nSI.hStackManager.framesPerSlice = Inf\n"
)


def write_scanimage(path, movie, *, save="[1;2]", stack="false", slices=1):
    software = SI_2020.format(save=save, stack=stack, slices=slices)
    tifffile.imwrite(
        path, movie, software=software, metadata=None, description="frameNumbers = 1\n"
    )


def test_scanimage_channels_come_from_its_metadata(tmp_path, movie):
    path = tmp_path / "si.tif"
    write_scanimage(path, movie)
    assert_reads(path, np.stack([movie[0::2], movie[1::2]], axis=-1))
    write_scanimage(path, movie, save="2")
    assert_reads(path, movie[..., None])
    write_scanimage(path, movie, save="[1;3]", slices=7)  # set, but the stack was off
    assert_reads(path, np.stack([movie[0::2], movie[1::2]], axis=-1))


def test_scanimage_volumes_and_incomplete_frames_are_refused(tmp_path, movie):
    path = tmp_path / "si.tif"
    write_scanimage(path, movie, stack="true", slices=3)
    with pytest.raises(InputError, match="3 planes"):
        open_reader(path)
    assert_reads(path, movie[..., None], {"axes": "TYX"})
    write_scanimage(path, movie[:5])
    with pytest.raises(InputError, match="5 pages, which is not a multiple of 2"):
        open_reader(path)


@pytest.mark.parametrize(
    "description",
    [
        "state.configName='x'\nstate.acq.savingChannel1=1\nstate.acq.savingChannel2=1\n"
        "state.acq.savingChannel3=0\nstate.acq.numberOfZSlices=1\n",
        "Frame Number = 1\nscanimage.SI4.channelsSave = [1;2]\nscanimage.SI4.stackNumSlices = 1\n",
        "Frame Number = 1\nscanimage.SI5.channelsSave = [1 4]\nscanimage.SI5.stackNumSlices = 1\n",
    ],
    ids=["3.8", "4", "5"],
)
def test_older_scanimage_versions(tmp_path, movie, description):
    path = tmp_path / "si.tif"
    tifffile.imwrite(path, movie, description=description, metadata=None)
    assert_reads(path, np.stack([movie[0::2], movie[1::2]], axis=-1))
