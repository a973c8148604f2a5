"""The job context and the resource estimates, without Snakemake."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pyflowreg.workflow import resources, scale
from pyflowreg.workflow.termination import never_wait_for_a_lock_in_a_signal

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys, types
from pyflowreg.errors import InputError
from pyflowreg.workflow.job import job_context

class Wildcards(dict):
    def __iter__(self):
        return iter(self.values())

class Inputs(list):
    def get(self, name):
        return {headers!r} if name == "headers" else None

snakemake = types.SimpleNamespace(
    log=[{log!r}], input=Inputs(), threads=3, rule="some_rule", config={config!r},
    wildcards=Wildcards(recording="rec 1"),
    resources={{"mem_mb": 700}}, scriptdir={scripts!r},
)
with job_context(snakemake):
{body}
"""


def run_job(
    folder: Path,
    body: str,
    headers: list[str] | None = None,
    config: dict[str, str] | None = None,
    **environment: str,
) -> tuple[int, str, str]:
    """Run a job body; return its exit status, what the terminal showed, and the log."""
    log = folder / "some_rule.log"
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    script = SCRIPT.format(
        log=str(log),
        scripts=str(REPOSITORY / "scripts"),
        body=indented,
        headers=headers,
        config=config or {},
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, log.read_text()


def test_everything_goes_to_the_log(tmp_path: Path) -> None:
    body = "os.write(1, b'from C\\n')\nos.system('echo from a child')\nsys.stdout.write('python')"
    status, terminal, log = run_job(tmp_path, body)
    assert status == 0
    assert terminal == ""
    for text in ("from C", "from a child", "python", "rec 1", "of 700 MB reserved", "Done."):
        assert text in log


def test_user_errors_are_one_message(tmp_path: Path) -> None:
    status, terminal, log = run_job(tmp_path, "raise InputError('frame 7 is damaged')")
    assert status == 2
    assert "some_rule rec 1: frame 7 is damaged" in terminal
    assert "frame 7 is damaged" in log
    assert "Traceback" not in terminal + log


def test_other_errors_leave_their_traceback_in_the_log(tmp_path: Path) -> None:
    status, terminal, log = run_job(tmp_path, "1 / 0")
    assert status == 1
    assert "ZeroDivisionError" in terminal
    assert "some_rule.log" in terminal
    assert "Traceback" not in terminal
    assert log.count("Traceback") == 1


def test_threads_reach_numba(tmp_path: Path) -> None:
    body = "import numba\nassert numba.config.NUMBA_NUM_THREADS == 3"
    assert run_job(tmp_path, body, NUMBA_NUM_THREADS="1")[0] == 0


def test_termination_removes_temporary_files(tmp_path: Path) -> None:
    body = (
        "import signal\n"
        "from pyflowreg.io.atomic import atomic_path\n"
        f"with atomic_path({str(tmp_path / 'result')!r}) as path:\n"
        "    path.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGTERM)"
    )
    assert run_job(tmp_path, body)[0] == 143
    assert [path.name for path in tmp_path.iterdir()] == ["some_rule.log"]


def header(frames: int = 1000, side: int = 512, channels: int = 1) -> dict[str, Any]:
    return {"shape": [frames, side, side, channels], "itemsize": 2}


def test_a_header_is_read_again_only_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "inspect.json"
    path.write_text(json.dumps(header(frames=1_000)))
    assert resources.read_header(path)["shape"][0] == 1_000
    with monkeypatch.context() as patch:
        patch.delattr(Path, "read_text")
        assert resources.read_header(path) == resources.read_header(str(path))
    path.write_text(json.dumps(header(frames=20_000)))
    assert resources.read_header(path)["shape"][0] == 20_000
    path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        resources.read_header(str(path))
    assert error.value.filename == str(path), "Snakemake looks for it among the inputs"


@pytest.mark.parametrize(("there", "named"), [("ab", "c"), ("abcd", "d"), ("abc", None)])
def test_recordings_that_come_and_go_while_the_workflow_runs(
    tmp_path: Path, there: str, named: str | None
) -> None:
    for name in there:
        (tmp_path / f"{name}.tif").touch()
    headers = [str(tmp_path / "compensated_outputs" / name / "inspect.json") for name in "abc"]
    status, terminal, _ = run_job(tmp_path, "pass", headers, {"root": str(tmp_path)})
    if named is None:
        assert (status, terminal) == (0, "")
        return
    assert status == 2
    assert f"some_rule rec 1: {named}: added or taken away while the workflow ran" in terminal
    assert "Traceback" not in terminal


def test_sigterm_while_snakemake_holds_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does in the main thread, where handlers of signals run, for each job that has ended."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    plain = inspect.unwrap(JobScheduler.exit_gracefully)
    monkeypatch.setattr(JobScheduler, "exit_gracefully", plain)
    never_wait_for_a_lock_in_a_signal()
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._lock = threading.Lock()
    scheduler._open_jobs = threading.Semaphore(0)
    scheduler._user_kill = None
    with scheduler._lock:
        scheduler.exit_gracefully(15, None)
    assert scheduler._open_jobs.acquire(timeout=30)
    assert scheduler._user_kill == "graceful"


def test_one_timer_at_a_time_looks_for_jobs_that_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from snakemake.scheduling.job_scheduler import JobScheduler

    plain = inspect.unwrap(JobScheduler._schedule_reevalutation)
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", plain)
    scale.look_again_once()
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._open_jobs = threading.Semaphore(0)
    for _ in range(3):
        scheduler._schedule_reevalutation(0.02)
    assert scheduler._open_jobs.acquire(timeout=30)
    assert not scheduler._open_jobs.acquire(blocking=False)
    scheduler._schedule_reevalutation(0.02)
    assert scheduler._open_jobs.acquire(timeout=30), "the next one starts when the last has ended"


def test_memory_does_not_grow_with_the_length() -> None:
    long, short = header(frames=100_000), header(frames=1_000)
    assert resources.stage1_mem_mb(long, 4) == resources.stage1_mem_mb(short, 4)
    assert resources.align_mem_mb(long, 64) == resources.align_mem_mb(short, 64)


@pytest.mark.parametrize("larger", [header(side=1024), header(channels=2)])
def test_estimates_grow_with_the_image(larger: dict[str, Any]) -> None:
    assert resources.stage1_mem_mb(larger) > resources.stage1_mem_mb(header())
    assert resources.stage1_runtime(larger) > resources.stage1_runtime(header())
    assert resources.stage1_disk_mb(larger) > resources.stage1_disk_mb(header())
    assert resources.align_mem_mb(larger, 64) > resources.align_mem_mb(header(), 64)
    session, larger_session = (resources.session_job([one] * 3) for one in (header(), larger))
    assert larger_session.mem_mb > session.mem_mb
    assert larger_session.runtime > session.runtime


def test_memory_of_stages_2_and_3_does_not_grow_with_the_number_of_recordings() -> None:
    few, many = (resources.session_job([header()] * count, 2) for count in (3, 300))
    assert many.mem_mb == few.mem_mb < 1000
    assert many.runtime > few.runtime


def test_threads_of_stage_2_need_memory_and_save_time() -> None:
    one, four = (resources.session_job([header()] * 99, threads) for threads in (1, 4))
    assert four.mem_mb > one.mem_mb
    assert four.runtime < one.runtime


def test_a_second_attempt_reserves_more() -> None:
    first = resources.stage1_mem_mb(header(), 4, 1)
    assert resources.stage1_mem_mb(header(), 4, 2) == 2 * first
    assert resources.stage1_runtime(header(), 4, 2) == 2 * resources.stage1_runtime(header(), 4)


def test_fields_of_all_frames_need_disk() -> None:
    assert resources.stage1_disk_mb(header(), save_w=True) > 3 * resources.stage1_disk_mb(header())


PEAK = """
import sys, tracemalloc
import numpy as np
from pyflowreg.io import open_writer
from pyflowreg.motion_correction import OFOptions, compensate_recording

path, channels, precision, threads = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
frames = np.random.default_rng(0).integers(0, 99, (1, 160, 160, channels)).astype(np.uint16)
with open_writer(path, shape=(80, *frames.shape[1:]), dtype=frames.dtype) as writer:
    for _ in range(80):
        writer.write(frames)
options = OFOptions(
    input_file=path, output_path=path + ".out", output_typename="input", reference_frames=[0, 1],
    iterations=2, precision=precision, save_w=True, output_format="HDF5",
)
compensate_recording(options, threads=1)  # compiles
tracemalloc.start()
compensate_recording(options, threads=threads)
sys.stdout.write(str(tracemalloc.get_traced_memory()[1] / 2**20))
"""


@pytest.mark.parametrize(("channels", "precision"), [(1, "single"), (2, "double")])
def test_the_estimate_bounds_what_a_correction_allocates(
    tmp_path: Path, channels: int, precision: str
) -> None:
    arguments = [str(tmp_path / "rec.h5"), str(channels), precision, "3"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True
    )
    size = {"shape": [80, 160, 160, channels], "itemsize": 2}
    expected = resources.stage1_mem_mb(size, 3, precision=precision)
    without_base = expected - resources.BASE_MB * resources.SAFETY
    assert without_base / 3 < float(done.stdout) < without_base
