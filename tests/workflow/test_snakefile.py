"""The workflow's own quality: lint, cheap parsing, foreign packages, consistent versions."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from pyflowreg.core.backend_registry import BACKENDS

REPOSITORY = Path(__file__).resolve().parents[2]


def test_lint_is_clean(finished: Any) -> None:
    result = finished.snakemake("--lint")
    assert result.status == 0, result.text
    assert "good condition" in result.text


def test_lint_of_the_demo_is_clean(fresh: Any) -> None:
    demo = str(REPOSITORY / "rules" / "demo.smk")
    result = fresh.run([sys.executable, "-m", "snakemake", "--snakefile", demo, "--lint"])
    assert result.status == 0, result.text


def test_parsing_imports_nothing_heavy(finished: Any) -> None:
    command = finished.command("-n", "-q")
    result = finished.run([command[0], "-X", "importtime", *command[1:]])
    imported = set(re.findall(r"\|\s+([\w.]+)$", result.text, flags=re.MULTILINE))
    assert "pyflowreg.workflow.plan" in imported
    for name in ("numba", "h5py", "tifffile", "scipy", "skimage", "matplotlib", "imagecodecs"):
        assert name not in imported


def test_foreign_package_of_the_same_name_is_refused(fresh: Any) -> None:
    foreign = fresh.folder / "site" / "pyflowreg"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("")
    result = fresh.run(fresh.command("-n"), PYTHONPATH=str(foreign.parent))
    assert result.status != 0
    assert "another package called pyflowreg" in result.text
    assert "pip install -e" in result.text
    assert "Traceback" not in result.text


def test_snakefile_fits_on_a_screen() -> None:
    assert len((REPOSITORY / "Snakefile").read_text().splitlines()) <= 80


def test_every_rule_has_its_script() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    rules = re.findall(r"^rule (\w+):(.*?)(?=^rule |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    for rule, body in rules:
        if "script:" in body:
            assert f'"../scripts/{rule}.py"' in body
            assert f"<logs>/{rule}" in body
            assert (REPOSITORY / "scripts" / f"{rule}.py").exists()


def test_scripts_decide_nothing() -> None:
    for path in (REPOSITORY / "scripts").glob("*.py"):
        assert not re.search(r"^\s*(if|for|while|try|def) ?\b", path.read_text(), re.MULTILINE)


def test_conda_environment_has_the_versions_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = {
        re.split(r"[<>=]", entry)[0]: entry.replace(" ", "") for entry in project["dependencies"]
    }
    del wanted["snakemake"]  # runs outside the environments of its jobs
    conda = yaml.safe_load((REPOSITORY / "envs" / "cpu.yaml").read_text())["dependencies"]
    found = {entry.split()[0].removesuffix("-base"): entry for entry in conda}
    assert found.pop("python").split()[1] == project["requires-python"]
    assert {
        name: entry.replace(" ", "").replace("-base", "") for name, entry in found.items()
    } == wanted


def test_conda_environments_of_the_backends() -> None:
    """Each is that of the CPU, and the version of one extra, under its name on conda-forge."""
    names = {"cupy-cuda12x": "cupy", "torch": "pytorch", "opencv-python-headless": "opencv"}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    def dependencies(name: str) -> list[str]:
        text = (REPOSITORY / "envs" / f"{name}.yaml").read_text()
        return list(yaml.safe_load(text)["dependencies"])

    for extra in {entry.extra for entry in BACKENDS.values() if entry.extra}:
        wanted, *others = project["optional-dependencies"][extra]
        # Libraries of NVIDIA's that conda-forge's packages ask for by themselves.
        assert all(other.startswith("nvidia-") for other in others)
        package, bound = re.fullmatch(r"([\w-]+)(.*)", wanted).groups()
        lower = bound.partition(",")[0]
        assert dependencies(extra) == [*dependencies("cpu"), f"{names[package]} {lower}"]


def test_profiles_show_all_rules_that_may_use_a_gpu() -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    bodies = re.findall(r"^rule (\w+):(.*?)(?=^rule |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    on_gpu = {rule for rule, body in bodies if "gpu=" in body}
    assert "stage1_compensate" in on_gpu
    for profile in ("slurm", "sge", "pbs"):
        example = (REPOSITORY / "profiles" / profile / "profile.v9+.yaml").read_text()
        shown = re.search(r"# set-resources:\n((?:#  .*\n)+)", example)
        assert shown, profile
        assert set(re.findall(r"^#   (\w+):", shown[1], flags=re.MULTILINE)) == on_gpu, profile


CONDA = """#!/bin/sh
case "$*" in
*info*) echo '{"platform": "x", "conda_version": "24.9.2", "conda_prefix": "'"$PREFIX"'"}' ;;
*version*) echo conda 24.9.2 ;;
*channel_priority*) echo '{"get": {"channel_priority": "strict"}}' ;;
*--prefix*) while [ "$1" != --prefix ]; do shift; done; mkdir -p "$2/conda-meta" ;;
esac
"""


def test_jobs_with_conda_have_a_backend_that_snakemake_itself_lacks(fresh: Any) -> None:
    fresh.configure(flow_backend="flowreg_cuda", backend_params={"device": "cuda:63"})
    prefix = fresh.folder / "conda"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "activate").touch()
    (prefix / "bin" / "conda").write_text(CONDA)
    (prefix / "bin" / "conda").chmod(0o755)
    path = f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = fresh.command("--sdm", "conda", "--until", "inspect_recording")
    result = fresh.run(command, PATH=path, PREFIX=str(prefix))
    assert "Activating conda environment" in result.text, result.text
    assert "is not available" not in result.text
    without = fresh.run(fresh.command("--until", "inspect_recording"))
    assert "flow_backend flowreg_cuda is not available" in without.text
