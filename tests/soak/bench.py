"""The session that is worked on, its settings, and what its results have to be."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pyflowreg.simulation import SimulationConfig, simulate_session

from .disk import BALLAST, Disk
from .processes import Order, Run

SIMULATED = SimulationConfig(n_recordings=3, n_frames=40, height=64, width=64)
FLOW = {
    "quality_setting": "quality",
    "reference_frames": [0, 1, 2, 3],
    "buffer_size": 6,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it was": {},
    "alpha": {"flow_options": {"alpha": 3}},
    "sigma_smooth": {"sigma_smooth": 3.0},
    "align_output_format": {"align_output_format": "HDF5"},
    "save_w": {"flow_options": {"save_w": True}},
    "center": {"center": "recording_01.tif"},
}
"""Settings that change results."""

SAME_BUT_FOR_FORMAT = {"as it was": "align_output_format", "align_output_format": "as it was"}
NOT_COMPARED = {"made_of", "fingerprint", "files"}
"""Entries of JSON files that tell times and fingerprints of recordings, which are touched."""

LOCK = re.compile(r"(^|/)\.?[\w.-]*lock$")
PATIENCE = 120.0


def hashed(path: Path) -> str:
    """Digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Bench:
    """A folder with a session, whose results are on a disk of their own.

    Parameters
    ----------
    folder : Path
        Where everything happens.
    disk : Disk
        Gets the results.
    iterations : int
        Of the flow: with many, most of a run is stage 1.
    """

    folder: Path
    disk: Disk
    iterations: int
    runs: list[Run] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    wanted: dict[str, dict[str, bytes]] = field(default_factory=dict)
    started: int = 0
    _inputs: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "session"

    @property
    def output_root(self) -> Path:
        return self.disk.folder / "outputs"

    @property
    def final_results(self) -> Path:
        return self.disk.folder / "final"

    @property
    def recordings(self) -> list[Path]:
        return sorted(self.root.glob("*.tif"))

    def make(self) -> None:
        """Simulate the recordings and keep copies."""
        simulate_session(SIMULATED, self.root)
        shutil.rmtree(self.root / "truth", ignore_errors=True)
        kept = self.folder / "originals"
        kept.mkdir()
        for path in self.recordings:
            shutil.copy2(path, kept / path.name)
            self._inputs[path.name] = (hashed(path), path.stat().st_size)

    def configure(self, variant: str, **more: Any) -> None:
        """Write the settings of a variant."""
        settings = {
            "root": "session",
            "pattern": "*.tif",
            "center": "recording_02.tif",
            "output_root": str(self.output_root),
            "final_results": str(self.final_results),
            "checkpoint_seconds": 0.05,
            "n_workers": 2,
            "iterations_between": 20,
            **more,
            **VARIANTS[variant],
        }
        chosen = VARIANTS[variant].get("flow_options", {})
        settings["flow_options"] = {**FLOW, "iterations": self.iterations, **chosen}
        new = self.folder / ".settings.yaml"
        new.write_text(yaml.safe_dump(settings), encoding="utf-8")
        new.replace(self.folder / "settings.yaml")

    def start(self, order: Order) -> Run:
        """Start a run, whose processes are known until the cycle ends."""
        self.started += 1
        run = Run(order, self.folder, self.folder / f"run_{self.started}.txt")
        self.runs.append(run)
        return run

    def undisturbed(self, order: Order) -> Run:
        """Run to the end."""
        run = self.start(order)
        begun = time.monotonic()
        if not run.wait(PATIENCE):
            run.end()
        self.seconds.setdefault(order.door, time.monotonic() - begun)
        return run

    def forget(self) -> None:
        """Remove all results, and what Snakemake knows."""
        for folder in (self.output_root, self.final_results, self.folder / ".snakemake"):
            shutil.rmtree(folder, ignore_errors=True)

    def learn(self, variant: str, door: str) -> None:
        """Run a variant as it should be, and remember its results."""
        self.forget()
        self.configure(variant)
        run = self.undisturbed(Order(door))
        if run.process.returncode:
            raise RuntimeError(f"The session cannot be run at all:\n{run.text}")
        found = self.contents()
        if self.wanted.setdefault(variant, found) != found:
            raise RuntimeError(f"The command and Snakemake differ with {variant}.")

    def files(self) -> list[Path]:
        """Every file of the results, whoever left it there."""
        found = [*self.output_root.rglob("*"), *self.final_results.rglob("*")]
        return sorted(path for path in found if path.is_file())

    def contents(self) -> dict[str, bytes]:
        """Content of every result; of JSON files without times."""
        result = {}
        for path in self.files():
            name = str(path.relative_to(self.disk.folder))
            content = path.read_bytes()
            if path.suffix == ".json":
                with contextlib.suppress(ValueError):
                    content = json.dumps(_without_times(json.loads(content))).encode()
            result[name] = content
        return result

    def exchange(self, place: Path, other: Path, age: float | None) -> None:
        """Let another recording stand in the place of one."""
        new = self.folder / "new.tif"
        shutil.copy(self.folder / "originals" / other.name, new)
        if age is not None:
            found = new.stat()
            os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns - int(age * 1e9)))
        new.replace(place)

    def put_right(self) -> None:
        """Undo what was done to disk and recordings."""
        self.disk.free()
        for name in self._inputs:
            path = self.root / name
            if not path.exists() or hashed(path) != self._inputs[name][0]:
                new = self.folder / "new.tif"
                shutil.copy2(self.folder / "originals" / name, new)
                new.replace(path)

    def wrong_files(self, variant: str, only: str = "") -> list[str]:
        """What is not as it has to be, in words.

        Parameters
        ----------
        variant : str
            The settings.
        only : str
            Beginning of the names of results that count.
        """
        wanted, found = self.wanted[variant], self.contents()
        other = self.wanted.get(SAME_BUT_FOR_FORMAT.get(variant, ""), {})
        problems = [f"{name} is missing" for name in wanted if name not in found]
        problems += [f"{k} differs" for k in wanted if k in found and found[k] != wanted[k]]
        for name in found.keys() - wanted.keys():
            if LOCK.search(name) or name.startswith(BALLAST):
                continue
            if found[name] != other.get(name):
                problems.append(f"{name} should not be there")
        return sorted(problem for problem in problems if problem.startswith(only))

    def wrong_recordings(self) -> list[str]:
        """Recordings that are not what they were."""
        names = {path.name for path in self.root.iterdir()}
        problems = [
            f"{name} should not be among the recordings" for name in names - {*self._inputs}
        ]
        for name, (digest, _) in self._inputs.items():
            if name not in names or hashed(self.root / name) != digest:
                problems.append(f"the recording {name} was changed")
        return problems


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(v) for key, v in value.items() if key not in NOT_COMPARED}
    return value
