"""Which GPU a job gets on a machine with several."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from pyflowreg.session import SessionConfig
from pyflowreg.workflow import gpus
from pyflowreg.workflow.plan import Plan

CLAIM = """
import os, sys
from pathlib import Path
from pyflowreg.workflow import gpus
gpus.LOCKS = Path(sys.argv[1])
print(gpus.claim_gpu(), os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("0,1", ["0", "1"]),
        ("3", ["3"]),
        ("", []),
        ("-1", []),
        ("GPU-a, GPU-b", ["GPU-a", "GPU-b"]),
        ("2,-1,3", ["2"]),
    ],
)
def test_what_the_scheduler_leaves(monkeypatch, value, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus.visible_gpus() == found


def test_what_the_machine_has(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    assert gpus.visible_gpus() == []
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus.visible_gpus() == ["0", "1"]  # as CUDA counts, in a container


def test_every_job_has_its_own(tmp_path):
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,7"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    jobs, said = [], []
    for number in range(3):
        environment["TMPDIR"] = str(tmp_path / str(number))  # as schedulers do
        Path(environment["TMPDIR"]).mkdir()
        jobs.append(subprocess.Popen(command, env=environment, **pipes))
        said.append(jobs[-1].stdout.readline().split())
    assert said == [["4", "4"], ["7", "7"], ["None", "4,7"]]
    for job in jobs:
        job.communicate()
    again = subprocess.run(command, env=environment, input="", text=True,
                           stdout=subprocess.PIPE, check=True)  # fmt: skip
    assert again.stdout.split()[0] == "4"


def test_locks_lie_where_all_jobs_see_them(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(gpus.tempfile, "tempdir", None)
    name = f"GPU-{uuid.uuid4()}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{name},{name}-2")
    assert gpus.claim_gpu() == name
    os.close(gpus._held.pop())
    assert list(tmp_path.iterdir()) == []
    Path(f"/tmp/pyflowreg-{os.getuid()}-gpu-{name}.lock").unlink()


def test_a_link_in_the_folder_of_all_users_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "LOCKS", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (tmp_path / "precious").write_text("data")
    (tmp_path / f"pyflowreg-{os.getuid()}-gpu-0.lock").symlink_to(tmp_path / "precious")
    assert gpus.claim_gpu() == "1"
    os.close(gpus._held.pop())
    assert (tmp_path / "precious").read_text() == "data"


def test_one_gpu_is_no_choice(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert gpus.claim_gpu() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize(
    ("visible", "settings", "here", "threads"),
    [
        ("0,1,2,3", {"flow_backend": "flowreg_cuda"}, 4, 2),
        ("0", {"flow_backend": "flowreg_cuda"}, 1, 8),
        ("", {"flow_backend": "flowreg_torch"}, 1, 8),
        ("0,1", {"flow_backend": "flowreg_cuda", "n_workers": 3}, 2, 3),
        ("0,1", {}, 0, 8),
        ("0,1", {"flow_backend": "flowreg_cuda", "backend_params": {"device": "cuda:1"}}, 1, 8),
        ("0,1", {"flow_backend": "flowreg_torch", "backend_params": {"device": "cpu"}}, 0, 8),
    ],
)
def test_cores_are_shared_among_gpus(monkeypatch, visible, settings, here, threads):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    plan = Plan(SessionConfig(root="session", **settings), (), None)
    assert plan.gpus_here == here
    assert plan.threads(8) == threads
