"""Links, names and settings of any kind: a session changes its own results and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyflowreg.errors import PyflowregError
from pyflowreg.motion_correction import correction
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FLOW = {"quality_setting": "fast", "iterations": 1, "levels": 1, "reference_frames": 0}
FRAMES = 4
RECORDINGS = ("rec_1", "rec_2")
PRECIOUS = (
    "compensated.hdf5", "idx.hdf", "status.json", "inspect.json", "temporal_average.npy",
    "statistics.npz", "reference_frame.npy", "w.h5", "w_to_reference.npz", "lock", "record.npz",
    "record.new", "stage1_0123456789ab.json", ".compensated-0123456789ab.tmp.hdf5", "notes.txt",
    "aligned_rec_1.tif", "final_valid_idx.npz", "stage3_0123456789ab.json",
)  # fmt: skip
IN_RECORDING = (
    "compensated.hdf5", "idx.hdf", "w.h5", "status.json", "inspect.json", "temporal_average.npy",
    "statistics.npz", "reference_frame.npy", "w_to_reference.npz", "stage1_0123456789ab.json",
    ".compensated-0123456789ab.tmp.hdf5", "stage3_tif_0123456789ab.json",
)  # fmt: skip
IN_CHECKPOINT = ("lock", "record.npz", "record.new", "compensated.hdf5", "idx.hdf", "w.h5", "x")
IN_RESULTS = (
    "status.json", "final_valid_idx.npz", "final_valid_idx.mat", "final_valid_idx.png",
    "aligned_rec_1.tif", "rec_1_valid_idx.png", "rec_1_valid_idx_aligned.png",
    "stage3_0123456789ab.json", ".aligned_rec_1-0123456789ab.tmp.tif",
)  # fmt: skip
SAVED = "out/rec_1/.checkpoint"
PLACES = (
    "out/rec_1",
    "out/rec_1/.checkpoint",
    "final",
    "out",
    *(f"out/rec_1/{name}" for name in IN_RECORDING),
    *(f"out/rec_1/.checkpoint/{name}" for name in IN_CHECKPOINT),
    *(f"final/{name}" for name in IN_RESULTS),
)
TARGETS = ("precious/notes.txt", "precious/compensated.hdf5", "root/rec_1.tif", "root/rec_2.tif",
           "precious", "root", "precious/new", "root/rec_1.tif/x")  # fmt: skip
TRAPS = st.tuples(
    st.sampled_from(PLACES), st.sampled_from(["link", "hard link"]), st.sampled_from(TARGETS)
)


def _make_tree(folder: Path) -> None:
    (folder / "precious").mkdir(parents=True)
    for number, name in enumerate(PRECIOUS):
        (folder / "precious" / name).write_text(f"precious {number}")
    (folder / "root").mkdir()
    noise = np.random.default_rng(0)
    for name in RECORDINGS:
        frames = noise.integers(0, 4000, (FRAMES, 16, 18)).astype(np.uint16)
        tifffile.imwrite(folder / "root" / f"{name}.tif", frames, photometric="minisblack")


def config_of(folder: Path, **changes: object) -> SessionConfig:
    own = {"output_root": folder / "out", "final_results": folder / "final", "flow_options": FLOW}
    return SessionConfig(
        **{"root": folder / "root", "n_workers": 1, "checkpoint_seconds": 1e-9, **own, **changes}
    )


def run(config: SessionConfig) -> None:
    run_stage1(config)
    run_stage2(config)
    run_stage3(config)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with nothing done, with everything done, and with a first stage that was stopped."""
    base = tmp_path_factory.mktemp("trees")
    found = {name: base / name for name in ("fresh", "interrupted", "finished")}
    for folder in found.values():
        _make_tree(folder)
    run(config_of(found["finished"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correction, "chunk_length", lambda *size: 1)
        chunks = correction.RecordingCorrection.chunks

        def stopped(self: object) -> Iterator[object]:
            yield from itertools.islice(chunks(self), 2)
            raise KeyboardInterrupt

        patch.setattr(correction.RecordingCorrection, "chunks", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_stage1(config_of(found["interrupted"]))
    assert (found["interrupted"] / "out" / "rec_1" / ".checkpoint" / "record.npz").is_file()
    return found


def set_trap(folder: Path, place: str, kind: str, target: str) -> None:
    """Replace what is at a place by a link, and what a folder held stays held by the link."""
    path, to = folder / place, folder / target
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    if kind == "hard link" and to.is_file():
        os.link(to, path)
    else:
        path.symlink_to(to)


def content(folder: Path) -> dict[str, bytes | str]:
    """Everything in a tree: bytes of files, targets of links, folders."""
    found: dict[str, bytes | str] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = f"link to {path.readlink()}"
            else:
                found[key] = path.read_bytes() if path.is_file() else "folder"
    return found


def check_changes(folder: Path, before: dict[str, bytes | str], config: SessionConfig) -> None:
    after = content(folder)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    base = folder.resolve()
    out, final = (
        os.path.relpath((config.root / place).resolve(), base)
        for place in (config.output_root, config.final_results)
    )
    prefix = "" if out == "." else f"{re.escape(out)}/"
    ours = [
        *(
            re.escape(str(part))
            for place in (out, final)
            for part in (Path(place), *Path(place).parents)
        ),
        rf"{prefix}rec_[12](/.*)?",
        rf"{prefix}stage2_[0-9a-f]{{12}}\.json",
        rf"{re.escape(final)}/({'|'.join(map(re.escape, IN_RESULTS))})",
        rf"{re.escape(final)}/(aligned_)?rec_[12](_valid_idx(_aligned)?\.png|\.tif)",
        rf"{re.escape(final)}/stage3_[0-9a-f]{{12}}\.json",
    ]
    pattern = re.compile("|".join(f"(?:{entry})" for entry in ours))
    assert {key for key in changed if not pattern.fullmatch(key)} == set()
    for name in RECORDINGS:
        assert after[f"root/{name}.tif"] == before[f"root/{name}.tif"]
    assert [key for key in after if ".tmp" in key and key not in before] == []


@QUICK
@given(
    state=st.sampled_from(["fresh", "interrupted", "finished"]),
    traps=st.lists(TRAPS, min_size=1, max_size=3),
    resume=st.booleans(),
)
@example(
    "interrupted", [("out/rec_1/.checkpoint/compensated.hdf5", "link", "root/rec_1.tif")], True
)
@example(
    "interrupted", [("out/rec_1/.checkpoint/idx.hdf", "hard link", "precious/notes.txt")], True
)
@example("interrupted", [(f"{SAVED}/lock", "hard link", "root/rec_2.tif")], True)
@example("interrupted", [(f"{SAVED}/record.new", "link", "root/rec_2.tif")], True)
@example("fresh", [(f"{SAVED}/lock", "link", "precious/notes.txt")], True)
@example("fresh", [("out/rec_1/.checkpoint", "link", "precious")], True)
@example("fresh", [("out/rec_1", "link", "precious")], False)
@example("fresh", [("out/rec_1", "link", "root")], False)
@example("finished", [("out/rec_1/compensated.hdf5", "link", "root/rec_1.tif")], False)
@example("finished", [("out/rec_1/w_to_reference.npz", "hard link", "root/rec_1.tif")], False)
def test_links(
    trees: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    state: str,
    traps: list[tuple[str, str, str]],
    resume: bool,
) -> None:
    folder = tmp_path_factory.mktemp("links") / "tree"
    shutil.copytree(trees[state], folder, symlinks=True)
    for trap in traps:
        try:
            set_trap(folder, *trap)
        except OSError:  # an earlier trap is in the way, or closes a circle
            continue
    config = config_of(folder, resume=resume)
    before = content(folder)
    with contextlib.suppress(PyflowregError):
        run(config)
    check_changes(folder, before, config)
    shutil.rmtree(folder)


OUTPUTS = ("out", "../out", ".", "..", "../root", "../precious", "rec_1", "a/out", "../root/../out")
PATTERNS = ("*.tif", "**/*.tif", "*", "../precious/*", "/etc/*", "rec_*.*", "..tif")
IMAGES = ("out/rec_1/reference_frame.npy", "out/rec_2/temporal_average.npy", "precious/lock")


@QUICK
@given(
    output=st.sampled_from(OUTPUTS),
    final=st.sampled_from((*OUTPUTS, "../final", "out/rec_1", "../out/final")),
    pattern=st.sampled_from(PATTERNS),
    center=st.sampled_from([None, "rec_1.tif", "../root/rec_1.tif", "/etc/passwd"]),
    reference=st.sampled_from([0, *IMAGES]),
)
def test_settings(
    trees: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    output: str,
    final: str,
    pattern: str,
    center: str | None,
    reference: int | str,
) -> None:
    folder = tmp_path_factory.mktemp("settings") / "tree"
    shutil.copytree(trees["finished" if output == "../out" else "fresh"], folder, symlinks=True)
    before = content(folder)
    image = str(folder / reference) if isinstance(reference, str) else reference
    try:
        config = config_of(
            folder,
            output_root=Path(output),
            final_results=Path(final),
            pattern=pattern,
            center=center,
            flow_options={**FLOW, "reference_frames": image},
        )
    except PyflowregError:
        assert content(folder) == before
    else:
        with contextlib.suppress(PyflowregError):
            run(config)
        check_changes(folder, before, config)
        if isinstance(reference, str) and reference in before:
            assert content(folder)[reference] == before[reference], "an input was changed"
    shutil.rmtree(folder)


NAMES = ("..tif", "...tif", ".tif", "final.tif", ".checkpoint.tif", "lock.tif", "status.json.tif",
         "compensated.hdf5.tif", "-rf.tif", "~.tif", "$HOME.tif", "a\nb.tif", "%s.tif")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_recordings(trees: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tree"
    shutil.copytree(trees["fresh"], folder)
    (folder / "root" / "rec_1.tif").rename(folder / "root" / name)
    pattern = f".{name[1:]}" if name.startswith(".") else "*.tif"
    config = config_of(folder, pattern=pattern.replace("[", "[[]"))
    before = content(folder)
    with contextlib.suppress(PyflowregError):
        run_stage1(config)
    after = content(folder)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert all(key.startswith("out/") or key == "out" for key in changed), changed


def test_files_that_are_read_are_never_results(trees: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    shutil.copytree(trees["finished"], folder)
    status = folder / "out" / "rec_1" / "status.json"
    status.write_text('{"alpha": 2}')
    average = folder / "out" / "rec_2" / "temporal_average.npy"
    for options in (status, {**FLOW, "reference_frames": average}):
        before = content(folder)
        with pytest.raises(PyflowregError, match="over what is read"):
            run(config_of(folder, flow_options=options))
        assert content(folder) == before
