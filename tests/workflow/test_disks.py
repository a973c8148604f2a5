"""Disks that are full, too small or read-only, and clocks: through the command and the workflow."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyflowreg.io import space
from pyflowreg.session import cli

from .conftest import Workspace
from .test_half_truths import THOROUGH

ROOMY = 16 * 2**20


def can_mount() -> bool:
    """Whether this process may mount file systems, as root usually may, unless in a container."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


MOUNTING = pytest.mark.skipif(not can_mount(), reason="only root may mount file systems")


@dataclass(frozen=True)
class Disk:
    """A small disk in memory."""

    folder: Path

    def resize(self, size: int) -> None:
        """Give it so many bytes, at least those in use."""
        options = f"remount,size={size}"
        subprocess.run(["mount", "-o", options, self.folder], check=True)

    @property
    def used(self) -> int:
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "none", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def on_disk(fresh: Workspace, disk: Disk) -> Workspace:
    """A session whose results go to the small disk."""
    fresh.configure(
        output_root=str(disk.folder / "out"),
        final_results=str(disk.folder / "final"),
        checkpoint_seconds=0.01,
    )
    return fresh


def results(disk: Disk) -> dict[str, bytes]:
    return {
        str(path.relative_to(disk.folder)): path.read_bytes()
        for path in disk.folder.rglob("*")
        if path.is_file()
    }


def clear(disk: Disk) -> None:
    for path in disk.folder.iterdir():
        shutil.rmtree(path)


def fill(path: Path) -> None:
    """Write until there is no more room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def check_told(disk: Disk, text: str) -> None:
    assert re.search(rf"{disk.folder}/\S+ cannot be (written|made): ", text), text
    assert re.search(r"No space left|the disk is full|Check that the disk has space", text), text
    assert "Traceback" not in text


def check_nothing_half(disk: Disk, whole: dict[str, bytes]) -> None:
    seen = {name: content for name, content in results(disk).items() if "/." not in name}
    assert [name for name, content in seen.items() if content != whole[name]] == []


class Command:
    """The command, in this process."""

    def __init__(self, workspace: Workspace, monkeypatch: Any, capsys: Any) -> None:
        monkeypatch.chdir(workspace.folder)
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        status = cli.main(["run", "--config", "settings.yaml", *arguments])
        return status, self._capsys.readouterr().err


@MOUNTING
def test_a_disk_that_another_program_fills(
    on_disk: Workspace, disk: Disk, monkeypatch: Any, capsys: Any
) -> None:
    """There was room when it started. Every size stops another file of another stage."""
    run = Command(on_disk, monkeypatch, capsys)
    assert run()[0] == 0
    whole, used = results(disk), disk.used
    monkeypatch.setattr(space, "free_bytes", lambda folder: 10**18)
    parts = 40 if "PYFLOWREG_ALL_FAULTS" in os.environ else 10
    stopped = 0
    for part in range(1, parts):
        clear(disk)
        disk.resize(used * part // parts)
        status, text = run()
        stopped += 1
        assert status == 2, (part, text)
        check_told(disk, text)
        check_nothing_half(disk, whole)
        disk.resize(ROOMY)
        status, text = run()
        assert status == 0, text
        assert results(disk) == whole
    assert stopped == parts - 1


@MOUNTING
def test_a_disk_that_is_too_small(
    on_disk: Workspace, disk: Disk, monkeypatch: Any, capsys: Any
) -> None:
    run = Command(on_disk, monkeypatch, capsys)
    disk.resize(600_000)
    status, text = run()
    assert status == 2
    assert "Not enough disk space for the whole session" in text
    found = re.search(
        r"Correcting (\w+) needs 0\.\d+ GB of disk space in (\S+), (\S+) GB are free\.", text
    )
    assert found, text
    assert found[2] == str(disk.folder / "out" / found[1])
    assert not list((disk.folder / "out" / found[1]).glob("comp*"))
    disk.resize(ROOMY)
    assert run()[0] == 0


@MOUNTING
def test_a_disk_that_is_full_to_the_last_byte(
    on_disk: Workspace, disk: Disk, monkeypatch: Any, capsys: Any
) -> None:
    """Every stage, one after the other, can do nothing at all, not even take its lock."""
    run = Command(on_disk, monkeypatch, capsys)
    assert run()[0] == 0
    whole = results(disk)
    monkeypatch.setattr(space, "free_bytes", lambda folder: 10**18)
    for stage, made in (("1", "out/*/[!w]*"), ("2", "out/*/w_*"), ("3", "final/*")):
        for path in filter(Path.is_file, disk.folder.glob(made)):
            path.unlink()
        fill(disk.folder / "filler")
        status, text = run("--stage", stage)
        assert status == 2, text
        check_told(disk, text)
        (disk.folder / "filler").unlink()
        check_nothing_half(disk, whole)
        status, text = run("--stage", stage)
        assert status == 0, text
    assert results(disk) == whole


FILLING = """
import pyflowreg.io.space as space

space.free_bytes = lambda folder: 10**18
"""


@MOUNTING
def test_the_workflow_on_a_disk_that_fills(
    on_disk: Workspace, disk: Disk, monkeypatch: Any, capsys: Any
) -> None:
    assert Command(on_disk, monkeypatch, capsys)()[0] == 0
    whole, used = results(disk), disk.used
    clear(disk)
    faults = on_disk.folder / "faults"
    faults.mkdir()
    (faults / "sitecustomize.py").write_text(FILLING)
    paths = os.pathsep.join([str(faults), os.environ.get("PYTHONPATH", "")])
    parts = [0.2, 0.55, 0.75, 0.95] if "PYFLOWREG_ALL_FAULTS" in os.environ else [0.6]
    for part in parts:
        disk.resize(int(used * part))
        stopped = on_disk.run(on_disk.command(), PYTHONPATH=paths)
        assert stopped.status != 0, stopped.text
        check_told(disk, stopped.text)
        check_nothing_half(disk, whole)
        disk.resize(ROOMY)
        result = on_disk.snakemake()
        assert result.status == 0, result.text
        assert results(disk) == whole
        clear(disk)


def test_ulimit(fresh: Workspace, monkeypatch: Any, capsys: Any) -> None:
    """A limit of the size of files, which the system enforces with a signal."""
    command = " ".join(map(str, fresh.cli_command()))
    result = fresh.run(["bash", "-c", f"ulimit -f 40; exec {command}"])
    assert result.status == 2, result.text
    assert re.search(r"makes a file of \S+ GB in \S+recording_01, but files must not", result.text)
    assert "ulimit -f" in result.text
    assert "Traceback" not in result.text
    assert Command(fresh, monkeypatch, capsys)()[0] == 0


@THOROUGH
def test_ulimit_of_the_workflow(fresh: Workspace, monkeypatch: Any, capsys: Any) -> None:
    command = " ".join(map(str, fresh.command()))
    result = fresh.run(["bash", "-c", f"ulimit -f 40; exec {command}"])
    assert result.status != 0, result.text
    assert "files must not become larger than" in result.text
    assert "Traceback" not in result.text
    assert Command(fresh, monkeypatch, capsys)()[0] == 0
    assert "Nothing to be done" in fresh.dry_run().text


@THOROUGH
def test_a_recording_that_vanishes_while_the_workflow_runs(fresh: Workspace) -> None:
    """Before its turn: with one core, the others are corrected first or not at all."""
    fresh.configure(n_workers=1)
    away = fresh.folder / "away"
    with subprocess.Popen(
        fresh.command("--keep-going", "--cores", "1"),
        cwd=fresh.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if "stage1_compensate:" in line and not away.exists():
                (fresh.root / "recording_03.tif").rename(away)
    assert process.returncode != 0, text
    assert "recording_03.tif" in text
    away.rename(fresh.root / "recording_03.tif")
    result = fresh.snakemake()
    assert result.status == 0, result.text


@MOUNTING
def test_recordings_on_a_read_only_disk(
    fresh: Workspace, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    run = Command(fresh, monkeypatch, capsys)
    root = str(fresh.root)
    subprocess.run(["mount", "--bind", root, root], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
        status, text = run()
        assert status == 2
        assert "output_root: " in text
        assert "there is no permission to write in" in text
        fresh.configure(output_root=str(tmp_path / "out"), final_results=str(tmp_path / "final"))
        status, text = run()
        assert status == 0, text
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)
    assert sorted(path.name for path in fresh.root.iterdir() if path.suffix == ".tif") == [
        "recording_01.tif",
        "recording_02.tif",
        "recording_03.tif",
    ]


@MOUNTING
@THOROUGH
def test_results_on_a_disk_that_became_read_only(on_disk: Workspace, disk: Disk) -> None:
    """As file systems do after errors: nothing is lost, and the next run finds nothing to do."""
    assert on_disk.snakemake().status == 0
    whole = results(disk)
    os.utime(on_disk.root / "recording_01.tif")
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    result = on_disk.snakemake()
    assert result.status != 0
    assert "ead-only file system" in result.text or "no permission to write" in result.text
    subprocess.run(["mount", "-o", "remount,rw", str(disk.folder)], check=True)
    assert on_disk.snakemake().status == 0
    now = results(disk)
    assert {Path(name).name for name in whole if now[name] != whole[name]} <= {"status.json"}


def test_a_recording_of_the_future(fresh: Workspace, monkeypatch: Any, capsys: Any) -> None:
    """Snakemake would fail the job after its work; the command does not mind."""
    path = fresh.root / "recording_02.tif"
    os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    result = fresh.snakemake()
    assert result.status != 0
    assert f"{path.relative_to(fresh.folder)} is dated in the future" in result.text
    assert "pyflowreg-session takes it as it is" in result.text
    assert "Traceback" not in result.text
    assert not (fresh.root / "compensated_outputs").exists()
    assert Command(fresh, monkeypatch, capsys)()[0] == 0
    os.utime(path)


def test_results_of_the_future(finished: Workspace) -> None:
    """A clock was wrong while all was made: nothing is made again, and changes are still seen."""
    results = sorted(
        (path for path in finished.root.glob("*_*/**/*") if path.is_file()),
        key=lambda path: path.stat().st_mtime_ns,
    )
    for number, path in enumerate(results):
        when = time.time() + 1e6 + number
        os.utime(path, (when, when))
    result = finished.snakemake()
    assert result.status == 0, result.text
    assert "were dated in the future" in result.text
    assert "Nothing to be done" in result.text
    shutil.copyfile(finished.root / "recording_01.tif", finished.root / "recording_03.tif")
    assert finished.dry_run().jobs["stage1_compensate"] == 1
