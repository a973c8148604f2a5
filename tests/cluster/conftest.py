"""Real schedulers, started for the tests that ask for them and stopped afterwards."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyflowreg.simulation import SimulationConfig, simulate_session

from .servers.grid_engine import ENVIRONMENT, GridEngine
from .servers.processes import CannotStartError, wait_until
from .servers.slurm import Slurm

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SWITCH = "PYFLOWREG_CLUSTER_TESTS"
PLUGINS = ("snakemake_executor_plugin_cluster_generic", "snakemake_executor_plugin_slurm")
SETTINGS: dict[str, Any] = {
    "root": "session",
    "center": "recording_02.tif",
    "n_workers": 2,
    "flow_options": {"quality_setting": "fast", "iterations": 10, "reference_frames": [0, 1, 2]},
    "iterations_between": 20,
}
TINY = SimulationConfig(n_recordings=4, n_frames=12, height=48, width=48)
# Quicker than the profiles, which are made for clusters that others use as well.
QUICK = {
    "slurm": ["--slurm-init-seconds-before-status-checks", "2"],
    "sge": ["--seconds-between-status-checks", "2", "--max-jobs-per-timespan", "100/1s"],
    "pbs": ["--seconds-between-status-checks", "2", "--max-jobs-per-timespan", "100/1s"],
}
HURRIED = {"PYFLOWREG_QUEUE_SECONDS": "2", "PYFLOWREG_GRACE_SECONDS": "5"}


@dataclass
class Cluster:
    """One scheduler, in the words the tests use."""

    name: str
    server: Any = None
    environment: dict[str, str] = field(default_factory=dict)
    path: Path | None = None

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.variables(), capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    def variables(self, **more: str) -> dict[str, str]:
        programs = [str(self.path)] if self.path else []
        programs += [str(Path(sys.executable).parent), os.environ["PATH"]]
        clean = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST")}
        return {**clean, **HURRIED, **self.environment, "PATH": os.pathsep.join(programs), **more}

    def queue(self) -> list[str]:
        """Return the identifiers of jobs that wait or run."""
        if self.name == "slurm":
            return self.run("squeue", "-h", "-r", "-o", "%i").split()
        if self.name == "pbs":
            return self.run("qselect").split()
        rows = self.run("qstat", "-u", "*").splitlines()[2:]
        return [row.split()[0] for row in rows]

    def cancel(self, job: str) -> None:
        self.run("scancel" if self.name == "slurm" else "qdel", job)

    def record(self, job: str) -> dict[str, float]:
        """Return cores, memory (MB) and time (min) that a finished job had, from accounting."""
        return getattr(self, f"_record_{self.name}")(job)

    def raw_record(self, job: str) -> str:
        """Return what accounting has about a job, as it stands there."""
        if self.name == "sge":
            return str(self.server.accounting(job))
        if self.name == "slurm":
            return self.run("scontrol", "show", "job", job)  # the record has no GPUs
        book = Path(self.environment["PBS_SIMULATOR"]) / "accounting.jsonl"
        return "".join(
            line
            for line in book.read_text().splitlines()
            if f'"job": "{job.split(".")[0]}"' in line
        )

    def _slurm_entry(self, job: str) -> dict[str, str]:
        parent, _, task = job.partition("_")
        for entry in self.server.accounting():
            same = entry.get("ArrayJobId") == parent and entry.get("ArrayTaskId") == task
            if same if task else entry["JobId"] == job:
                return dict(entry)
        return {}

    def _record_slurm(self, job: str) -> dict[str, float]:
        entry = self._slurm_entry(job)
        found = dict(word.split("=") for word in entry["Tres"].split(","))
        return {
            "cores": float(found["cpu"]),
            "memory": float(found["mem"].rstrip("M")),
            "time": float(entry["TimeLimit"]),
        }

    def _record_sge(self, job: str) -> dict[str, float]:
        entry = self.server.accounting(job)
        if not entry:
            return {}
        limits = dict(
            word.split("=") for word in entry["category"].split("-l ")[1].split()[0].split(",")
        )
        slots = float(entry["slots"])
        memory = float(limits["mem_free"].rstrip("M")) * slots
        return {"cores": slots, "memory": memory, "time": float(limits["h_rt"]) / 60}

    def _record_pbs(self, job: str) -> dict[str, float]:
        book = Path(self.environment["PBS_SIMULATOR"]) / "accounting.jsonl"
        for line in book.read_text().splitlines():
            entry = json.loads(line)
            if entry["what"] == "submitted" and entry["job"] == job.split(".")[0]:
                chunk = dict(re.findall(r"(\w+)=(\w+)", entry["resources"]["select"]))
                hours, minutes, _ = entry["resources"]["walltime"].split(":")
                memory = float(chunk["mem"].removesuffix("mb"))
                time_limit = float(hours) * 60 + float(minutes)
                return {"cores": float(chunk["ncpus"]), "memory": memory, "time": time_limit}
        return {}


@dataclass
class Session:
    """A folder with recordings and settings, and the scheduler that works on it."""

    folder: Path
    cluster: Cluster

    @property
    def results(self) -> Path:
        return self.folder / "session"

    def faults(self, **what: dict[str, Any]) -> None:
        (self.folder / "faults.json").write_text(json.dumps(what))

    def command(self, *more: str, profile: str | None = None) -> list[str]:
        chosen = profile or str(REPOSITORY / "profiles" / self.cluster.name)
        start = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        return [*start, "--profile", chosen, *QUICK[self.cluster.name], *more]

    def start(self, *more: str) -> Run:
        command = self.command("--configfile", "settings.yaml", *more)
        return Run(command, self.folder, self.variables())

    def variables(self) -> dict[str, str]:
        variables = self.cluster.variables()
        if (self.folder / "faults.json").exists():
            variables["PYFLOWREG_TEST_FAULTS"] = str(self.folder / "faults.json")
            above = variables.get("PYTHONPATH", "")
            variables["PYTHONPATH"] = os.pathsep.join([str(HERE / "faults"), above]).strip(":")
        return variables

    def asleep(self, recording: str) -> bool:
        return (self.folder / f"{recording}.asleep").exists()

    def log(self, rule: str, recording: str = "") -> str:
        name = f"{rule}/{recording}.log" if recording else f"{rule}.log"
        return (self.folder / "logs" / name).read_text()


class Run:
    """A command in the background, as a shell would run it in the foreground."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - open while the command runs
            "w+", dir=folder, prefix="terminal-", suffix=".txt", delete=False
        )
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )

    @property
    def text(self) -> str:
        return Path(self._file.name).read_text()

    def wait(self, patience: float = 300) -> int:
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"not finished after {patience} s:\n{self.text}") from None

    def submitted(self) -> list[str]:
        """Return the identifiers of jobs, as Snakemake told them."""
        found = re.findall(r"external jobid '([^']+)'|SLURM jobid (\d+)", self.text)
        ids = [first or second for first, second in found]
        for array, last in re.findall(r"as array (\d+): \d+_1 to \d+_(\d+)", self.text):
            ids += [f"{array}_{task}" for task in range(1, int(last) + 1)]
        return ids


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where nobody asked for schedulers."""
    if os.environ.get(SWITCH):
        return
    for item in items:
        if HERE in Path(str(item.path)).parents:
            item.add_marker(pytest.mark.skip(reason="starts schedulers: make test-cluster"))


def cannot(reason: str) -> None:
    if os.environ.get(SWITCH) == "all":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", params=["slurm", "sge", "pbs"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    missing = [name for name in PLUGINS if importlib.util.find_spec(name) is None]
    if missing:
        cannot(f"{missing[0]} is not installed: make install-cluster")
    folder = Path(tempfile.mkdtemp(prefix=f"pyflowreg-{request.param}-"))
    folder.chmod(0o755)
    try:
        if request.param == "pbs":
            yield simulated_pbs(folder)
            return
        server = Slurm(folder) if request.param == "slurm" else GridEngine(folder)
        try:
            server.start()
            variables = ENVIRONMENT if request.param == "sge" else {}
            yield Cluster(request.param, server, dict(variables))
        except CannotStartError as error:
            cannot(str(error))
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def simulated_pbs(folder: Path) -> Cluster:
    programs = folder / "bin"
    programs.mkdir()
    for name in ("qsub", "qstat", "qselect", "qdel"):
        (programs / name).symlink_to(HERE / "servers" / "pbs_simulator.py")
    return Cluster("pbs", None, {"PBS_SIMULATOR": str(folder / "state")}, programs)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    simulate_session(TINY, folder)
    shutil.rmtree(folder / "truth", ignore_errors=True)
    return folder


@pytest.fixture
def session(tmp_path: Path, recordings: Path, cluster: Cluster) -> Iterator[Session]:
    shutil.copytree(recordings, tmp_path / "session")
    (tmp_path / "session" / "recording_04.tif").unlink()
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    yield Session(tmp_path, cluster)
    for job in cluster.queue():
        cluster.cancel(job)
    wait_until(lambda: not cluster.queue(), 30, 0.5)
