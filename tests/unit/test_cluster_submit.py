"""`pyflowreg-session submit`: scripts, and what is told."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pyflowreg.cluster import arrays
from pyflowreg.cluster.commands import Answer
from pyflowreg.session import cli

SERVERS = Path(__file__).parents[1] / "cluster" / "servers"


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, frames in (("a", 4), ("b", 40), ("c", 4)):
        movie = np.zeros((frames, 64, 64), np.uint16)
        tifffile.imwrite(tmp_path / f"{name}.tif", movie, photometric="minisblack")
    path = tmp_path / "session.yaml"
    path.write_text(f"root: {tmp_path}\n")
    return path


def submit(session, scheduler, *more):
    return cli.main(["submit", "--config", str(session), "--scheduler", scheduler, *more])


@pytest.mark.parametrize(
    ("scheduler", "array"),
    [("slurm", "#SBATCH --array=1-3"), ("sge", "#$ -t 1-3"), ("pbs", "#PBS -J 1-3")],
)
def test_scripts(session, capsys, scheduler, array):
    assert submit(session, scheduler, "--dry-run", "--of-params", "alpha=3") == 0
    folder = session.parent / "cluster_jobs"
    first, second = ((folder / name).read_text() for name in ("stage1.sh", "stages2and3.sh"))
    assert array in first.splitlines()
    assert first.rstrip().endswith("--of-params alpha=3 --stage 1 --array")
    assert "--stage 2\n" in second
    assert "--stage 3\n" in second
    assert array not in second
    for text in (first, second):
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "would run: " in capsys.readouterr().out


def test_nothing_is_submitted_in_a_dry_run(session, monkeypatch):
    monkeypatch.setattr(arrays, "ask", lambda *words, **more: pytest.fail("asked"))
    assert submit(session, "slurm", "--dry-run") == 0


def test_the_second_job_waits_for_the_first(session, monkeypatch, capsys):
    asked = []

    def answer(words, **more):
        asked.append(words)
        return Answer(0, f"{40 + len(asked)}\n", "")

    monkeypatch.setattr(arrays, "ask", answer)
    assert submit(session, "slurm") == 0
    assert [words[0] for words in asked] == ["sbatch", "sbatch"]
    assert "--dependency=afterok:41" in asked[1]
    assert "job 42, when job 41 has ended" in capsys.readouterr().out


def test_a_refusal_is_quoted(session, monkeypatch, capsys):
    refusal = Answer(1, "", "sbatch: error: invalid partition specified: nowhere")
    monkeypatch.setattr(arrays, "ask", lambda *words, **more: refusal)
    assert submit(session, "slurm", "--site", "partition=nowhere") == 2
    assert "invalid partition specified: nowhere" in capsys.readouterr().err


def test_unknown_keys_of_the_site(session, capsys):
    assert submit(session, "pbs", "--site", "partition=long", "--dry-run") == 2
    message = capsys.readouterr().err
    assert "'partition=long'" in message
    assert "queue, account, project" in message


def test_site_threads_and_limits(session):
    more = ["--site", "partition=long", "account=lab", "--threads", "3", "--at-once", "2"]
    assert submit(session, "slurm", "--dry-run", *more, "--folder", "here") == 0
    text = (session.parent / "here" / "stage1.sh").read_text()
    for line in ("--partition=long", "--account=lab", "--cpus-per-task=3", "--array=1-3%2"):
        assert f"#SBATCH {line}\n" in text


def test_pbs_has_no_array_of_one(session):
    for name in ("b", "c"):
        (session.parent / f"{name}.tif").unlink()
    assert submit(session, "pbs", "--dry-run") == 0
    text = (session.parent / "cluster_jobs" / "stage1.sh").read_text()
    assert "-J" not in text
    assert "export PBS_ARRAY_INDEX=1\n" in text
    assert "stage1.1.log" in text


def test_the_scripts_are_taken_by_the_stand_in_for_pbs(session, tmp_path):
    assert submit(session, "pbs", "--dry-run") == 0
    code = (
        f"import sys; sys.path.insert(0, {str(SERVERS)!r})\n"
        "from pathlib import Path; from pbs_grammar import parse\n"
        "job = parse(sys.argv[2:], Path(sys.argv[1]).read_text(), 'name')\n"
        "assert (len(job.array), job.cpus, job.umask) == (3, 8, 0o022), job\n"
    )
    script = str(tmp_path / "cluster_jobs" / "stage1.sh")
    subprocess.run([sys.executable, "-c", code, script], check=True, env=dict(os.environ))
