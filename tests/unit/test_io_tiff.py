"""TIFF files of every kind that microscopes and ImageJ leave behind."""

import logging

import numpy as np
import pytest
import tifffile

from pyflowreg.errors import InputError
from pyflowreg.io import open_reader, open_writer
from pyflowreg.io.tiff import needs_bigtiff

from .readers import assert_reads


@pytest.fixture
def movie():
    rng = np.random.default_rng(3)
    return rng.integers(0, 4000, (6, 10, 12)).astype(np.uint16)


def write_virtual_imagej(path, frames, height, width):
    """ImageJ's layout beyond 4 GB: one page header, then all frames; the file has holes."""
    description = f"ImageJ=1.54f\nimages={frames}\nslices={frames}\nloop=false\n"
    page = np.zeros((height, width), np.uint16)
    tifffile.imwrite(path, page, byteorder=">", metadata=None, description=description)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.truncate(offset + frames * page.nbytes)
    return offset


@pytest.mark.parametrize(
    "save",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}},
        {"ome": True, "compression": "zlib", "metadata": {"axes": "TYX"}},
    ],
    ids=str,
)
def test_one_channel_layouts(tmp_path, movie, save):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, photometric="minisblack", **save)
    assert_reads(path, movie[..., None])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_types_and_byte_orders(tmp_path, dtype, byteorder):
    movie = np.linspace(-100, 100, 4 * 5 * 6).reshape(4, 5, 6)
    movie = movie.astype(dtype) if dtype != "uint8" else (movie + 100).astype(dtype)
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, byteorder=byteorder, photometric="minisblack")
    assert_reads(path, movie[..., None])


@pytest.mark.parametrize(
    ("save", "axes"),
    [
        ({"imagej": True, "metadata": {"axes": "TCYX"}}, "TCYX"),
        ({"ome": True, "metadata": {"axes": "TCYX"}}, "TCYX"),
        ({"ome": True, "metadata": {"axes": "CTYX"}}, "CTYX"),
        ({"metadata": {"axes": "CTYX"}, "compression": "zlib"}, "CTYX"),
        ({"planarconfig": "contig", "metadata": {"axes": "TYXS"}}, "TYXS"),
        ({"planarconfig": "contig", "compression": "zlib", "metadata": {"axes": "TYXS"}}, "TYXS"),
        ({"planarconfig": "separate", "metadata": {"axes": "TSYX"}}, "TSYX"),
    ],
    ids=str,
)
def test_channels(tmp_path, save, axes):
    expected = np.random.default_rng(0).integers(0, 255, (5, 8, 9, 3)).astype(np.uint8)
    path = tmp_path / "movie.tif"
    order = ["TYXC".index(a) for a in axes.replace("S", "C")]
    tifffile.imwrite(path, expected.transpose(order), photometric="minisblack", **save)
    assert_reads(path, expected)
    assert_reads(path, expected[..., [2, 0]], {"channels": [2, 0]})


def test_rgb_samples_are_channels(tmp_path):
    expected = np.random.default_rng(0).integers(0, 255, (3, 8, 9, 3)).astype(np.uint8)
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, expected, photometric="rgb", metadata=None)
    assert_reads(path, expected)


def test_pages_that_alternate_between_channels(tmp_path, movie):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, metadata=None)
    expected = np.stack([movie[0::2], movie[1::2]], axis=-1)
    assert_reads(path, expected, {"n_channels": 2})
    with pytest.raises(InputError, match="6 pages, which is not a multiple of 4"):
        open_reader(path, {"n_channels": 4})


def test_frames_appended_one_by_one(tmp_path, movie):
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in movie:
            tif.write(frame)
    assert_reads(path, movie[..., None])


@pytest.mark.parametrize("save", [{}, {"bigtiff": True}, {"compression": "zlib"}], ids=str)
def test_thousands_of_pages_appended_one_by_one_open_in_linear_time(tmp_path, monkeypatch, save):
    movie = np.arange(2000 * 4 * 5).reshape(2000, 4, 5).astype(np.uint16)
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path, bigtiff=save.pop("bigtiff", False)) as tif:
        for frame in movie:
            tif.write(frame, **save)
    full_headers = []
    parse = tifffile.TiffPage.__init__

    def counted(page, *args, **kwargs):
        full_headers.append(page)
        parse(page, *args, **kwargs)

    def series(_):
        pytest.fail("a series of every page takes the square of their number")

    monkeypatch.setattr(tifffile.TiffPage, "__init__", counted)
    monkeypatch.setattr(tifffile.TiffFile, "series", property(series))
    assert_reads(path, movie[..., None])
    assert len(full_headers) < 10


@pytest.mark.parametrize("shared", [{}, {"metadata": None}], ids=str)
def test_appended_pages_may_differ_in_compression(tmp_path, movie, shared):
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tif:
        for k, frame in enumerate(movie):
            tif.write(frame, compression="zlib" if k % 2 else None, **shared)
    assert_reads(path, movie[..., None])


@pytest.mark.parametrize("other", ["height", "type"])
def test_an_appended_page_of_another_kind_is_named(tmp_path, movie, other):
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tif:
        for k, frame in enumerate(movie):
            odd = frame[:7] if other == "height" else frame.astype(np.int16)
            tif.write(odd if k == 4 else frame)
    with pytest.raises(InputError, match=r"page 4 is .*page 0 is 10 x 12 uint16"):
        open_reader(path)


def test_stacks_appended_to_one_file_follow_each_other(tmp_path, movie):
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(movie[0])
        tif.write(movie[1:3], photometric="minisblack")
        tif.write(movie[3:], photometric="minisblack")
    assert_reads(path, movie[..., None])


def test_z_axis_without_time_is_time_and_said_in_the_log(tmp_path, movie, caplog):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, movie, imagej=True, metadata={"axes": "ZYX"})
    with caplog.at_level(logging.INFO, "pyflowreg"), open_reader(path) as reader:
        assert reader.shape == (6, 10, 12, 1)
    assert "6 planes along Z are read as time points" in caplog.text


def test_volumes_over_time_are_refused(tmp_path):
    path = tmp_path / "volume.tif"
    tifffile.imwrite(
        path, np.zeros((4, 3, 8, 8), np.uint16), imagej=True, metadata={"axes": "TZYX"}
    )
    with pytest.raises(InputError, match=r"input_options\.axes"):
        open_reader(path)
    with pytest.raises(InputError, match="Z has 3 planes"):
        open_reader(path, {"axes": "TZYX"})


def test_axes_named_by_the_user(tmp_path, movie):
    # Without metadata tifffile cannot know that the first of two leading axes is the channel.
    path = tmp_path / "movie.tif"
    stack = np.stack([movie, movie[::-1]])
    tifffile.imwrite(path, stack, photometric="minisblack")
    with pytest.raises(InputError, match=r"2 x 6 x 10 x 12 .*input_options\.axes"):
        open_reader(path)
    assert_reads(path, np.moveaxis(stack, 0, -1), {"axes": "CTYX"})
    with pytest.raises(InputError, match="Name one letter per axis"):
        open_reader(path, {"axes": "TYX"})


def test_imagej_stack_beyond_4_gb_with_one_page_header(tmp_path):
    path, frames, size = tmp_path / "big.tif", 150, 4096
    offset = write_virtual_imagej(path, frames, size, size)
    assert path.stat().st_size > 2**32
    last = np.arange(size, dtype=">u2")
    with path.open("r+b") as file:
        file.seek(offset + (frames - 1) * size * size * 2)
        file.write(last.tobytes())
    with open_reader(path) as reader:
        assert reader.shape == (frames, size, size, 1)
        np.testing.assert_array_equal(reader.read(frames - 1, frames)[0, 0, :, 0], last)


def test_imagej_stack_that_lost_its_end_names_the_frame(tmp_path):
    path = tmp_path / "short.tif"
    offset = write_virtual_imagej(path, 100, 16, 16)
    with path.open("r+b") as file:
        file.truncate(offset + 40 * 512 + 100)
    with pytest.raises(InputError, match=r"short\.tif is truncated.*100 frames.*frame 40"):
        open_reader(path)


def test_nothing_of_tifffile_reaches_the_log(tmp_path, movie, caplog):
    path = tmp_path / "short.tif"
    write_virtual_imagej(path, 50, 16, 16)
    with path.open("r+b") as file:
        file.truncate(3000)
    with caplog.at_level(logging.INFO), pytest.raises(InputError):
        open_reader(path)
    assert not caplog.records


def test_part_of_a_multi_file_ome_asks_for_the_folder(tmp_path, movie):
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{k}" for k in range(2)]
    names = ["part_0.ome.tif", "part_1.ome.tif"]
    data = "".join(
        f'<TiffData FirstT="{t}" FirstZ="0" FirstC="0" IFD="{t % 3}" PlaneCount="1">'
        f'<UUID FileName="{names[t // 3]}">{uuids[t // 3]}</UUID></TiffData>'
        for t in range(6)
    )
    for k, name in enumerate(names):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[k]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" '
            'Type="uint16" SizeX="12" SizeY="10" SizeC="1" SizeZ="1" SizeT="6">'
            f"{data}</Pixels></Image></OME>"
        )
        pages = movie[3 * k : 3 * k + 3]
        tifffile.imwrite(
            tmp_path / name, pages, metadata=None, description=xml, photometric="minisblack"
        )
    with pytest.raises(InputError, match=r"part of an OME-TIFF in several files.*folder"):
        open_reader(tmp_path / names[0])
    assert_reads(tmp_path, movie[..., None])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_written_pages_hold_all_channels_of_a_frame(tmp_path, channels):
    movie = np.random.default_rng(1).random((4, 6, 7, channels)).astype(np.float32)
    path = tmp_path / "out.tif"
    with open_writer(path, shape=movie.shape, dtype=movie.dtype, format="tiff") as writer:
        writer.write(movie)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 4
        assert tif.pages[0].samplesperpixel == channels
        assert tif.series[0].axes == ("TYX" if channels == 1 else "TCYX")
        np.testing.assert_array_equal(tif.asarray().reshape(4, channels, 6, 7)[:, 0], movie[..., 0])
    assert_reads(path, movie)


def test_bigtiff_from_the_size_of_the_movie():
    assert not needs_bigtiff((1000, 512, 512, 1), np.dtype("uint16"))
    assert needs_bigtiff((8192, 512, 512, 1), np.dtype("uint16"))
    assert needs_bigtiff((4096, 512, 512, 2), np.dtype("uint16"))
    assert needs_bigtiff((20_000_000, 8, 8, 1), np.dtype("uint8"))  # the page tags pass 4 GB
