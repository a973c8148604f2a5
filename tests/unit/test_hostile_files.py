"""Files made to do harm end in one message, at once and within little memory, or are read."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pyflowreg.errors import ConfigError, InputError, PyflowregError
from pyflowreg.io import open_reader
from pyflowreg.session import SessionConfig
from pyflowreg.session.preflight import preflight
from pyflowreg.workflow.plan import Plan

from ..fuzz.child import Answer, Child
from . import hostile

MEGABYTES = 80.0
"""Less than the bombs would take: 128 MB each."""


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child(60) as process:
        yield process


def check(answer: Answer, expected: str | None = None) -> None:
    assert answer.is_fine, answer.outcome
    assert answer.megabytes < MEGABYTES
    if expected is not None:
        assert answer.outcome.startswith("refused: ")
        assert expected in answer.outcome


READABLE = {"5,000 pages", "ImageJ frames", "deep ScanImage", "OME without end"}


@pytest.mark.parametrize("name", hostile.TIFFS)
def test_tiff(child: Child, name: str) -> None:
    answer = child.read("tiff", hostile.TIFFS[name](), ".tif")
    check(answer, None if name in READABLE else "case.tif")


@pytest.mark.parametrize("name", hostile.HDF5S)
def test_hdf5(child: Child, name: str) -> None:
    content = hostile.HDF5S[name]()
    check(child.read("hdf5", content, ".h5"), "case.h5")
    check(child.read("mat73", content, ".mat"), "case.mat")
    check(child.read("masks", content, ".hdf"), "case.hdf")


@pytest.mark.parametrize("name", hostile.MATS)
def test_mat(child: Child, name: str) -> None:
    check(child.read("mat5", hostile.MATS[name](), ".mat"), "case.mat")


def test_the_valid_counterparts_are_read(child: Child) -> None:
    """What is refused above is refused for the reason it was made for."""
    check(child.read("tiff", hostile.tiff_of_pages(3), ".tif"))
    ours = hostile.mat5(data=struct.pack("<II", 2, 60) + bytes(64))
    assert child.read("mat5", ours, ".mat").outcome == "read"
    assert child.read("tiff", hostile.ome(), ".tif").outcome == "read"


def save_npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(shape: object, descr: str = "<f8", data: bytes = b"", version: int = 1) -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


NPYS: dict[str, bytes] = {
    "2^40 x 2^40": npy((2**40, 2**40)),
    "negative": npy((-1, 5, 1), data=bytes(400)),
    "100 GB": npy((10**5, 10**5)),
    "too short": npy((5, 6), data=bytes(8)),
    "true": npy((True, 5), data=bytes(40)),
    "pickle": npy((1,), "|O", b"cos\nsystem\n(S'touch pwned'\ntR."),
    "only pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
    "call": npy("__import__('os').system('touch pwned')"),
    "subarray": npy((2,), "(99999,99999)f8"),
    "no bytes": npy((10**9,), "V0"),
    "long header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr': '<f8', ",
    "archive": save_npz(x=npy((5, 6), data=bytes(240))),
    "nan": npy((5, 6), data=struct.pack("<30d", *[float("nan")] * 30)),
}  # fmt: skip


@pytest.mark.parametrize("name", NPYS)
def test_npy(child: Child, name: str) -> None:
    for target in ("average", "reference_npy"):
        check(child.read(target, NPYS[name], ".npy"), "case.npy")
    assert not (child.folder / "pwned").exists()


@pytest.mark.parametrize("name", NPYS)
def test_npz(child: Child, name: str) -> None:
    content = save_npz(u=NPYS[name], v=NPYS[name], fingerprint=npy((2 * 10**8,), "|S1"))
    check(child.read("displacement", content, ".npz"))
    check(child.read("record", content, ".npz"))
    assert not (child.folder / "pwned").exists()


def test_fingerprint_that_stands_for_much(child: Child) -> None:
    raw = npy((hostile.ZEROS,), "|S1", bytes(hostile.ZEROS))
    check(child.read("displacement", save_npz(fingerprint=raw), ".npz"))


def test_reference_images(child: Child) -> None:
    png = b"\x89PNG\r\n\x1a\n"
    size = struct.pack(">II5B", 2**31 - 1, 2**31 - 1, 16, 0, 0, 0, 0)
    head = struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    check(child.read("reference_image", png + head, ".png"), "reference image")
    # Pillow would hand this to another program, whatever the file is called.
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n%%EndComments\nshowpage\n"
    check(child.read("reference_image", script, ".png"), "cannot identify")
    for name, make in hostile.TIFFS.items():
        if "pages" not in name:
            check(child.read("reference_tiff", make(), ".tif"), "reference image")


def test_checksum_of_a_chunk_that_is_too_short(child: Child) -> None:
    """HDF5 crashes on it."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        data = np.zeros((4, 5, 6), np.uint16)
        mov = file.create_dataset("mov", data=data, chunks=(1, 5, 6), fletcher32=True)
        place = mov.id.get_chunk_info(2).byte_offset
    content = bytearray(memory.getvalue())
    # The record of the chunk: its size, the filters left out, where in the movie and in the file.
    record = struct.pack("<IIQQQQQ", 64, 0, 2, 0, 0, 0, place)
    at = content.index(record)
    for size in (0, 1, 3, 4, 63):
        content[at : at + 4] = struct.pack("<I", size)
        check(child.read("hdf5", bytes(content), ".h5"), "a chunk of /mov at (2, 0, 0)")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def own_link(path: Path) -> None:
    path.symlink_to(path)


def listening(path: Path) -> None:
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to(path.with_name("pipe"))


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


KINDS = (pipe, device, own_link, listening, linked_pipe, nowhere)


SUFFIXES = {
    "tiff": ".h5", "masks": ".h5", "average": ".npy", "displacement": ".npz", "record": ".npz",
    "reference_npy": ".npy", "reference_image": ".png", "flow_options": ".json",
    "status": ".json", "header": ".json", "yaml": ".yaml", "toml": ".toml",
}  # fmt: skip
DOORS_SHOW = ("masks", "record", "average", "header")
"""What the system says of links that lead nowhere is told by those who look for these files."""


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_no_file(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    for target, suffix in SUFFIXES.items():
        folder = tmp_path / target
        folder.mkdir()
        monkeypatch.chdir(folder)
        make(folder / f"case{suffix}")
        answer = child.read_path(target, folder / f"case{suffix}")
        if "Error: [Errno" not in answer.outcome or target not in DOORS_SHOW:
            check(answer)


def messages(read: Callable[[], object]) -> str:
    with pytest.raises(PyflowregError) as caught:
        read()
    text = str(caught.value)
    assert len(text) < 10_000
    return text


def movie(path: Path) -> None:
    frames = np.ones((3, *hostile.FRAME), np.uint8)
    tifffile.imwrite(path, frames, photometric="minisblack")


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_session_with_what_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif"):
        movie(tmp_path / name)
    make(tmp_path / "c.tif")
    config = SessionConfig(root=tmp_path)
    if make in (pipe, listening):  # not taken for a recording at all
        assert [recording.name for recording in preflight(config).recordings] == ["a", "b"]
    else:
        assert "c.tif" in messages(lambda: preflight(config))


def test_folder_with_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"{number}.tif", np.ones(hostile.FRAME, np.uint8))
    os.mkfifo(folder / "3.tif")
    (folder / "4.tif").symlink_to(folder)
    with open_reader(folder) as reader:
        assert reader.shape == (3, *hostile.FRAME, 1)


def test_folders_in_circles(tmp_path: Path) -> None:
    movie(tmp_path / "a.tif")
    (tmp_path / "round").symlink_to(tmp_path)
    session = preflight(SessionConfig(root=tmp_path, pattern="**/*.tif"))
    assert len(session.recordings) == 1


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
SETTINGS: dict[str, tuple[str, str]] = {
    "bomb": (BOMB + "root: .\n", "values"),
    "bomb as weights": (BOMB + "root: .\nflow_options: {weight: *a11}\n", "values"),
    "itself": ("root: .\nflow_options: &a {alpha: *a}\n", "itself|themselves"),
    "call": ("root: !!python/object/apply:os.system ['touch pwned']\n", "python/object"),
    "function": ("root: .\nflow_options: {preproc_funct: !!python/name:os.system }\n", "python"),
    "digits": (f"root: .\nn_workers: 0x{'f' * 20_000}\n", "too large"),
    "more digits": (f"root: .\ncc_upsample: 1{'0' * 3000}\n", "too large"),
    "2,000 keys": ("root: .\n" + "".join(f"k{n}: 1\n" for n in range(2000)), "2001 keys"),
    "a long key": (f"root: .\n? {'k' * 100_000}\n: 1\n", "unknown key"),
    "a long path": (f"root: {'a/' * 100_000}\n", "longer than a path"),
    "deep": ("root: " + "[" * 300 + "]" * 300, "nested|recursion"),
    "infinite": ("root: .\nsigma_smooth: .inf\n", "inf is not"),
    "wide": ("root: .\nflow_options: {sigma: [1.0e+9, 1, 1]}\n", "too large"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    text, expected = SETTINGS[name]
    (tmp_path / "settings.yaml").write_text(text)
    found = messages(lambda: SessionConfig.from_file("settings.yaml"))
    assert any(part in found for part in expected.split("|"))
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"call"}))
def test_settings_that_snakemake_has_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import yaml

    monkeypatch.chdir(tmp_path)
    content = yaml.load(SETTINGS[name][0], Loader=yaml.FullLoader)
    if name != "function":
        found = messages(lambda: SessionConfig.from_mapping(content))
        assert any(part in found for part in SETTINGS[name][1].split("|"))
    else:
        assert "builtin_function" in messages(lambda: Plan.from_mapping(content))


TOMLS = {
    "dots": f"{'a.' * 100_000}a = 1\n",
    "quoted dots": '"\\"".' * 100_000 + "a = 1\n",
    "deep": "a = " + "[" * 100_000,
    "digits": f"root = '.'\nn_workers = 0x{'f' * 20_000}\n",
}


@pytest.mark.parametrize("name", TOMLS)
def test_toml(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.toml").write_text(TOMLS[name])
    messages(lambda: SessionConfig.from_file(tmp_path / "a.toml"))


OPTIONS: dict[str, tuple[str, str]] = {
    "a million keys": (json.dumps(dict.fromkeys(map(str, range(10**6)), 1)), "1000000 keys"),
    "many keys twice": ("{" + ",".join(['"a":1'] * 200_000 + ['"b":1', '"b":1']) + "}", "twice"),
    "deep": ('{"a":' * 100_000 + "1" + "}" * 100_000, "recursion"),
    "deep list": ('{"weight":' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
    "less deep": ('{"weight":' + "[" * 200 + "]" * 200 + "}", "nested deeper"),
    "not a number": ('{"alpha": NaN}', "NaN is not"),
    "infinite": ('{"alpha": -Infinity}', "Infinity is not"),
    "overflow": ('{"alpha": 1e999}', "not finite"),
    "digits": ('{"iterations": ' + "9" * 4000 + "}", "too large"),
    "more digits": ('{"iterations": ' + "9" * 5000 + "}", "digits"),
    "digits as weight": ('{"weight": [' + "9" * 4000 + "]}", "not made of numbers"),
    "twice": ('{"alpha": 1, "alpha": 2}', "alpha is given twice"),
    "elsewhere": ('{"output_file_name": "../../x"}', "output_file_name: unknown key"),
    "frames": ('{"reference_frames": "1:1:99999999999999999999"}', "no recording has so many"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_flow_options(tmp_path: Path, name: str) -> None:
    text, expected = OPTIONS[name]
    path = tmp_path / "options.json"
    path.write_text(text)
    assert expected in messages(lambda: SessionConfig(root=tmp_path, flow_options=str(path)))


def test_nothing_is_written_where_the_options_say(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_text('{"output_path": "/etc", "input_file": "/etc/passwd"}')
    options = SessionConfig(root=tmp_path, flow_options=str(path)).options_for()
    assert options.output_path == Path("results")
    assert options.input_file is None


def test_messages_hold_no_control_characters() -> None:
    text = str(InputError("a\x1b[2J\udc80\u202e\nb"))
    assert text == "a\\x1b[2J\\udc80\\u202e\nb"
    assert len(str(ConfigError(["x" * 10**6] * 10**4))) < 100_000
