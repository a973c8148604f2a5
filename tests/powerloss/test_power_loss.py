"""A session whose machine loses power at any instant: it goes on, and its files are the same."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from pyflowreg.motion_correction import correction
from pyflowreg.session import SessionConfig
from pyflowreg.session.stage1_compensate import run_stage1
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.stage3_valid_mask import run_stage3

from ..unit.scenes import save_session
from .disk import after_power_loss, published

HERE = Path(__file__).parent
FAILURES = int(os.environ.get("PYFLOWREG_POWER_FAILURES", "16"))
"""Instants at which the power goes."""

FLOW = {"quality_setting": "fast", "iterations": 2, "save_w": True, "buffer_size": 5}


def _missing() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "this machine has no /dev/fuse that may be used"
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not installed (Debian: fuse3)"
    if find_spec("mfusepy") is None:
        return "the Python package mfusepy is not installed"
    return ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing())


class Machine:
    """A session whose results are on a disk of which every change is recorded."""

    def __init__(self, folder: Path) -> None:
        self.disk, self._below = folder / "disk", folder / "below"
        self._journal = folder / "journal.json"
        recordings = ["rec_1", "rec_2"]
        save_session(folder / "data", recordings, [(0, 0), (2, -1)], frames=9, size=(24, 32))
        self.config = SessionConfig(
            root=folder / "data",
            output_root=self.disk / "compensated",
            final_results=self.disk / "final",
            flow_options=FLOW,
            n_workers=1,
            checkpoint_seconds=1e-9,
        )

    def run(self) -> list[str]:
        """Do all stages in another process; return what it logged."""
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            status = 1
            try:
                heard: list[str] = []
                handler = logging.Handler()
                handler.emit = lambda record: heard.append(record.getMessage())
                logging.getLogger("pyflowreg").addHandler(handler)
                logging.getLogger("pyflowreg").setLevel(logging.INFO)
                for stage in (run_stage1, run_stage2, run_stage3):
                    stage(self.config)
                with os.fdopen(writing, "w") as answer:
                    json.dump(heard, answer)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        assert os.waitpid(process, 0)[1] == 0
        return json.loads(text)

    def recorded(self) -> list[dict]:
        """Run on what the disk holds; return everything that happened on it."""
        self.disk.rename(self._below)
        self.disk.mkdir()
        program = [sys.executable, HERE / "recorder.py", self._below, self.disk, self._journal]
        with subprocess.Popen(program) as server:
            while not os.path.ismount(self.disk):
                assert server.poll() is None
                time.sleep(0.01)
            try:
                self.run()
            finally:
                subprocess.run(["fusermount3", "-u", self.disk], check=True)
        self.disk.rmdir()
        self._below.rename(self.disk)
        return json.loads(self._journal.read_text())

    def clear(self) -> None:
        """Empty the disk."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self.disk.mkdir()

    def files(self) -> dict[str, bytes]:
        """Content of every file on the disk, hidden ones as well, by name."""
        return {
            f"/{path.relative_to(self.disk)}": path.read_bytes()
            for path in self.disk.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(correction, "chunk_length", lambda *size: 2)
    machine = Machine(tmp_path)
    machine.clear()
    return machine


def instants(events: list[dict], chance: random.Random) -> list[int]:
    """Choose how many events happened before the power went."""
    tender = [k for k, event in enumerate(events) if event["kind"] in ("rename", "link", "unlink")]
    # More often where files get their names, which is when things can go wrong.
    near = [chance.choice(tender) + chance.randint(0, 3) for _ in range(FAILURES // 2)]
    anywhere = [chance.randrange(len(events)) for _ in range(FAILURES - len(near))]
    return [min(instant, len(events)) for instant in near + anywhere]


def is_under_way(events: list[dict], recording: str) -> bool:
    """Whether a checkpoint was saved, and the recording was not yet said to be done."""
    folder = f"/compensated/{recording}"
    saved = False
    for event in events:
        record = f"{folder}/.checkpoint"
        saved |= event["kind"] == "sync folder" and event["path"] == record
        if event.get("path") in (f"{folder}/status.json", f"{record}/record.npz"):
            saved &= event["kind"] == "rename" and "status" not in event["path"]
    return saved


def test_what_the_power_failed_in_is_finished_with_the_same_bytes(machine):
    events = machine.recorded()
    whole = machine.files()
    assert not [name for name in whole if "/." in name]
    complete = published(events)
    assert whole.keys() <= complete.keys(), "files that were not given their names when complete"
    wrong = []
    for number, instant in enumerate(instants(events, random.Random(7))):
        seen = f"{instant} of {len(events)}, failure {number}"
        machine.clear()
        after_power_loss(events[:instant], machine.disk, random.Random(number))
        wrong += [
            f"{seen}: {name} is half a truth"
            for name, content in machine.files().items()
            if "/." not in name and content not in complete[name]
        ]
        said = machine.run()
        wrong += [f"{seen}: {line}" for line in said if "not used" in line]
        under_way = sum(is_under_way(events[:instant], name) for name in ("rec_1", "rec_2"))
        if under_way > sum("Going on" in line for line in said):
            wrong.append(f"{seen}: what was saved is lost")
        found = machine.files()
        wrong += [
            f"{seen}: {name} differs, or should not be there"
            for name in sorted({*found, *whole})
            if found.get(name) != whole.get(name)
        ]
    assert not wrong, "\n".join(wrong)


def test_what_is_finished_stays_when_the_power_fails_afterwards(machine):
    events = machine.recorded()
    whole = machine.files()
    for number in range(FAILURES // 2):
        machine.clear()
        after_power_loss(events, machine.disk, random.Random(number))
        found = machine.files()
        found = {name: found[name] for name in found if not name.endswith(".lock")}
        assert found == whole, sorted(set(whole) - set(found))
